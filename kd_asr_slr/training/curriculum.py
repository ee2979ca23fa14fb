"""Easy utterances first: what is drawn in an epoch grows with the student's competence."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from torch.utils.data import Sampler

from kd_asr_slr.arguments import DataArguments, DistillationArguments, TeacherArguments
from kd_asr_slr.corpora.schema import UNTRANSCRIBED
from kd_asr_slr.errors import UserError
from kd_asr_slr.losses.masking import length_mask
from kd_asr_slr.outputs import TeacherSignal
from kd_asr_slr.processing.collator import Collator
from kd_asr_slr.teachers.batches import batch_to
from kd_asr_slr.teachers.interface import Teachers
from kd_asr_slr.training.data import evaluation_items
from kd_asr_slr.training.dev_scores import dev_wer_of, only_dev_speaker_of
from kd_asr_slr.training.evaluation import batches

logger = logging.getLogger(__name__)

WER_SHARE = 0.6  # of the difficulty; the entropy of the teachers has the rest


class CurriculumSampler(Sampler[int]):
    """Draws the easiest share of the utterances, in a new order, as often as it takes to fill an epoch.

    Every epoch has as many draws as there are utterances, so that the steps of a run, its schedule and its cost stay
    those of a run without a curriculum. An order depends on seed and epoch alone: all processes have the same, and a
    run that is taken up again goes on with it.

    Args:
        difficulty: of each utterance, [N].
        competence: epoch -> share of the utterances that may be drawn.
        seed: of the run.

    Source: Platanios et al. 2019, "Competence-based Curriculum Learning for Neural Machine Translation" (1903.09848),
        algorithm 1.

    Example:
        >>> sampler = CurriculumSampler([0.3, 0.1, 0.2, 0.4], lambda epoch: 0.5, seed=1)
        >>> sorted(sampler)
        [1, 1, 2, 2]
    """

    def __init__(self, difficulty: Sequence[float], competence: Callable[[int], float], seed: int) -> None:
        self.difficulty = list(difficulty)
        self.epoch = 0
        self._competence = competence
        self._seed = seed
        self._by_difficulty = np.argsort(self.difficulty, kind="stable")

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins."""
        self.epoch = epoch

    def easiest(self) -> np.ndarray:
        """Indices that may be drawn in this epoch, at least one, easiest first."""
        # The tolerance: 0.3 of 10 utterances are 3, whatever floating point makes of it.
        count = math.ceil(self._competence(self.epoch) * len(self.difficulty) - 1e-9)
        return self._by_difficulty[: max(count, 1)]

    def __len__(self) -> int:
        return len(self.difficulty)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self._seed, self.epoch])
        drawable, left = self.easiest(), len(self)
        while left > 0:
            drawn = generator.permutation(drawable)[:left]
            left -= len(drawn)
            yield from drawn.tolist()


def competence(name: str, epoch: int, epochs: int, start: float) -> float:
    """The share of the training set that a student is ready for.

    linear: start + (1 - start) * epoch / epochs; sqrt: sqrt(start^2 + (1 - start^2) * epoch / epochs);
    step: start. From `epochs` on it is 1.

    Args:
        name: linear, sqrt or step.
        epoch: from 0.
        epochs: until everything is drawn.
        start: share in epoch 0, above 0.

    Source: Platanios et al. 2019 (1903.09848), equations 6 and 7, for linear and sqrt.

    Example:
        >>> competence("linear", 5, 10, 0.3), competence("step", 5, 10, 0.3)
        (0.65, 0.3)
    """
    progress = epoch / epochs
    if progress >= 1:
        return 1.0
    if name == "linear":
        return start + (1 - start) * progress
    return math.sqrt(start**2 + (1 - start**2) * progress) if name == "sqrt" else start


def build_sampler(
    rows: Dataset,
    teachers: Teachers | None,
    teaching: TeacherArguments | None,
    processor: Any,
    data: DataArguments,
    training: DistillationArguments,
) -> CurriculumSampler | None:
    """The sampler of a run with a curriculum; None for one without.

    Args:
        rows: what is trained on.
        teachers: live or cached.
        teaching: names a baseline run, for speakers of whom no teacher's results say anything.
        processor: the student's.
        data: of the run.
        training: the curriculum, the seed, and the device for live teachers.

    Raises:
        UserError: if nobody teaches, or the WER of a speaker is not known.
    """
    if training.curriculum == "none":
        return None
    if teachers is None:
        raise UserError(
            f"curriculum is '{training.curriculum}' and nobody teaches",
            expected="teachers: their WER by speaker and their entropy say what is difficult",
            fix="distil (recipes/distill.py), or set --curriculum none",
        )
    wers = wers_of(rows, teachers, teaching.baseline_run if teaching else None)
    found: list[list[float]] = [[]]
    if PartialState().is_main_process:
        entropies = entropies_of(rows, teachers, processor, data, training)
        found = [difficulty_of([wers[speaker] for speaker in rows["speaker"]], entropies)]
    broadcast_object_list(found)

    def share(epoch: int) -> float:
        return competence(training.curriculum, epoch, training.curriculum_epochs, training.curriculum_start)

    sampler = CurriculumSampler(found[0], share, training.seed)
    logger.info("curriculum: the easiest %d of %d utterances at first", len(sampler.easiest()), len(sampler))
    return sampler


