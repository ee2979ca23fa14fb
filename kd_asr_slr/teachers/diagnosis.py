"""What the teachers agree on, in numbers that show a collapsing target before training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from kd_asr_slr.outputs import TeacherSignal
from kd_asr_slr.teachers.batches import batch_to
from kd_asr_slr.teachers.padding import padding_mask
from kd_asr_slr.teachers.pool import TeacherPool
from kd_asr_slr.teachers.transcripts import transcript_losses


@torch.no_grad()
def diagnose(pool: TeacherPool, batches: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Listen to every teacher on every utterance of a few batches, whoever may speak for it.

    Args:
        pool: the live teachers; the generalist counts as one of them.
        batches: a few collated batches, e.g. of the dev set.

    Returns:
        Figures by name.

        - teacher_agreement: share of valid frames on which two teachers have the same best token, mean over pairs (1
          for a single teacher).
        - uniform_mean_mass: mean over valid frames of the probability mass of the *unnormalised* uniform log-prob mean;
          1 where all teachers are the same, the smaller the more they disagree.
        - blank_ratio: share of valid frames whose best token is the blank in the *combined* target. Near 1 the target
          has collapsed.
        - blank_probability: mean blank probability of the combined target.
        - frames: valid frames looked at.
        - utterances: utterances with a teacher.

    Source: the diagnostics were found telling on averaged CTC teachers; a uniform mean of speaker teachers that do
        not know the speaker has a blank ratio near 1 and little mass.
    """
    totals = dict.fromkeys(
        ("teacher_agreement", "uniform_mean_mass", "blank_ratio", "blank_probability", "frames", "utterances"), 0.0
    )
    heard = 0
    for batch in batches:
        batch = batch_to(batch, pool.device)
        signal = pool.signal(batch)
        heard += int(signal.lengths.sum())
        _add_agreement(totals, pool, batch, signal.lengths)
        _add_combined(totals, signal, pool.blank_id)
    for name, frames in (
        ("teacher_agreement", heard),
        ("uniform_mean_mass", heard),
        ("blank_ratio", totals["frames"]),
        ("blank_probability", totals["frames"]),
    ):
        totals[name] /= max(frames, 1)
    return totals


def transcript_loss(signal: TeacherSignal, labels: torch.Tensor, blank_id: int) -> tuple[float, int]:
    """How badly a signal explains the transcripts.

    Args:
        signal: of a batch.
        labels: [B, U], padded with -100.
        blank_id: index of the blank.

    Returns:
        The CTC loss in nats, summed over the utterances that somebody speaks for and that are long enough for their
        labels, and the number of these labels.
    """
    labels = labels.to(signal.log_probs.device)
    losses, counts = transcript_losses(signal.log_probs.float(), signal.lengths, labels, blank_id)
    scored = torch.isfinite(losses) & (counts > 0) & (signal.weight > 0)
    return float(losses[scored].double().sum()), int(counts[scored].sum())


def _add_agreement(totals: dict[str, float], pool: TeacherPool, batch: dict[str, Any], lengths: torch.Tensor) -> None:
    choices: list[torch.Tensor] = []
    total = torch.zeros(())
    for teacher in pool.everyone:
        log_probs = torch.log_softmax(teacher(batch).logits.float(), dim=-1)  # [B, T, V]
        choices.append(log_probs.argmax(-1))
        total = log_probs if len(choices) == 1 else total.add_(log_probs)
    mean = total.div_(len(choices))
    valid = ~padding_mask(lengths, mean.shape[1])  # [B, T]
    totals["uniform_mean_mass"] += float(mean.logsumexp(-1).exp()[valid].sum())
    pairs = [(one, other) for k, one in enumerate(choices) for other in choices[k + 1 :]]
    if pairs:
        agreeing = sum(float((one == other)[valid].sum()) for one, other in pairs) / len(pairs)
    else:
        agreeing = float(valid.sum())
    totals["teacher_agreement"] += agreeing


def _add_combined(totals: dict[str, float], signal: TeacherSignal, blank_id: int) -> None:
    spoken = signal.lengths * (signal.weight > 0)
    valid = ~padding_mask(spoken, signal.log_probs.shape[1])
    totals["blank_ratio"] += float((signal.log_probs.argmax(-1) == blank_id)[valid].sum())
    totals["blank_probability"] += float(signal.log_probs[..., blank_id].exp()[valid].sum())
    totals["frames"] += float(valid.sum())
    totals["utterances"] += float((signal.weight > 0).sum())
