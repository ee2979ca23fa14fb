"""What a form of soft targets on disk can do: distributions to tensors, and back."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from kd_asr_slr.outputs import SparseTargets

Parts = dict[str, torch.Tensor]


class TargetFormat(ABC):
    """One form of distributions on disk.

    What `encode` gives depends on nothing but the utterance's own distributions and its id, so that a store has the
    same bytes however it was made.

    Class attributes:
        name: in `cache_format`, and in the table.
        endings: keys of what `encode` gives.
        sparse: whether `decode` gives `SparseTargets`.
    """

    name: ClassVar[str]
    endings: ClassVar[tuple[str, ...]]
    sparse: ClassVar[bool] = False

    @abstractmethod
    def encode(self, log_probs: torch.Tensor, utterance: str) -> Parts:
        """The tensors to be written, by the ending of their key; "" is the bare key.

        Args:
            log_probs: [T, V], float32, at temperature 1, finite.
            utterance: its id, from which a draw is seeded.
        """

    @abstractmethod
    def decode(self, parts: Mapping[str, torch.Tensor], size: int) -> torch.Tensor | SparseTargets:
        """What `encode` wrote down, in float32: [T, V], or `SparseTargets` of T frames.

        Args:
            parts: the tensors that were written.
            size: V.
        """

    def uniform(self, frames: int, size: int) -> torch.Tensor | SparseTargets:
        """Frames of which nothing is known, as `decode` would give them: for padding, and where no teacher speaks."""
        return torch.full((frames, size), -math.log(size))

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Name and options, for the manifest; `format_of` makes the same form of it."""


def seed_of(utterance: str) -> int:
    """The seed of an utterance's draws: the same on every machine, in every process."""
    return int.from_bytes(hashlib.sha256(utterance.encode()).digest()[:7], "little")


def ids_to_disk(ids: torch.Tensor, size: int) -> torch.Tensor:
    """Class indices in the smallest type that holds a vocabulary of `size`."""
    return ids.to(torch.uint16 if size <= 2**16 else torch.int32)


def half(tensor: torch.Tensor) -> torch.Tensor:
    """float16, where too large a number becomes the largest one and not infinity."""
    largest = torch.finfo(torch.float16).max
    return tensor.float().clamp(-largest, largest).half()
