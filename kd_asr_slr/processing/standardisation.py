"""Mean and deviation of features that do not fit in memory."""

from __future__ import annotations

import numpy as np
from scipy.linalg.blas import dsyrk

from kd_asr_slr.errors import UserError


class RunningStatistics:
    """Mean and standard deviation per feature, one utterance at a time, in float64.

    Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979),
    equation 2.1; unlike a sum of squares it does not cancel for features far from zero.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: np.ndarray | None = None
        self.squares: np.ndarray | None = None

    def update(self, frames: np.ndarray) -> None:
        """Add the frames [T, F] of one utterance.

        Raises:
            UserError: if its width is not that of the utterances before.
        """
        frames = np.asarray(frames, dtype=np.float64)
        count, mean = len(frames), frames.mean(axis=0)
        squares = np.square(frames - mean).sum(axis=0)
        if self.mean is None:
            self.count, self.mean, self.squares = count, mean, squares
            return
        if mean.shape != self.mean.shape:
            raise UserError(f"an utterance with {len(mean)} values a frame", f"{len(self.mean)} as in those before it")
        total = self.count + count
        shift = mean - self.mean
        self.mean = self.mean + shift * (count / total)
        self.squares = self.squares + squares + np.square(shift) * (self.count * count / total)
        self.count = total

    def deviation(self) -> np.ndarray:
        """Population standard deviation [F]; 1 for features that never change, which are zero once centred.

        Raises:
            UserError: if no utterance has been added.
        """
        if self.squares is None or self.mean is None:
            raise UserError("no utterance to fit the features on", "at least one in the training split")
        deviation = np.sqrt(self.squares / self.count)
        # What float32 features cannot resolve is rounding, not change.
        constant = deviation <= np.finfo(np.float32).eps * np.abs(self.mean)
        return np.where(constant, 1.0, deviation)


class RunningCovariance:
    """Mean and covariance, one utterance at a time, in float64; exact up to rounding.

    Source: Chan, Golub, LeVeque (1979), equation 2.1, with the outer product in place of the square.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: np.ndarray | None = None
        self._lower: np.ndarray | None = None

    def update(self, frames: np.ndarray) -> None:
        """Add the frames [T, F] of one utterance.

        Raises:
            UserError: if its width is not that of the utterances before.
        """
        frames = np.asarray(frames, dtype=np.float64)
        count, mean = len(frames), frames.mean(axis=0)
        if self.mean is None:
            self.mean = np.zeros_like(mean)
            self._lower = np.zeros((len(mean), len(mean)), order="F")
        if mean.shape != self.mean.shape:
            raise UserError(f"an utterance with {len(mean)} values a frame", f"{len(self.mean)} as in those before it")
        total = self.count + count
        shift = mean - self.mean
        # The shift of the mean counts as one more row, weighted by both counts.
        rows = np.concatenate([frames - mean, shift[None] * np.sqrt(self.count * count / total)])
        # In place and of one triangle only: for thousands of features a copy an utterance is what takes the time.
        self._lower = dsyrk(1.0, rows.T, beta=1.0, c=self._lower, lower=1, overwrite_c=1)
        self.mean = self.mean + shift * (count / total)
        self.count = total

    def covariance(self) -> np.ndarray:
        """Population covariance [F, F].

        Raises:
            UserError: if there was no utterance.
        """
        if self._lower is None:
            raise UserError("no utterance to fit the features on", "at least one in the training split")
        products = np.tril(self._lower)
        return (products + np.tril(products, -1).T) / self.count
