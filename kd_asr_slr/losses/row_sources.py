"""Where the rows of a divergence come from: frames as they lie, chosen ones, frames in between; a block at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from kd_asr_slr.blocks import rows_at_once
from kd_asr_slr.losses.masking import Rows, at_least_float32

LOG_ZERO = -1e4  # exp of it is 0 in every float type; unlike -inf it can be interpolated, and 0 times it is not NaN


def flat_rows(batch: torch.Tensor, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch [B, T, V] as [B * T, V], without a copy also where time comes first in memory, and the rows' places."""
    utterances, positions = rows
    count, frames, _ = batch.shape
    if not batch.is_contiguous() and batch.transpose(0, 1).is_contiguous():
        return batch.transpose(0, 1).flatten(0, 1), positions * count + utterances
    return batch.flatten(0, 1), utterances * frames + positions


@dataclass(frozen=True)
class RowSource:
    """Rows [N, V] of scores [M, V].

    Attributes:
        scores: [M, V].
        places: [N], long, the rows that count; None takes all of them, in their order.
    """

    scores: torch.Tensor
    places: torch.Tensor | None

    @staticmethod
    def of(batch: torch.Tensor, rows: Rows) -> RowSource:
        """Rows (utterance, position) of a batch [B, T, V]; of all of them, in order, no copy will be made."""
        scores, places = flat_rows(batch, rows)
        everything = len(places) == len(scores) and bool((places.diff() == 1).all())  # distinct, so from 0 on
        return RowSource(scores, None if everything else places)

    def __len__(self) -> int:
        return len(self.scores) if self.places is None else len(self.places)

    def block(self, rows: slice, out: torch.Tensor, scratch: torch.Tensor) -> torch.Tensor:
        """Some of the N rows, [R, V], in the type of the buffers: in `out`, or as they lie where that will do."""
        return _chosen(self.scores, self.places, rows, out)


@dataclass(frozen=True)
class RowsBetween(RowSource):
    """Linear interpolation: `1 - share` of the row at `places` and `share` of the one at `later`.

    Attributes:
        places: [N], long.
        later: [N], long.
        share: [N, 1], float.
        lowest: what lower values, such as -inf, count as; None where there are none.
    """

    scores: torch.Tensor
    places: torch.Tensor
    later: torch.Tensor
    share: torch.Tensor
    lowest: float | None = LOG_ZERO

    def block(self, rows: slice, out: torch.Tensor, scratch: torch.Tensor) -> torch.Tensor:
        """As in `RowSource`; always in `out`."""
        before, after = _chosen(self.scores, self.places, rows, out), _chosen(self.scores, self.later, rows, scratch)
        if self.lowest is not None:
            before, after = before.clamp_(min=self.lowest), after.clamp_(min=self.lowest)
        return torch.lerp(before, after, self.share[rows].to(out.dtype), out=out)


def _chosen(scores: torch.Tensor, places: torch.Tensor | None, rows: slice, out: torch.Tensor) -> torch.Tensor:
    if places is not None:
        if scores.dtype == out.dtype:
            return torch.index_select(scores, 0, places[rows], out=out)
        return out.copy_(scores.index_select(0, places[rows]))
    block = scores[rows]
    return block if block.dtype == out.dtype else out.copy_(block)


@dataclass(frozen=True)
class Interpolated:
    """Frames of a batch at another rate, made where they are read: all at once they would be as large as the logits.

    Attributes:
        shape: (B, T, V), with T new frames.
        source: all B * T of them.
    """

    shape: tuple[int, int, int]
    source: RowsBetween

    def rows(self, rows: Rows) -> RowsBetween:
        """Those at (utterance, position)."""
        places = rows[0] * self.shape[1] + rows[1]
        lower, later, share = (part[places] for part in (self.source.places, self.source.later, self.source.share))
        return replace(self.source, places=lower, later=later, share=share)

    def dense(self, normalised: bool = False) -> torch.Tensor:
        """[B, T, V], at least float32; log-probabilities can be normalised on the way."""
        scores = self.source.scores
        made = at_least_float32(scores[:0]).new_empty(self.shape).flatten(0, 1)
        step = min(rows_at_once(scores, buffers=3), len(made))
        scratch = made.new_empty(step, self.shape[2])
        for start in range(0, len(made), max(step, 1)):
            part = slice(start, min(start + step, len(made)))
            block = self.source.block(part, made[part], scratch[: part.stop - part.start])
            if normalised:
                torch.log_softmax(block, -1, out=block)  # a row is written after it was read
        return made.view(self.shape)


def interpolate(
    frames: torch.Tensor, lengths: torch.Tensor, ratio: float, size: int, lowest: float | None = LOG_ZERO
) -> Interpolated:
    """Linear interpolation of frames in time; padding is never read.

    Args:
        frames: [B, T, D].
        lengths: [B], valid frames. An utterance of length 0 gives frames without meaning.
        ratio: new frames per old frame.
        size: number of new frames.
        lowest: of log-probabilities, what -inf counts as; None where there is no -inf.

    Example:
        >>> made = interpolate(torch.tensor([[[0.0], [1.0]]]), torch.tensor([2]), ratio=2.0, size=4)
        >>> made.dense().flatten()
        tensor([0.0000, 0.2500, 0.7500, 1.0000])
    """
    last = (lengths - 1).clamp(min=0).unsqueeze(1)  # [B, 1]
    centres = (torch.arange(size, device=frames.device, dtype=torch.float64) + 0.5) / ratio - 0.5  # [size], old frames
    places = torch.minimum(centres.clamp(min=0).unsqueeze(0), last.double())  # [B, size]
    lower = places.long()
    starts = torch.arange(len(frames), device=frames.device).unsqueeze(1) * frames.shape[1]
    lower, later = ((starts + side).flatten() for side in (lower, torch.minimum(lower + 1, last)))  # [B * size]
    share = (places - places.floor()).view(-1, 1)  # [B * size, 1]
    source = RowsBetween(frames.flatten(0, 1), lower, later, share, lowest)
    return Interpolated((len(frames), size, frames.shape[2]), source)
