"""Best-path (greedy) CTC decoding.

Source: Graves, Fernández, Gomez, Schmidhuber, "Connectionist Temporal Classification" (ICML 2006), section 3.2.
Ties: the lowest index of the frame's best scores is taken, as `numpy.argmax` does.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kd_asr_slr.decoding.log_probs import refuse_nan


def collapse(path: ArrayLike, blank: int) -> list[int]:
    """Merge repeated frame labels, then drop blanks.

    Args:
        path: one label a frame [T].
        blank: index of the blank.

    Example:
        >>> collapse([1, 1, 0, 1, 2, 2, 0], blank=0)
        [1, 1, 2]
    """
    frames = np.asarray(path, dtype=np.int64)  # [T]
    if frames.ndim != 1:
        raise ValueError(f"the frame labels have shape {frames.shape}; expected one dimension [T]")
    return frames[_starts(frames) & (frames != blank)].tolist()


def greedy_decode(scores: ArrayLike, blank: int) -> list[int]:
    """Decode one utterance by its best path.

    Args:
        scores: logits or log-probabilities [T, V]; only their order within a frame counts.
        blank: index of the blank.

    Raises:
        ValueError: if the scores are not [T, V], or the blank is not one of its columns.
        UserError: if a score is NaN or +inf.

    Example:
        >>> greedy_decode([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], blank=0)
        [1, 1]
    """
    matrix = np.asarray(scores)  # [T, V]
    if matrix.ndim != 2:
        raise ValueError(f"the scores have shape {matrix.shape}; expected two dimensions [T, V]")
    return greedy_decode_batch(matrix[None], [len(matrix)], blank)[0]


def greedy_decode_batch(scores: ArrayLike, lengths: ArrayLike, blank: int) -> list[list[int]]:
    """Decode a padded batch by its best paths; frames past an utterance's length never count.

    Args:
        scores: logits or log-probabilities [B, T, V].
        lengths: valid frames of every utterance [B].
        blank: index of the blank.

    Raises:
        ValueError: if shapes, lengths or the blank do not fit each other.
        UserError: if a score of a valid frame is NaN or +inf.
    """
    batch, sizes = np.asarray(scores), np.asarray(lengths, dtype=np.int64)  # [B, T, V], [B]
    _check_batch(batch, sizes, blank)
    valid = np.arange(batch.shape[1]) < sizes[:, None]  # [B, T]
    best = batch.argmax(axis=-1)  # [B, T, V] -> [B, T]
    tops = np.take_along_axis(batch, best[..., None], axis=-1)[..., 0]
    if not (tops[valid] < np.inf).all():  # argmax takes a NaN or +inf wherever there is one
        refuse_nan(batch[valid])
    kept = valid & _starts(best) & (best != blank)
    return [row[mask].tolist() for row, mask in zip(best, kept, strict=True)]


class GreedyStream:
    """The best path of an utterance whose frames come one after another.

    Args:
        blank: index of the blank.

    Attributes:
        labels: those found so far; greedy decoding never takes one back.

    Example:
        >>> stream = GreedyStream(blank=0)
        >>> stream.accept([[0.1, 0.9], [0.2, 0.8]]), stream.accept([[0.3, 0.7], [0.9, 0.1]])
        ([1], [])
    """

    def __init__(self, blank: int) -> None:
        self.labels: list[int] = []
        self._blank = blank
        self._last = blank

    def accept(self, scores: ArrayLike) -> list[int]:
        """The next frames, logits or log-probabilities [T, V]: the labels that begin in them.

        Raises:
            UserError: if a score is NaN or +inf.
        """
        frames = np.asarray(scores)
        if not len(frames):
            return []
        refuse_nan(frames)
        path = [self._last, *frames.argmax(axis=-1).tolist()]
        self._last = path[-1]
        begun = [label for before, label in pairwise(path) if label not in (before, self._blank)]
        self.labels += begun
        return begun


def _starts(path: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True where a frame's label differs from the label of the frame before it; path [..., T]."""
    starts = np.ones(path.shape, dtype=bool)
    starts[..., 1:] = path[..., 1:] != path[..., :-1]
    return starts


def _check_batch(batch: NDArray[np.floating], sizes: NDArray[np.int64], blank: int) -> None:
    """Raise unless scores [B, T, V], lengths [B] and the blank belong together."""
    if batch.ndim != 3:
        raise ValueError(f"the scores have shape {batch.shape}; expected three dimensions [B, T, V]")
    if sizes.shape != batch.shape[:1]:
        raise ValueError(f"the lengths have shape {sizes.shape}; expected ({batch.shape[0]},), one an utterance")
    if sizes.size and (sizes.min() < 0 or sizes.max() > batch.shape[1]):
        raise ValueError(f"lengths from {sizes.min()} to {sizes.max()}; the batch has {batch.shape[1]} frames")
    if not 0 <= blank < batch.shape[2]:
        raise ValueError(f"blank index {blank}; expected 0 to {batch.shape[2] - 1}")
