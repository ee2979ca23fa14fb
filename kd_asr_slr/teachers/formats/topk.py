"""The k largest log-probabilities of a frame, and how much the rest weigh together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from kd_asr_slr.outputs import TAIL_TEMPERATURES, SparseTargets
from kd_asr_slr.teachers.formats.base import Parts, TargetFormat, half, ids_to_disk


class TopK(TargetFormat):
    """4 k bytes a frame and 8 for the rest; of a frame that is all but certain, one class only.

    Most frames of a CTC model are certainly blank, so that a store is a good deal smaller than k says. The rest (the
    tail) is kept as its mass at the temperatures of `TAIL_TEMPERATURES`: softened, even a certain frame has much of its
    mass there, and that does not follow from the mass at temperature 1.

    Args:
        top_k: classes of a frame, 1 or more.
        certain: a frame whose largest probability is at least 1 - `certain` keeps that class alone; 0: no frame does.

    Source:
        One class for the rest on both sides: reference implementations of top-k distillation since 2025; without it
        the loss is biased (Random Sampling KD, arXiv 2503.16870, section 3).
    """

    name = "topk"
    endings = (".counts", ".ids", ".values", ".tail")
    sparse = True

    def __init__(self, top_k: int = 100, certain: float = 1e-4) -> None:
        self.top_k = top_k
        self.certain = certain

    def encode(self, log_probs: torch.Tensor, utterance: str) -> Parts:
        """`counts` [T]; `ids` and `values` [sum of counts], frame after frame; `tail` [T, 3]."""
        frames, size = log_probs.shape
        log_probs = log_probs.float()
        values, ids = log_probs.topk(min(self.top_k, size), dim=1)  # [T, k]
        width = values.shape[1]
        sure = -torch.expm1(values[:, 0]) <= self.certain  # [T]
        counts = torch.where(sure, 1, width)
        kept = torch.arange(width) < counts[:, None]  # [T, k]
        rest = log_probs.scatter(1, torch.where(kept, ids, ids[:, :1]), -torch.inf)
        tail = torch.stack([torch.logsumexp(rest / temperature, 1) for temperature in TAIL_TEMPERATURES], 1)
        return {
            ".counts": counts.to(torch.uint16),
            ".ids": ids_to_disk(ids[kept], size),
            ".values": half(values[kept]),
            ".tail": half(tail),
        }

    def decode(self, parts: Mapping[str, torch.Tensor], size: int) -> SparseTargets:
        """T frames; a frame with fewer classes than another is filled up with classes of probability 0."""
        counts = parts[".counts"].long()
        width = int(counts.max()) if len(counts) else 0
        kept = torch.arange(width) < counts[:, None]  # [T, k]
        ids = torch.zeros(kept.shape, dtype=torch.long)
        log_probs = torch.full(kept.shape, -torch.inf)
        ids[kept], log_probs[kept] = parts[".ids"].long(), parts[".values"].float()
        ids = torch.where(kept, ids, ids[:, :1])
        tail = parts[".tail"].float()
        tail = torch.where(tail <= torch.finfo(torch.float16).min, -torch.inf, tail)
        return SparseTargets(ids, log_probs, size, tail=tail)

    def uniform(self, frames: int, size: int) -> SparseTargets:
        """No class of its own: all mass in the tail, at every temperature."""
        tail = torch.tensor([(1 - 1 / temperature) * math.log(size) for temperature in TAIL_TEMPERATURES])
        ids = torch.zeros(frames, 1, dtype=torch.long)
        return SparseTargets(ids, torch.full((frames, 1), -torch.inf), size, tail=tail.repeat(frames, 1))

    def describe(self) -> dict[str, Any]:
        """Name and options."""
        return {"name": self.name, "top_k": self.top_k, "certain": self.certain}
