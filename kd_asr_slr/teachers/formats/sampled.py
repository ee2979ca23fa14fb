"""A few classes drawn from the teachers' own distribution: an unbiased target of any size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kd_asr_slr.outputs import SparseTargets
from kd_asr_slr.teachers.formats.base import Parts, TargetFormat, half, ids_to_disk, seed_of


class Sampled(TargetFormat):
    """At most 5 bytes a draw: classes drawn with replacement, how often each came, and its log-probability.

    The frequency of a class is an unbiased estimate of its probability at `temperature`, so that there the gradient of
    the loss is unbiased, tail and all. At another temperature T the draws are weighed by p^(1/T - 1/temperature) and
    renormalised: consistent, but not unbiased. Every utterance is drawn with a seed of its own.

    Args:
        samples: draws a frame, 1 to 255.
        temperature: of the distribution that is drawn from; best the one the student will be trained at.

    Source:
        Anshumann et al. 2025, "Sparse Logit Sampling" (Random Sampling KD, arXiv 2503.16870), section 4, with the
        softened teacher as the proposal.
    """

    name = "sampled"
    endings = (".classes", ".ids", ".times", ".values")
    sparse = True

    def __init__(self, samples: int = 50, temperature: float = 1.0) -> None:
        self.samples = samples
        self.temperature = temperature

    def encode(self, log_probs: torch.Tensor, utterance: str) -> Parts:
        """`classes` [T]; `ids`, `times` and `values` [sum of classes], frame after frame."""
        frames, size = log_probs.shape
        log_probs = log_probs.float()
        generator = torch.Generator().manual_seed(seed_of(utterance))
        draws = torch.multinomial(
            (log_probs.double() / self.temperature).softmax(1), self.samples, True, generator=generator
        )  # [T, n]
        places = draws + size * torch.arange(frames)[:, None]
        distinct, times = places.flatten().unique(return_counts=True)
        ids = distinct % size
        classes = torch.bincount(distinct // size, minlength=frames)
        return {
            ".classes": classes.to(torch.uint8),
            ".ids": ids_to_disk(ids, size),
            ".times": times.to(torch.uint8),
            ".values": half(log_probs.flatten()[distinct]),
        }

    def decode(self, parts: Mapping[str, torch.Tensor], size: int) -> SparseTargets:
        """T frames, with weights that sum to 1 and no tail."""
        classes = parts[".classes"].long()
        kept = torch.arange(int(classes.max()) if len(classes) else 0) < classes[:, None]  # [T, k]
        ids = torch.zeros(kept.shape, dtype=torch.long)
        log_probs = torch.full(kept.shape, -torch.inf)
        log_weights = torch.full(kept.shape, -torch.inf)
        ids[kept], log_probs[kept] = parts[".ids"].long(), parts[".values"].float()
        ids = torch.where(kept, ids, ids[:, :1])
        log_weights[kept] = (parts[".times"].float() / self.samples).log()
        return SparseTargets(ids, log_probs, size, log_weights=log_weights, drawn_at=self.temperature)

    def uniform(self, frames: int, size: int) -> SparseTargets:
        """Class 0 and nothing else: draws know of no tail, and it is finite in every loss."""
        ids, zeros = torch.zeros(frames, 1, dtype=torch.long), torch.zeros(frames, 1)
        return SparseTargets(ids, zeros, size, log_weights=zeros.clone(), drawn_at=self.temperature)

    def describe(self) -> dict[str, Any]:
        """Name and options."""
        return {"name": self.name, "samples": self.samples, "temperature": self.temperature}