def difficulty_of(wers: Sequence[float], entropies: Sequence[float]) -> list[float]:
    """0.6 * WER of the speaker + 0.4 * entropy of the teachers, each brought to 0..1 over the training set.

    Args:
        wers: of each utterance's speaker, fractions, [N].
        entropies: of each utterance's combined teacher, in nats a frame, [N].
    """
    return [
        WER_SHARE * wer + (1 - WER_SHARE) * entropy
        for wer, entropy in zip(_normalised(wers), _normalised(entropies), strict=True)
    ]


def wers_of(rows: Dataset, teachers: Teachers, baseline: str | None) -> dict[str, float]:
    """The dev WER of every speaker: of the teachers bound to the speaker, else of those of everyone, else of the
    baseline run. A speaker whose recordings are all untranscribed has no WER: the mean of the others stands for it.

    Raises:
        UserError: naming the speakers with transcripts of whom nothing is known.
    """
    description = teachers.describe()
    told = [*description["teachers"], *([description["generalist"]] if description["generalist"] else [])]
    everyone = dict.fromkeys(rows["speaker"])
    silent = rows[UNTRANSCRIBED] if UNTRANSCRIBED in rows.column_names else [False] * len(rows)
    transcribed = {name for name, untranscribed in zip(rows["speaker"], silent, strict=True) if not untranscribed}
    known = {speaker: _wer_of(speaker, told, baseline) for speaker in everyone}
    missing = sorted(speaker for speaker in transcribed if known[speaker] is None)
    if missing:
        raise UserError(
            f"the curriculum has no WER on dev of {', '.join(missing)}",
            expected="every speaker that is trained on in the dev results of a teacher, or of the baseline",
            fix="name a run that was scored on them (--baseline_run FOLDER), or set --curriculum none",
        )
    values = [wer for wer in known.values() if wer is not None]
    return {speaker: sum(values) / len(values) if wer is None else wer for speaker, wer in known.items()}


def _wer_of(speaker: str, told: Sequence[dict[str, Any]], baseline: str | None) -> float | None:
    bound = [teacher["name"] for teacher in told if speaker in _speakers_of(teacher)]
    general = [teacher["name"] for teacher in told if not _speakers_of(teacher)]
    for names in (bound, general, [baseline] if baseline else []):
        found = [wer for wer in (dev_wer_of(name, speaker) for name in names) if wer is not None]
        if found:
            return sum(found) / len(found)
    return None


def _speakers_of(teacher: dict[str, Any]) -> list[str]:
    """Whom a teacher is bound to; a store does not say it, and the teacher of one speaker was tuned on that one."""
    if "speakers" in teacher:
        return teacher["speakers"]
    only = only_dev_speaker_of(teacher["name"])
    return [only] if only else []


@torch.no_grad()
def entropies_of(
    rows: Dataset, teachers: Teachers, processor: Any, data: DataArguments, training: DistillationArguments
) -> list[float]:
    """The entropy of the combined teacher at temperature 1, mean over the frames of each utterance, in nats."""
    teachers.to(training.device)
    device = getattr(teachers, "device", torch.device("cpu"))
    items = evaluation_items(rows, processor, data, views=teachers.views)
    collator = Collator(processor.input_name)
    found: list[float] = []
    with torch.random.fork_rng(devices=[]):  # every new loader draws from it
        for batch in batches(items, collator, training.eval_batch_size):
            found += mean_entropy(teachers.signal(batch_to(batch, device))).tolist()
    return found


def mean_entropy(signal: TeacherSignal) -> torch.Tensor:
    """-sum over v of p log p, mean over each utterance's valid frames, [B], in nats."""
    log_probs = signal.log_probs.float()  # [B, T, V]
    entropy = torch.special.entr(log_probs.exp()).sum(-1)  # [B, T]
    valid = length_mask(signal.lengths, entropy.shape[1])
    return torch.where(valid, entropy, 0.0).sum(1) / signal.lengths.clamp(min=1)


def _normalised(values: Sequence[float]) -> list[float]:
    lowest, highest = min(values), max(values)
    return [(value - lowest) / (highest - lowest) if highest > lowest else 0.0 for value in values]
