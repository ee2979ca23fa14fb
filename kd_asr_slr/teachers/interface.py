"""What training asks of teachers, live or cached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from kd_asr_slr.outputs import TeacherSignal


class Teachers(Protocol):
    """A source of `TeacherSignal`: `TeacherPool` and `CachedTeachers`.

    Attributes:
        tokens: the tokens of the teachers' outputs, in order.
        blank_id: index of the blank.
        vocabulary: fingerprint of both.
        frame_seconds: seconds between two frames of the signal.
    """

    tokens: list[str]
    blank_id: int
    vocabulary: str
    frame_seconds: float

    @property
    def provides(self) -> frozenset[str]:
        """What a loss may ask of the signal.

        "log_probs" and "decoder_log_probs" (in any form), "dense_log_probs" (every class of every frame, not some of
        them and a tail), "hidden_states".
        """

    @property
    def views(self) -> Mapping[str, Any]:
        """Processors, by fingerprint, whose features a batch must bring beside the student's."""

    def to(self, device: torch.device | str) -> Teachers:
        """Move whatever has to be moved; returns itself."""

    def signal(self, batch: dict[str, Any], hidden_layers: Sequence[int] = (), decoder: bool = True) -> TeacherSignal:
        """What the teachers say of a batch; their decoders only where they have any and `decoder` asks for it."""

    def describe(self) -> dict[str, Any]:
        """A JSON-able description for results.json."""
