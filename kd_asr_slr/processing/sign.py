"""Sign language: from landmark files, or any other frame features, to the frames a recogniser takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.outputs import given
from kd_asr_slr.processing import landmarks
from kd_asr_slr.processing.base import RecogniserProcessor, UtteranceExtractor
from kd_asr_slr.processing.layouts import LAYOUTS as POINT_LAYOUTS
from kd_asr_slr.processing.layouts import Layout, describe_width
from kd_asr_slr.processing.projection import WHOLE, ColumnFitter, Columns, Projection
from kd_asr_slr.processing.sign_columns import column_ranges, landmark_columns, landmark_features
from kd_asr_slr.processing.sign_settings import LAYOUTS, VELOCITIES, problems_of

__all__ = ["LAYOUTS", "VELOCITIES", "SignFeatureExtractor", "SignProcessor"]


class SignFeatureExtractor(UtteranceExtractor):
    """Features of one signed utterance.

    A landmark layout gives, in this order: the points of the subset (each part centred and scaled by the signer's size,
    zero where missing), one mask channel a part (1 detected, 0.5 interpolated, 0 missing), the velocities, and the
    file's own temporal values if they are kept. Layout "raw" takes any width and standardises it with statistics that
    `fit` found on the training split.

    Args:
        layout: a key of `layouts.LAYOUTS`, or "raw"; all that follows but `frame_seconds` and `pca` is for landmarks.
        subset: points to use, e.g. "hands_pose", "points79", "points118"; see `layouts.Layout.subsets`.
        dimensions: 2 (x, y) or 3; default: what the layout has.
        velocity: "none", "forward", "backward" or "both".
        frame_seconds: seconds a frame of the video; 1.0 where unknown.
        centre: "part" (wrist, nose, mid-shoulder in each frame), "body" (the utterance's mid-shoulder) or "none".
        interpolate_gaps: frames; shorter gaps of a point are interpolated, and marked in the mask.
        confidence: whether each point's confidence follows its coordinates, where the layout has one.
        min_confidence: points up to that confidence are missing.
        temporal: "drop", or "keep" the temporal values of the file, standardised. They were usually made from points
            that were zero where missing; `velocity` respects the mask.
        pca: components to keep of all values, or of some streams: {"face": 64}; fitted on the training split.
        mean, deviation, projections: what `fit` found.

    Raises:
        UserError: for settings that no features can be made with.

    Example:
        >>> SignFeatureExtractor(subset="hands_pose", dimensions=2).feature_size  # 53 points x 2 + 3 masks
        109
        >>> SignFeatureExtractor("coco_wholebody", "points79", velocity="both").streams
        {'pose': (0, 22), 'hands': (22, 106), 'face': (106, 158), 'temporal': (158, 478)}
    """

    def __init__(
        self,
        layout: str = "mediapipe_holistic",
        subset: str = "hands_pose",
        dimensions: int | None = None,
        velocity: str = "none",
        frame_seconds: float = 1.0,
        centre: str = "part",
        interpolate_gaps: int = 0,
        confidence: bool = False,
        min_confidence: float = 0.0,
        temporal: str = "drop",
        pca: int | Mapping[str, int] | None = None,
        mean: Sequence[float] | None = None,
        deviation: Sequence[float] | None = None,
        projections: Mapping[str, Mapping[str, Any]] | None = None,
        padding_value: float = 0.0,
        **kwargs: object,
    ) -> None:
        self.layout = layout
        self.subset = subset
        default = POINT_LAYOUTS[layout].dimensions if layout in POINT_LAYOUTS else 3
        self.dimensions = default if dimensions is None else dimensions
        self.velocity = velocity
        self.frame_seconds = float(frame_seconds)
        self.centre = centre
        self.interpolate_gaps = interpolate_gaps
        self.confidence = confidence
        self.min_confidence = float(min_confidence)
        self.temporal = temporal
        self.pca = dict(pca) if isinstance(pca, Mapping) else pca
        self.mean = None if mean is None else [float(value) for value in mean]
        self.deviation = None if deviation is None else [float(value) for value in deviation]
        self.projections = {name: dict(saved) for name, saved in (projections or {}).items()}
        raise_all(problems_of(self), "the sign features")
        # What a saved configuration says of them follows from the rest.
        kwargs.pop("feature_size", None)
        kwargs.pop("sampling_rate", None)
        super().__init__(self._width(), sampling_rate=0, padding_value=padding_value, **kwargs)

    @property
    def points_layout(self) -> Layout | None:
        """The layout of the points; None for "raw"."""
        return POINT_LAYOUTS.get(self.layout)

    @property
    def augmented_layout(self) -> Layout | None:
        """By which the frames of `read_frames` can be rotated, mirrored and the like; None if they cannot."""
        return self.points_layout if self.temporal == "drop" else None

    def reads_as(self, other: SignFeatureExtractor) -> bool:
        """Whether the frames that this one reads are those that the other one takes."""
        names = ("layout", "temporal", "min_confidence")
        return all(getattr(self, name) == getattr(other, name) for name in names)

    @property
    def decisive(self) -> tuple[str, ...]:  # type: ignore[override]  # an attribute elsewhere
        """Names of the settings that decide the features; those that came later only where they do something."""
        later = {"pca": None, "centre": "part", "interpolate_gaps": 0, "confidence": False, "min_confidence": 0.0}
        if self.layout == "raw":
            return ("layout", "frame_seconds", "mean", "deviation", *(("pca", "projections") if self.pca else ()))
        names = ["layout", "frame_seconds", "points", "dimensions", "velocity"]
        names += [name for name, default in later.items() if getattr(self, name) != default]
        names += ["projections"] if self.pca else []
        return (*names, *(("temporal", "mean", "deviation") if self.temporal == "keep" else ()))

    @property
    def points(self) -> dict[str, tuple[int, ...]]:
        """Indices of the points of each part that is used."""
        return dict((self.points_layout or landmarks.HOLISTIC).subsets[self.subset])

    @property
    def needs_fitting(self) -> bool:  # type: ignore[override]  # an attribute elsewhere
        """Whether `fit` has yet to see the training split."""
        standardised = self.layout == "raw" or self.temporal == "keep"
        return (standardised and self.mean is None) or (self.pca is not None and not self.projections)

    @property
    def streams(self) -> Columns:
        """First and last column (exclusive) of each stream, in the order of the columns, which they cover.

        "pose", "hands" and "face" are points; "temporal" is what follows them: masks, velocities, and the temporal
        values of the file. Features without parts ("raw", or principal components of everything) are one stream,
        "features".

        Raises:
            UserError: for "raw" before `fit`, which finds their width.
        """
        if self.layout == "raw" and not self.feature_size:
            raise UserError("'raw' features without statistics", fix="call fit with the training split first")
        if self.layout == "raw" or isinstance(self.pca, int):
            return {WHOLE: (0, self.feature_size)}
        return self._projected_streams()

    @property
    def base_streams(self) -> Columns:
        """Streams of landmark features before any projection."""
        return landmark_columns(self)

    def _projected_streams(self) -> Columns:
        kept = self.pca if isinstance(self.pca, dict) else {}
        return column_ranges({name: kept.get(name, stop - start) for name, (start, stop) in self.base_streams.items()})

    def _width(self) -> int:
        if isinstance(self.pca, int):
            return self.pca
        if self.layout == "raw":
            return self.pca[WHOLE] if self.pca else len(self.mean or ())
        return max(stop for _, stop in self._projected_streams().values())

    def fit(self, utterances: Iterable[np.ndarray]) -> SignFeatureExtractor:
        """Find mean and deviation of "raw" or kept temporal values, and the principal components, where asked for.

        Args:
            utterances: frames [T, F] of each training utterance; read once, one at a time.

        Raises:
            UserError: if there is no utterance, or their widths differ, or they are too few for the components.
        """
        if not (self.layout == "raw" or self.temporal == "keep" or self.pca):
            return self
        fitter = ColumnFitter(self._standardised_from, self._projected_columns)
        for media in utterances:
            fitter.update(self._base(self.read_frames(media)))
        self.mean, self.deviation = fitter.statistics()
        self.projections = fitter.projections(self.pca)
        self.__dict__.pop("_projections", None)  # those of an earlier fit
        self.feature_size = self._width()
        return self

    def _standardised_from(self, width: int) -> int:
        """The first of the columns that are standardised; they are the last ones."""
        if self.layout == "raw":
            return 0
        kept = self.points_layout.temporal if self.points_layout and self.temporal == "keep" else 0
        return width - kept

    def _projected_columns(self, width: int) -> Columns:
        """First and last column of each projected stream, before the projection."""
        if self.pca is None:
            return {}
        if isinstance(self.pca, int) or self.layout == "raw":
            return {WHOLE: (0, width)}
        streams = self.base_streams
        return {name: streams[name] for name in self.pca}

    def extract(self, media: np.ndarray) -> np.ndarray:
        """Features of one utterance.

        Args:
            media: frames [T, F] or [T, P, C] in one of the widths of the layout; any [T, F] for layout "raw".

        Returns:
            float32 [T, feature_size].

        Raises:
            UserError: for a wrong width, no frame, or values that are not finite.
        """
        return self.extract_frames(self.read_frames(media))

    def read_frames(self, media: np.ndarray) -> np.ndarray:
        """The checked frames of an utterance, as augmentations take them.

        Args:
            media: as for `extract`.

        Returns:
            [T, P, C] with NaN in the coordinates of missing points; [T, F] for layout "raw", or with kept temporal
            values, which follow the points.
        """
        if self.points_layout is None:
            return _raw_frames(media)
        points, temporal = landmarks.read_points(media, self.layout, self.min_confidence)
        return (
            points if self.temporal == "drop" else np.concatenate([points.reshape(len(points), -1), temporal], axis=1)
        )

    def extract_frames(self, frames: np.ndarray) -> np.ndarray:
        """Features of what `read_frames` gave, augmented or not.

        Returns:
            float32 [T, feature_size].

        Raises:
            UserError: if `fit` has yet to be called, or the frames have another width than those it saw.
        """
        if self.needs_fitting:
            raise UserError(
                f"'{self.layout}' features without statistics",
                "their mean and deviation" if self.pca is None else "their principal components",
                fix="call fit with the training split first",
            )
        base = self._base(frames)
        start = self._standardised_from(base.shape[1])
        if start < base.shape[1]:
            base = self._standardised(base, start)
        return self._projected(base)

    def _base(self, frames: np.ndarray) -> np.ndarray:
        """Features that are neither standardised nor projected, [T, F]."""
        if self.points_layout is None:
            return frames
        if self.temporal == "drop":
            return landmark_features(self, frames)
        values = frames.shape[1] - self.points_layout.temporal
        points = frames[:, :values].reshape(len(frames), self.points_layout.points, -1)
        return np.concatenate([landmark_features(self, points), frames[:, values:]], axis=1)

    def _standardised(self, base: np.ndarray, start: int) -> np.ndarray:
        values = base[:, start:]
        mean = given(self.mean, "the mean")
        if values.shape[1] != len(mean):
            raise UserError(describe_width(values.shape[1]), f"{len(mean)}, as in the training split")
        values = ((values - np.asarray(mean)) / np.asarray(self.deviation)).astype(np.float32)
        return values if start == 0 else np.concatenate([base[:, :start], values], axis=1)

    def _projected(self, base: np.ndarray) -> np.ndarray:
        if self.pca is None:
            return base
        columns = self._projected_columns(base.shape[1])
        streams = columns if WHOLE in columns else self.base_streams
        blocks = [
            self._projections[name](base[:, first:last]) if name in columns else base[:, first:last]
            for name, (first, last) in streams.items()
        ]
        return np.concatenate(blocks, axis=1)

    @cached_property
    def _projections(self) -> dict[str, Projection]:
        return {name: Projection.from_dict(saved) for name, saved in self.projections.items()}

    def to_dict(self) -> dict[str, Any]:
        """The settings and statistics, for `save_pretrained`."""
        output = super().to_dict()
        output.pop("_projections", None)
        return output


class SignProcessor(RecogniserProcessor):
    """`SignFeatureExtractor` and `LabelTokenizer` in one folder.

    Example:
        >>> tokenizer = LabelTokenizer.from_texts(["REGEN MORGEN"], kind="words")
        >>> SignProcessor(SignFeatureExtractor(layout="raw"), tokenizer).fit(training_arrays).save_pretrained("run/")
    """


def _raw_frames(media: np.ndarray) -> np.ndarray:
    frames = np.asarray(media, dtype=np.float64)
    if frames.ndim == 3 and len(frames):
        frames = frames.reshape(len(frames), -1)
    if frames.ndim != 2 or not frames.size:
        raise UserError(f"features of shape {frames.shape}", "frames [T, F], at least one")
    landmarks.check_finite(frames)
    return frames
