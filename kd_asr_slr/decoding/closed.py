"""Closed-vocabulary decoding: a list of label sequences, each with its CTC probability, all of them in one pass.

Source: the forward recursion of Graves, Fernández, Gomez, Schmidhuber, "Connectionist Temporal Classification"
(ICML 2006), section 4.1, over W sequences at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kd_asr_slr.decoding.log_probs import check_log_probs


class LabelSequences:
    """The sequences that may be recognised, laid out once for many utterances.

    Args:
        sequences: W label sequences; an empty one stands for silence.
        blank: index of the blank.
        size: V, entries a frame.

    Raises:
        ValueError: if there is no sequence, or a label is the blank or outside the vocabulary.

    Example:
        >>> words = LabelSequences([[1], [1, 2]], blank=0, size=3)
        >>> np.exp(words.log_probs(np.log([[0.2, 0.6, 0.2], [0.5, 0.1, 0.4]]))).round(2).tolist()
        [0.38, 0.24]
    """

    def __init__(self, sequences: Sequence[Sequence[int]], blank: int, size: int) -> None:
        if not sequences:
            raise ValueError("no label sequences; expected at least one")
        wrong = sorted({label for labels in sequences for label in labels if label == blank or not 0 <= label < size})
        if wrong:
            raise ValueError(f"label {wrong[0]}; expected labels of 0 to {size - 1} without the blank {blank}")
        self._size = size
        self._ends = np.array([2 * len(labels) for labels in sequences])  # [W], each one's last state
        self._states = np.full((int(self._ends.max()) + 1, len(sequences)), blank)  # [2U+1, W]
        for column, labels in zip(self._states.T, sequences, strict=True):
            column[1 : 2 * len(labels) : 2] = labels
        # A label may follow another one directly where the two differ.
        self._skips = (self._states[2:] != blank) & (self._states[2:] != self._states[:-2])  # [2U-1, W]

    def __len__(self) -> int:
        return len(self._ends)

    def log_probs(self, log_probs: ArrayLike) -> NDArray[np.float64]:
        """The CTC log-probability of every sequence.

        Args:
            log_probs: natural log-probabilities of one utterance [T, V].

        Returns:
            [W]; -inf for sequences that do not fit into T frames.

        Raises:
            ValueError: if the input is not a matrix of log-probabilities over the vocabulary.
            UserError: if it holds NaN or +inf.
        """
        frames = check_log_probs(log_probs, self._size)  # [T, V]
        try:
            with np.errstate(under="raise"):
                return self._sum_probs(frames)
        except FloatingPointError:  # of a very sure network; slower
            return self._sum_log_probs(frames)

    def _sum_probs(self, frames: NDArray[np.float64]) -> NDArray[np.float64]:
        """The recursion on probabilities; those of a sequence are rescaled to a maximum of 1 after each frame."""
        weights = self._skips.astype(np.float64)
        alpha = np.zeros(self._states.shape)  # [2U+1, W]
        alpha[0] = 1.0
        scale = np.zeros(len(self))  # [W], log of what has been divided away
        for number, frame in enumerate(np.exp(frames)):
            moved = alpha.copy()
            moved[1:] += alpha[:-1]
            if number:
                moved[2:] += weights * alpha[:-2]
            moved *= frame.take(self._states)
            top = moved.max(axis=0)  # [W]
            top[top == 0.0] = 1.0
            moved /= top
            scale += np.log(top)
            alpha = moved
        last, before = self._last(alpha, nothing=0.0)
        with np.errstate(divide="ignore"):
            return np.log(last + before) + scale

    def _sum_log_probs(self, frames: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same recursion on log-probabilities."""
        barred = np.where(self._skips, 0.0, -np.inf)
        alpha = np.full(self._states.shape, -np.inf)  # [2U+1, W]
        alpha[0] = 0.0
        for number, frame in enumerate(frames):
            moved = alpha.copy()
            moved[1:] = np.logaddexp(moved[1:], alpha[:-1])
            if number:
                moved[2:] = np.logaddexp(moved[2:], barred + alpha[:-2])
            alpha = moved + frame.take(self._states)
        return np.logaddexp(*self._last(alpha, nothing=-np.inf))

    def _last(self, alpha: NDArray[np.float64], nothing: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Each sequence's two states in which it may end [W]: the blank after its last label, and that label."""
        columns = np.arange(len(self))
        before = alpha[np.maximum(self._ends - 1, 0), columns]
        return alpha[self._ends, columns], np.where(self._ends > 0, before, nothing)
