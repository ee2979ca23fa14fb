"""Every log-probability in 8 or 4 bits, and the largest of each frame as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kd_asr_slr.teachers.formats.base import Parts, TargetFormat, half, ids_to_disk

BITS = (8, 4)


class Quantised(TargetFormat):
    """V or V/2 bytes a frame, for high temperatures, at which most of a softened distribution is tail.

    The `exact` largest log-probabilities of a frame are kept in float16. The others become whole numbers of `bits`
    bits between the smallest and the largest of them, which are kept in float16 too.

    Args:
        bits: 8 or 4.
        exact: log-probabilities of a frame that are kept as they are.
    """

    name = "quantised"
    endings = (".codes", ".range", ".ids", ".values")

    def __init__(self, bits: int = 8, exact: int = 16) -> None:
        self.bits = bits
        self.exact = exact

    @property
    def levels(self) -> int:
        """The largest code."""
        return 2**self.bits - 1

    def encode(self, log_probs: torch.Tensor, utterance: str) -> Parts:
        """`codes` [T, V or V/2], `range` [T, 2], `ids` and `values` [T, exact]."""
        size = log_probs.shape[1]
        values, ids = log_probs.float().topk(min(self.exact, size), dim=1)
        smallest = log_probs.amin(1)
        largest = log_probs.scatter(1, ids, -torch.inf).amax(1).clamp(min=smallest)
        limits = half(torch.stack([smallest, largest], 1))  # [T, 2]
        low, step = self._scale(limits)
        codes = ((log_probs - low) / step).round().clamp(0, self.levels).to(torch.uint8)
        codes = codes if self.bits == 8 else _packed(codes)
        return {".codes": codes, ".range": limits, ".ids": ids_to_disk(ids, size), ".values": half(values)}

    def decode(self, parts: Mapping[str, torch.Tensor], size: int) -> torch.Tensor:
        """[T, V]; sums to 1 again."""
        codes = parts[".codes"] if self.bits == 8 else _unpacked(parts[".codes"], size)
        low, step = self._scale(parts[".range"])
        log_probs = torch.addcmul(low, codes.float(), step)
        log_probs.scatter_(1, parts[".ids"].long(), parts[".values"].float())
        return torch.log_softmax(log_probs, dim=1)

    def describe(self) -> dict[str, Any]:
        """Name and options."""
        return {"name": self.name, "bits": self.bits, "exact": self.exact}

    def _scale(self, limits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The log-probability of code 0 and the step between codes, [T, 1] each."""
        low, high = limits.float().unbind(1)
        return low[:, None], ((high - low) / self.levels).clamp(min=1e-6)[:, None]


def _packed(codes: torch.Tensor) -> torch.Tensor:
    """Two codes of 4 bits a byte: [T, V] -> [T, ceil(V / 2)]."""
    codes = torch.nn.functional.pad(codes, (0, codes.shape[1] % 2))
    return codes[:, 0::2] | (codes[:, 1::2] << 4)


def _unpacked(codes: torch.Tensor, size: int) -> torch.Tensor:
    return torch.stack([codes & 15, codes >> 4], -1).flatten(1)[:, :size]
