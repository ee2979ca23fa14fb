"""Every log-probability, in float16 or float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kd_asr_slr.teachers.formats.base import Parts, TargetFormat
from kd_asr_slr.teachers.shards import from_disk, to_disk


class Dense(TargetFormat):
    """2 V or 4 V bytes a frame; in float32 a cached target is the live one bit for bit.

    Args:
        dtype: "float16" or "float32".
    """

    name = "dense"
    endings = ("",)

    def __init__(self, dtype: str = "float16") -> None:
        self.dtype = dtype

    def encode(self, log_probs: torch.Tensor, utterance: str) -> Parts:
        """The log-probabilities themselves."""
        return {"": to_disk(log_probs, self.dtype)}

    def decode(self, parts: Mapping[str, torch.Tensor], size: int) -> torch.Tensor:
        """[T, V]; what was rounded to float16 sums to 1 again."""
        return from_disk(parts[""], "log_probs")

    def describe(self) -> dict[str, Any]:
        """The name: the type is the manifest's own `dtype`."""
        return {"name": self.name}
