"""How well a teacher explains the transcripts: its CTC loss on them."""

from __future__ import annotations

import torch


def transcript_scores(
    log_probs: torch.Tensor, lengths: torch.Tensor, labels: torch.Tensor, blank_id: int, temperature: float
) -> torch.Tensor:
    """How well a teacher explains the transcripts: minus its CTC loss per frame over tau, [B].

    Args:
        log_probs: [B, T, V], float32.
        lengths: [B], valid frames.
        labels: [B, U], padded with -100.
        blank_id: index of the blank.
        temperature: tau, in nats a frame.

    Returns:
        [B]; the softmax over teachers of these scores are the shares of `gate`. An utterance too short for its labels
        has no finite loss under any teacher, one without labels says nothing: their score is 0 for all of them.
    """
    losses, counts = transcript_losses(log_probs, lengths, labels, blank_id)
    scores = -losses / lengths.clamp(min=1) / temperature
    return torch.where(torch.isfinite(scores) & (counts > 0), scores, torch.zeros_like(scores))


def transcript_losses(
    log_probs: torch.Tensor, lengths: torch.Tensor, labels: torch.Tensor, blank_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The CTC loss of each transcript in nats, infinite where it does not fit into the frames; its labels. [B] each.

    Args:
        log_probs: [B, T, V], float32.
        lengths: [B], valid frames.
        labels: [B, U], padded with -100.
        blank_id: index of the blank.
    """
    counts = (labels >= 0).sum(-1)
    losses = torch.nn.functional.ctc_loss(
        log_probs.transpose(0, 1),  # [T, B, V]
        labels.clamp(min=0),
        lengths,
        counts,
        blank=blank_id,
        reduction="none",
    )
    return losses, counts
