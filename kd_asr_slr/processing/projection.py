"""Principal components of features, fitted on the training split and stored exactly."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kd_asr_slr.errors import UserError
from kd_asr_slr.outputs import given
from kd_asr_slr.processing.standardisation import RunningCovariance, RunningStatistics

# Name -> first and last column (exclusive).
Columns = dict[str, tuple[int, int]]
# The name of features that have no parts, or of all their parts together.
WHOLE = "features"


@dataclass(frozen=True)
class Projection:
    """Projection on the directions of largest variance.

    Args:
        mean: of the training frames, float64 [F].
        components: orthonormal rows in the order of their variance, float32 [N, F].
        explained: share of the variance that they keep.
    """

    mean: np.ndarray
    components: np.ndarray
    explained: float

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Project frames [T, F]; float32 [T, N]."""
        centred = np.asarray(frames, dtype=np.float64) - self.mean
        return (centred @ self.components.T.astype(np.float64)).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, bit for bit."""
        return {
            "mean": _encoded(self.mean, "<f8"),
            "components": _encoded(self.components, "<f4"),
            "explained": self.explained,
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Projection:
        """What `to_dict` gave."""
        mean = np.frombuffer(base64.b64decode(saved["mean"]), dtype="<f8")
        components = np.frombuffer(base64.b64decode(saved["components"]), dtype="<f4")
        return cls(mean, components.reshape(-1, len(mean)), saved["explained"])


def _encoded(array: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=kind).tobytes()).decode("ascii")


def fit_projection(mean: np.ndarray, covariance: np.ndarray, components: int, frames: int) -> Projection:
    """The first principal components of a covariance.

    Their signs are such that the entry of largest size in each is positive.

    Args:
        mean: [F].
        covariance: [F, F].
        components: how many to keep.
        frames: how many the covariance was made of.

    Raises:
        UserError: if there are fewer values or frames than components.

    Source: Hotelling, "Analysis of a complex of statistical variables into principal components" (1933).
    """
    from scipy.linalg import eigh

    width = len(mean)
    if components > min(width, frames):
        raise UserError(
            f"{components} principal components of {width} values in {frames} training frames",
            f"at most {min(width, frames)}",
            fix="lower pca",
        )
    variances, vectors = eigh(covariance, subset_by_index=(width - components, width - 1))  # ascending, [F, N]
    rows = vectors.T[::-1]
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)
    total = float(np.trace(covariance))
    explained = float(np.clip(variances, 0.0, None).sum()) / total if total > 0 else 1.0
    return Projection(mean, (rows * np.sign(largest)).astype(np.float32), explained)


class ColumnFitter:
    """Statistics for features whose last columns are standardised, and some of whose columns are then projected.

    Everything is found in one pass: the covariance of standardised columns follows from that of the others.

    Args:
        standardised_from: width of the features -> the first column that is standardised; the width, where none is.
        projected: width of the features -> the columns of each projection.
    """

    def __init__(self, standardised_from: Callable[[int], int], projected: Callable[[int], Columns]) -> None:
        self._standardised_from = standardised_from
        self._projected = projected
        self._running = RunningStatistics()
        self._covariances: dict[str, RunningCovariance] = {}
        self._width: int | None = None

    def update(self, frames: np.ndarray) -> None:
        """Add the features [T, F] of one utterance.

        Raises:
            UserError: if its width is not that of the utterances before.
        """
        width = frames.shape[1]
        if self._width not in (None, width):
            raise UserError(f"an utterance with {width} values a frame", f"{self._width} as in those before it")
        self._width = width
        start = self._standardised_from(width)
        if start < width:
            self._running.update(frames[:, start:])
        for name, (first, last) in self._projected(width).items():
            self._covariances.setdefault(name, RunningCovariance()).update(frames[:, first:last])

    def statistics(self) -> tuple[list[float], list[float]] | tuple[None, None]:
        """Mean and deviation of the standardised columns; None where there are none.

        Raises:
            UserError: if there was no utterance.
        """
        if self._width is None:
            raise UserError("no utterance to fit the features on", "at least one in the training split")
        if self._standardised_from(self._width) == self._width:
            return None, None
        return given(self._running.mean, "the mean").tolist(), self._running.deviation().tolist()

    def projections(self, kept: int | Mapping[str, int] | None) -> dict[str, dict[str, Any]]:
        """The projections, as `Projection.to_dict` gives them.

        Args:
            kept: components of all, or of each.

        Raises:
            UserError: if there are too few values or frames for them.
        """
        fitted = {}
        for name, (first, last) in self._projected(given(self._width, "the width")).items():
            running = self._covariances[name]
            mean, deviation = self._standardisation(first, last)
            covariance = running.covariance() / np.outer(deviation, deviation)
            count = kept[name] if isinstance(kept, Mapping) else given(kept, "a number of components")
            centre = (running.mean - mean) / deviation
            fitted[name] = fit_projection(centre, covariance, count, running.count).to_dict()
        return fitted

    def _standardisation(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation by which columns first to last are standardised; 0 and 1 where they are not."""
        width = given(self._width, "the width")
        mean, deviation = np.zeros(width), np.ones(width)
        start = self._standardised_from(width)
        if start < width:
            mean[start:], deviation[start:] = self._running.mean, self._running.deviation()
        return mean[first:last], deviation[first:last]
