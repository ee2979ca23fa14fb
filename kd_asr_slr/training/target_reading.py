"""Cached targets beside the batch: read where the batch is made, so that with loader workers no step waits for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kd_asr_slr.outputs import TeacherSignal

SIGNAL = "signal"  # key of a batch: what cached teachers said of it


@dataclass(frozen=True)
class TargetReadingCollator:
    """A collator whose batches bring their `TeacherSignal`, under `SIGNAL`.

    Args:
        collate: makes the batch.
        read: from a batch to what was cached of it, `CachedTeachers.signal` with what the losses ask for.
    """

    collate: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]
    read: Callable[[dict[str, Any]], TeacherSignal]

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate items and read their targets."""
        batch = self.collate(items)
        return {**batch, SIGNAL: self.read(batch)}
