"""Whether CTC can emit the labels of an utterance at all: one frame a label, and a blank between equal neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

Subsampling = int | Callable[[int], int]


class Infeasible(NamedTuple):
    """An utterance too short for its labels.

    Attributes:
        position: its place in what was given, from 0.
        frames: output frames it has.
        needed: output frames its labels need.
    """

    position: int
    frames: int
    needed: int


def ctc_frames_needed(labels: Sequence[int] | Sequence[str]) -> int:
    """Fewest output frames of any CTC path for these labels: U + the number of equal neighbours.

    Source: Graves et al., "Connectionist Temporal Classification" (2006), section 3.1.

    Example:
        >>> ctc_frames_needed([7, 7, 4])  # 7 blank 7 4
        4
    """
    return len(labels) + sum(first == second for first, second in zip(labels, labels[1:], strict=False))


def output_frames(frames: int, subsampling: Subsampling) -> int:
    """Frames that come out of a model.

    Args:
        frames: input frames (samples, for waveforms).
        subsampling: the model's own function from input to output length, which is exact; or a factor (rounded down).
    """
    return int(subsampling(frames)) if callable(subsampling) else frames // subsampling


def infeasible_ctc(
    lengths: Iterable[int], labels: Iterable[Sequence[int]], subsampling: Subsampling = 1
) -> Iterator[Infeasible]:
    """Find the utterances that have fewer output frames than their labels need; their CTC loss would be infinite.

    Args:
        lengths: input frames of each utterance.
        labels: label indices of each utterance.
        subsampling: see `output_frames`.

    Yields:
        Each such utterance, as it is met; nothing is held in memory.

    Example:
        >>> list(infeasible_ctc([8, 8], [[1, 2], [1, 1]], subsampling=4))
        [Infeasible(position=1, frames=2, needed=3)]
    """
    for position, (length, sequence) in enumerate(zip(lengths, labels, strict=True)):
        frames, needed = output_frames(length, subsampling), ctc_frames_needed(sequence)
        if frames < needed:
            yield Infeasible(position, frames, needed)
