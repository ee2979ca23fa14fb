"""What a search is handed: log-probabilities, checked instead of guessed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kd_asr_slr.errors import UserError

# Half precision leaves rows of a large vocabulary some thousandths away from 1.
ROW_SUM_TOLERANCE = 1e-2


def check_log_probs(log_probs: ArrayLike, vocabulary_size: int | None = None) -> NDArray[np.float64]:
    """Return the matrix as float64 after checking that every row is a distribution.

    Args:
        log_probs: natural log-probabilities [T, V]; T may be 0, single entries may be -inf.
        vocabulary_size: V, where it is known.

    Raises:
        ValueError: wrong shape, or rows whose probabilities do not sum to 1 (raw logits, probabilities).
        UserError: NaN or +inf in the matrix, the output of a model that has diverged.

    Example:
        >>> check_log_probs([[-0.6931471805599453, -0.6931471805599453]]).shape
        (1, 2)
    """
    matrix = as_matrix(np.asarray(log_probs, dtype=np.float64), vocabulary_size)  # [T, V]
    check_mass(matrix, masses(matrix).sum(axis=1))
    return matrix


def as_matrix(log_probs: NDArray[np.floating], vocabulary_size: int | None = None) -> NDArray[np.floating]:
    """Return the scores of one utterance after checking their shape only.

    Raises:
        ValueError: if they are not [T, V].
    """
    if log_probs.ndim != 2:
        raise ValueError(f"log-probabilities have shape {log_probs.shape}; expected two dimensions [T, V]")
    if vocabulary_size is not None and log_probs.shape[1] != vocabulary_size:
        raise ValueError(
            f"log-probabilities have {log_probs.shape[1]} columns; the vocabulary has {vocabulary_size} tokens"
        )
    return log_probs


def masses(log_probs: NDArray[np.floating]) -> NDArray[np.floating]:
    """Probabilities of a matrix that may turn out to hold no log-probabilities: nothing is warned about."""
    with np.errstate(over="ignore"):  # raw logits may be large; the message of `check_mass` speaks for them
        return np.exp(log_probs)


def refuse_nan(scores: NDArray[np.floating]) -> None:
    """Raise where the scores hold NaN or +inf: argmax would silently pick such an entry.

    Args:
        scores: logits or log-probabilities of any shape.

    Raises:
        UserError: with the number of such entries.
    """
    bad = int(np.count_nonzero(np.isnan(scores) | np.isposinf(scores)))
    if bad:
        raise UserError(
            f"{bad} of {scores.size} output scores are NaN or infinite",
            expected="finite outputs",
            fix="score a checkpoint from before the training diverged, or check its input features",
        )


def check_mass(log_probs: NDArray[np.floating], sums: NDArray[np.floating]) -> None:
    """Raise unless every row sums to 1 in the probability domain.

    Args:
        log_probs: [T, V].
        sums: [T], sums of its rows' `masses`. NaN and +inf show in them, so the matrix is not searched for these.

    Raises:
        ValueError: where a row does not.
        UserError: where the reason is NaN or +inf.
    """
    wrong = np.flatnonzero(~(np.abs(sums - 1.0) <= ROW_SUM_TOLERANCE))
    if not wrong.size:
        return
    refuse_nan(log_probs)
    raise ValueError(
        f"row {wrong[0]} has a probability mass of {sums[wrong[0]]:.6g} ({wrong.size} such rows of {len(sums)}); "
        "expected log-probabilities whose rows sum to 1: apply log_softmax to the logits once"
    )
