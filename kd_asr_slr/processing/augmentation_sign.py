"""Augmentations of sign frames before their features are made, so that velocities and masks follow them.

Each takes the frames of `SignFeatureExtractor.read_frames`: points [T, P, C] with NaN where missing, and their layout.
Those that know nothing of points (`needs_points` is False) take any [T, F] as well. What is missing stays missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.landmarks import scale_of
from kd_asr_slr.processing.layouts import LAYOUTS, Layout


@dataclass(frozen=True)
class ResampleTime:
    """Sign faster or slower, by resampling the frames on a straight line between neighbours.

    Source: the range is that of Chen et al., "Two-Stream Network for Sign Language Recognition and Translation" (2022),
    section 4.1.

    Args:
        lowest, highest: range of the factor on the number of frames; 0.5 is twice as fast.
    """

    domain: ClassVar[str] = "landmarks"
    keeps_length: ClassVar[bool] = False
    needs_points: ClassVar[bool] = False
    lowest: float = 0.5
    highest: float = 1.5

    def __post_init__(self) -> None:
        if not 0 < self.lowest <= self.highest:
            raise UserError(f"resample_time from {self.lowest} to {self.highest}", "0 < lowest <= highest")

    def __call__(self, frames: np.ndarray, generator: np.random.Generator, layout: Layout | None = None) -> np.ndarray:
        """Resample the frames [T, ...] to about T * factor."""
        del layout
        count = max(1, round(len(frames) * generator.uniform(self.lowest, self.highest)))
        places = np.linspace(0, len(frames) - 1, count)
        before = np.floor(places).astype(int)
        after = np.minimum(before + 1, len(frames) - 1)
        share = (places - before).reshape(-1, *[1] * (frames.ndim - 1)).astype(frames.dtype)
        between = frames[before] * (1 - share) + frames[after] * share
        # Beside a missing point there is no line; the nearer frame says what is there.
        return np.where(np.isnan(between), frames[np.rint(places).astype(int)], between)


@dataclass(frozen=True)
class TemporalMixup:
    """Mix each frame with a frame close to it: x'[t] = (1 - w) x[t] + w x[t + d], |d| <= reach, w in 0 .. share.

    CTC needs one label sequence an utterance, and a mixture of two utterances has two. A mixture of neighbours within
    one utterance keeps the signs and their order, so its labels stay right; only their borders move, by `reach` frames
    at most. A point that is missing in the neighbour stays as it is.

    Source: after Zhang et al., "mixup" (2018), equation 1, within one utterance.

    Args:
        share: largest weight of the neighbour, up to 0.5; one weight is drawn for each utterance.
        reach: frames.
    """

    domain: ClassVar[str] = "landmarks"
    keeps_length: ClassVar[bool] = True
    needs_points: ClassVar[bool] = False
    share: float = 0.2
    reach: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.share <= 0.5 or self.reach < 1:
            raise UserError(
                f"temporal_mixup with share {self.share} and reach {self.reach}",
                "a share up to 0.5, a reach of 1 or more",
            )

    def __call__(self, frames: np.ndarray, generator: np.random.Generator, layout: Layout | None = None) -> np.ndarray:
        """Mix the frames [T, ...] with neighbours."""
        del layout
        weight = frames.dtype.type(generator.uniform(0, self.share))
        shifts = generator.integers(-self.reach, self.reach + 1, size=len(frames))
        partners = frames[np.clip(np.arange(len(frames)) + shifts, 0, len(frames) - 1)]
        mixed = (1 - weight) * frames + weight * partners
        return np.where(np.isnan(partners), frames, mixed)


@dataclass(frozen=True)
class Rotation:
    """Turn the signer in the image plane, all frames by one angle.

    Source: range and probability as in Guan et al., "Multi-Stream Keypoint Attention Network for Sign Language
    Recognition and Translation" (2024), drawn for each utterance instead of each batch.

    Args:
        degrees: largest angle to either side.
        probability: of turning an utterance at all.
    """

    domain: ClassVar[str] = "landmarks"
    keeps_length: ClassVar[bool] = True
    needs_points: ClassVar[bool] = True
    degrees: float = 15.0
    probability: float = 0.5

    def __call__(self, points: np.ndarray, generator: np.random.Generator, layout: Layout | None = None) -> np.ndarray:
        """Turn the points [T, P, C] around the middle of them all."""
        del layout
        angle = np.deg2rad(generator.uniform(-self.degrees, self.degrees))
        if generator.random() >= self.probability:
            return points
        cosine, sine = np.cos(angle), np.sin(angle)
        middle = _middle(points)
        turned = points.copy()
        turned[..., :2] = (points[..., :2] - middle) @ np.array([[cosine, sine], [-sine, cosine]]) + middle
        return turned


@dataclass(frozen=True)
class Translation:
    """Move the signer in the image, all frames by one vector.

    Features that are centred do not feel it: it is for `centre: none`.

    Source: range as in CESMM's per-sample translation.

    Args:
        share: largest shift in x and in y, in shoulder widths.
    """

    domain: ClassVar[str] = "landmarks"
    keeps_length: ClassVar[bool] = True
    needs_points: ClassVar[bool] = True
    share: float = 0.1

    def __call__(
        self, points: np.ndarray, generator: np.random.Generator, layout: Layout = LAYOUTS["mediapipe_holistic"]
    ) -> np.ndarray:
        """Move the points [T, P, C]."""
        shift = generator.uniform(-self.share, self.share, size=2) * scale_of(points, layout)
        moved = points.copy()
        moved[..., :2] += shift.astype(points.dtype)
        return moved


@dataclass(frozen=True)
class PartMasking:
    """Lose parts for a while, as a detector does: each is missing in one stretch of frames.

    Stretches up to the processor's `interpolate_gaps` are interpolated again.

    Args:
        probability: of losing a part, drawn for each.
        longest: longest stretch as a share of the utterance's frames.
        parts: which may be lost.
    """

    domain: ClassVar[str] = "landmarks"
    keeps_length: ClassVar[bool] = True
    needs_points: ClassVar[bool] = True
    probability: float = 0.25
    longest: float = 0.5
    parts: Sequence[str] = ("left_hand", "right_hand", "face")

    def __post_init__(self) -> None:
        known = sorted({name for layout in LAYOUTS.values() for name in layout.parts})
        unknown = [name for name in self.parts if name not in known]
        if unknown:
            raise UserError(f"part_masking names {', '.join(unknown)}", f"parts among {', '.join(known)}")

    def __call__(
        self, points: np.ndarray, generator: np.random.Generator, layout: Layout = LAYOUTS["mediapipe_holistic"]
    ) -> np.ndarray:
        """Put NaN into stretches of the points [T, P, C]; confidences there become 0."""
        masked = points.copy()
        for name in self.parts:
            lost = generator.random() < self.probability
            width = 1 + int(generator.integers(0, max(1, int(self.longest * len(points)))))
            start = int(generator.integers(0, max(1, len(points) - width + 1)))
            if lost and name in layout.parts:
                stretch = masked[start : start + width, layout.parts[name].points]
                stretch[..., : layout.dimensions] = np.nan
                stretch[..., layout.dimensions :] = 0.0
        return masked


@dataclass(frozen=True)
class Mirror:
    """Sign with the other hand: x is reflected, and left and right points change places.

    Args:
        probability: of mirroring an utterance.
    """

    domain: ClassVar[str] = "landmarks"
    keeps_length: ClassVar[bool] = True
    needs_points: ClassVar[bool] = True
    probability: float = 0.5

    def __call__(
        self, points: np.ndarray, generator: np.random.Generator, layout: Layout = LAYOUTS["mediapipe_holistic"]
    ) -> np.ndarray:
        """Reflect the points [T, P, C] at the middle of them all."""
        if generator.random() >= self.probability:
            return points
        mirrored = points[:, layout.mirror]
        mirrored[..., 0] = 2 * _middle(points)[0] - mirrored[..., 0]
        return mirrored


def _middle(points: np.ndarray) -> np.ndarray:
    """Mean x and y of the points that are there, [2]; zero where none is."""
    known = points[np.isfinite(points[..., :2]).all(axis=-1)][:, :2]
    return known.mean(axis=0) if len(known) else np.zeros(2, dtype=points.dtype)


SIGN_AUGMENTATIONS: dict[str, type] = {
    "resample_time": ResampleTime,
    "temporal_mixup": TemporalMixup,
    "rotation": Rotation,
    "translation": Translation,
    "part_masking": PartMasking,
    "mirror": Mirror,
}
