"""What a beam search looks at: the few tokens of each frame that can still matter, found in numpy.

Of some 1,200 log-probabilities a frame the search follows one to five. Frames in which only the blank is left, four of
five in the outputs of a usual CTC network, say the same to every hypothesis: a run of them becomes one frame with their
summed log-probability. Neither step changes what is found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kd_asr_slr.decoding.log_probs import as_matrix, check_mass, masses

MIN_LOGP = float(np.log(1e-15))  # pyctcdecode's own floor


@dataclass(frozen=True, slots=True)
class Candidates:
    """The tokens of an utterance's frames that a search follows; small enough to be sent to another process.

    Attributes:
        tokens: [N], indices in the vocabulary, frame after frame, rising within a frame.
        log_probs: [N], float64, in the distribution over blank and labels.
        counts: [T'], tokens of each frame, at least 1. T' is below T where frames of blanks were joined.
    """

    tokens: NDArray[np.int64]
    log_probs: NDArray[np.float64]
    counts: NDArray[np.int64]

    def frames(self) -> list[tuple[list[int], list[float]]]:
        """Tokens and log-probabilities of each frame."""
        tokens, values = self.tokens.tolist(), self.log_probs.tolist()
        ends = np.cumsum(self.counts).tolist()
        return [(tokens[start:end], values[start:end]) for start, end in zip([0, *ends], ends, strict=False)]

    def dense(self, blank: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The blank and the tokens that occur [C], rising, and a matrix over them [T', C], -inf where they do not."""
        used = np.union1d(self.tokens, [blank])
        matrix = np.full((len(self.counts), len(used)), -np.inf)
        rows = np.repeat(np.arange(len(self.counts)), self.counts)
        matrix[rows, np.searchsorted(used, self.tokens)] = self.log_probs
        return used, matrix


class CandidateFinder:
    """Finds the candidates of utterances over one vocabulary.

    Args:
        size: V.
        blank: index of the blank.
        closed: indices of tokens that are never output; their mass goes to the others in proportion.

    Example:
        >>> found = CandidateFinder(3, blank=0).find(np.log([[0.9, 0.001, 0.099], [0.998, 0.001, 0.001]]), -3.0)
        >>> found.tokens.tolist(), found.counts.tolist()
        ([0, 2, 0], [2, 1])
    """

    def __init__(self, size: int, blank: int, closed: ArrayLike = ()) -> None:
        self._size = size
        self._blank = blank
        self._closed = np.asarray(closed, dtype=np.int64)

    def find(self, log_probs: ArrayLike, token_min_logp: float) -> Candidates:
        """The candidates of one utterance.

        Args:
            log_probs: natural log-probabilities [T, V], rows summing to 1.
            token_min_logp: tokens below this are no candidates of a frame, unless they are its best.

        Raises:
            ValueError: if the input is not a matrix of log-probabilities over the vocabulary.
            UserError: if it holds NaN or +inf.
        """
        scores = np.asarray(log_probs)
        kind = np.float32 if scores.dtype in (np.float16, np.float32) else np.float64
        matrix = as_matrix(scores.astype(kind, copy=False), self._size)  # [T, V]
        mass = masses(matrix)
        check_mass(matrix, mass.sum(axis=1))
        if not len(matrix):
            return Candidates(np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.int64))
        if self._closed.size:
            matrix = np.maximum(matrix, MIN_LOGP)  # a frame may have no mass outside of the closed tokens
            matrix[:, self._closed] = -np.inf
            mass = np.exp(matrix)
        return self._joined(*self._select(matrix, mass.sum(axis=1), token_min_logp))

    def _select(
        self, matrix: NDArray[np.floating], mass: NDArray[np.floating], token_min_logp: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        """Tokens, log-probabilities and counts of all frames: of [T, V] and its rows' sums [T], not quite 1."""
        norms = np.log(mass)
        lowest = token_min_logp if token_min_logp > MIN_LOGP else -np.inf
        wanted = matrix >= (lowest + norms)[:, None].astype(matrix.dtype)  # [T, V]
        wanted[np.arange(len(matrix)), matrix.argmax(axis=1)] = True
        if self._closed.size:
            wanted[:, self._closed] = False
        places = np.flatnonzero(wanted)
        rows, tokens = np.divmod(places, self._size)
        values = matrix.ravel()[places].astype(np.float64) - norms[rows]
        return tokens, np.clip(values, MIN_LOGP, 0.0), np.bincount(rows, minlength=len(matrix))

    def _joined(self, tokens: NDArray[np.int64], values: NDArray[np.float64], counts: NDArray[np.int64]) -> Candidates:
        """One frame for every run of frames in which only the blank is left."""
        first = np.cumsum(counts) - counts
        blanks = (counts == 1) & (tokens[first] == self._blank)
        follows = blanks & np.concatenate([[False], blanks[:-1]])  # the frame before says the same
        groups = np.cumsum(~follows) - 1  # [T], which frame each becomes a part of
        sums = np.bincount(groups[blanks], values[first[blanks]], minlength=int(groups[-1]) + 1)
        starts = blanks & ~follows
        values[first[starts]] = sums[groups[starts]]
        kept = np.ones(len(tokens), dtype=bool)
        kept[first[follows]] = False
        return Candidates(tokens[kept], values[kept], counts[~follows])
