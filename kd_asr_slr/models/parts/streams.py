"""Column ranges of the features as streams (pose, hands, face, temporal features), each with an encoder and a gate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import initialization as init

from kd_asr_slr.models.parts.configuration import RecogniserConfig

START_GATES = {"pose": 0.2, "hands": 0.4, "face": 0.3, "temporal": 0.1}
ALL_COLUMNS = "features"


@dataclass(frozen=True)
class Stream:
    """A range of columns of the features.

    Attributes:
        name: its name.
        start: first column.
        stop: column after the last.
        gate: share it starts with; the shares of a network's streams sum to 1.
    """

    name: str
    start: int
    stop: int
    gate: float

    @property
    def width(self) -> int:
        """Its columns."""
        return self.stop - self.start


class StreamConfig(RecogniserConfig):
    """Options of a network that reads its features as streams.

    Args:
        stream_slices: name -> [first column, column after the last]; they follow from the features where these are
            landmarks. An empty range is a stream that is missing. Default: one stream with all columns.
        stream_gates: name -> the share a stream starts with; default: pose 0.2, hands 0.4, face 0.3, temporal 0.1. The
            shares of the streams that are there are renormalised; a stream without one starts with their mean.
        stream_width: values a frame that every stream's encoder makes.
    """

    stride: int = 4
    stream_slices: dict[str, list[int]] | None = None
    stream_gates: dict[str, float] | None = None
    stream_width: int = 128

    @property
    def streams(self) -> list[Stream]:
        """The streams that are there, by their columns (a saved configuration has its names in another order)."""
        slices = self.stream_slices or {ALL_COLUMNS: [0, self.input_size]}
        present = sorted((start, stop, name) for name, (start, stop) in slices.items() if stop > start)
        gates = start_gates([name for *_, name in present], self.stream_gates or START_GATES)
        return [Stream(name, start, stop, gates[name]) for start, stop, name in present]

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        found = super().problems()
        if self.stream_width < 1:
            found.append(f"stream_width is {self.stream_width}; expected 1 or more")
        return found + self._slice_problems() + self._gate_problems()

    def _slice_problems(self) -> list[str]:
        if self.stream_slices is None:
            return []
        found = []
        for name, columns in self.stream_slices.items():
            if not name.isidentifier():
                found.append(f"stream_slices names '{name}'; expected letters, digits and underscores")
            if len(columns) != 2 or not 0 <= columns[0] <= columns[1] <= self.input_size:
                found.append(
                    f"stream_slices has {name}: {list(columns)}; expected [first column, column after the last] within "
                    f"the {self.input_size} columns of the features"
                )
        ranges = [columns for columns in self.stream_slices.values() if len(columns) == 2]
        if not found and all(start == stop for start, stop in ranges):
            found.append("stream_slices has no stream with columns; expected at least one, or none at all")
        return found

    def _gate_problems(self) -> list[str]:
        return [
            f"stream_gates has {name}: {share}; expected more than 0"
            for name, share in (self.stream_gates or {}).items()
            if not 0 < share < math.inf
        ]


def start_gates(names: Sequence[str], shares: Mapping[str, float]) -> dict[str, float]:
    """The shares that streams start with, summing to 1.

    Example:
        >>> start_gates(["pose", "face"], {"pose": 0.2, "hands": 0.4, "face": 0.3})
        {'pose': 0.4, 'face': 0.6}
    """
    known = [shares[name] for name in names if name in shares]
    otherwise = sum(known) / len(known) if known else 1.0
    chosen = {name: shares.get(name, otherwise) for name in names}
    total = sum(chosen.values())
    return {name: share / total for name, share in chosen.items()}


class StreamEncoders(nn.Module):
    """Each stream's columns, projected to one width and normalised per frame.

    Args:
        streams: the streams.
        width: W, values a frame and stream.
        dropout: probability, on the output.
    """

    def __init__(self, streams: Sequence[Stream], width: int, dropout: float) -> None:
        super().__init__()
        self.ranges = tuple((stream.name, stream.start, stream.stop) for stream in streams)
        self.projections = nn.ModuleDict({stream.name: nn.Linear(stream.width, width) for stream in streams})
        self.norms = nn.ModuleDict({stream.name: nn.LayerNorm(width) for stream in streams})
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: torch.Tensor) -> list[torch.Tensor]:
        """[B, T, F]: one [B, T, W] per stream."""
        return [
            self.dropout(self.norms[name](self.projections[name](features[..., start:stop])))
            for name, start, stop in self.ranges
        ]


class GatedFusion(nn.Module):
    """Streams weighed by learned gates, side by side, projected and normalised per frame.

    gate = softmax(g), one number a stream; g starts at the logarithm of the shares, so the gates start exactly there.
    The streams are multiplied by N * gate (N streams), so that equal gates leave them as they are.

    Args:
        streams: the streams, with the gates they start with.
        width: W of every stream.
        out_width: D of the result.
    """

    def __init__(self, streams: Sequence[Stream], width: int, out_width: int) -> None:
        super().__init__()
        self.names = tuple(stream.name for stream in streams)
        self.starts = tuple(stream.gate for stream in streams)
        self.gate_logits = nn.Parameter(torch.empty(len(streams)))
        self.projection = nn.Linear(len(streams) * width, out_width)
        self.norm = nn.LayerNorm(out_width)
        self.reset_gates()

    def reset_gates(self) -> None:
        """Put the gates where they start."""
        init.copy_(self.gate_logits, torch.tensor(self.starts).log())

    def gates(self) -> dict[str, float]:
        """Name -> gate at this moment; they sum to 1."""
        return dict(zip(self.names, self.gate_logits.detach().softmax(0).tolist(), strict=True))

    def forward(self, streams: Sequence[torch.Tensor]) -> torch.Tensor:
        """One [B, T, W] per stream: [B, T, D]."""
        gates = len(self.names) * self.gate_logits.softmax(0)  # [N]
        weighed = [gate * stream for gate, stream in zip(gates.unbind(), streams, strict=True)]
        return self.norm(self.projection(torch.cat(weighed, dim=-1)))
