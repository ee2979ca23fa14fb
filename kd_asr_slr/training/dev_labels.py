"""What the trainer needs of dev: labels that its frames can hold, and the best label of every frame."""

from __future__ import annotations

from typing import Any

import torch

from kd_asr_slr.losses.ctc import frames_needed
from kd_asr_slr.outputs import CTCOutput

IGNORED = -100


def without_infeasible(batch: dict[str, Any], output: CTCOutput) -> dict[str, Any]:
    """The batch without the labels that its frames cannot hold: they count as 0 in `eval_loss`, and fully in WER.

    A training utterance of that kind is refused before the run; of a dev utterance only the loss is undefined.
    """
    labels = batch["labels"]  # [B, U]
    short = frames_needed(labels) > output.logit_lengths.to(labels.device)  # [B]
    return {**batch, "labels": labels.masked_fill(short[:, None], IGNORED)}


def best_labels(output: CTCOutput) -> torch.Tensor:
    """The most probable label of every valid frame, -100 elsewhere: [B, T]."""
    best = output.logits.argmax(-1)  # [B, T]
    frames = torch.arange(best.shape[1], device=best.device)
    return best.masked_fill(frames >= output.logit_lengths.to(best.device)[:, None], IGNORED)
