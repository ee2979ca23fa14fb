"""Sign language: from landmark files, or any other frame features, to the frames a recogniser takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from transformers import PreTrainedConfig

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.processing import landmarks
from kd_asr_slr.processing.base import RecogniserProcessor, UtteranceExtractor, register
from kd_asr_slr.processing.standardisation import RunningStatistics

LAYOUTS = ("mediapipe_holistic", "raw")
VELOCITIES: dict[str, tuple[str, ...]] = {
    "none": (),
    "forward": ("forward",),
    "backward": ("backward",),
    "both": ("forward", "backward"),
}


class SignFeatureExtractor(UtteranceExtractor):
    """Features of one signed utterance.

    Layout "mediapipe_holistic" takes frames of 543 x 3 values and gives, in this order: the points of the subset (each
    part centred and scaled by the signer's size, zero where missing), one mask channel a part (1 detected, 0 missing),
    and the velocities. Layout "raw" takes any width and standardises it with statistics that `fit` found on the
    training split.

    Args:
        layout: "mediapipe_holistic" or "raw".
        subset: a key of `landmarks.SUBSETS`; MediaPipe only.
        dimensions: 2 (x, y) or 3; MediaPipe only.
        velocity: "none", "forward", "backward" or "both"; MediaPipe only.
        frame_seconds: seconds a frame of the video; 1.0 where unknown.
        mean, deviation: statistics of a fitted "raw" extractor, [F] each.

    Raises:
        UserError: for settings that no features can be made with.

    Example:
        >>> SignFeatureExtractor(subset="hands_pose", dimensions=2).feature_size  # 53 points x 2 + 3 masks
        109
    """

    def __init__(
        self,
        layout: str = "mediapipe_holistic",
        subset: str = "hands_pose",
        dimensions: int = 3,
        velocity: str = "none",
        frame_seconds: float = 1.0,
        mean: Sequence[float] | None = None,
        deviation: Sequence[float] | None = None,
        padding_value: float = 0.0,
        **kwargs: object,
    ) -> None:
        self.layout = layout
        self.subset = subset
        self.dimensions = dimensions
        self.velocity = velocity
        self.frame_seconds = float(frame_seconds)
        self.mean = None if mean is None else [float(value) for value in mean]
        self.deviation = None if deviation is None else [float(value) for value in deviation]
        raise_all(self._problems(), "the sign features")
        # What a saved configuration says of them follows from the rest.
        kwargs.pop("feature_size", None)
        kwargs.pop("sampling_rate", None)
        super().__init__(self._width(), sampling_rate=0, padding_value=padding_value, **kwargs)

    def _problems(self) -> list[str]:
        problems = []
        if self.layout not in LAYOUTS:
            problems.append(f"unknown layout '{self.layout}'; expected one of {', '.join(LAYOUTS)}")
        if self.subset not in landmarks.SUBSETS:
            problems.append(f"unknown subset '{self.subset}'; expected one of {', '.join(landmarks.SUBSETS)}")
        if self.dimensions not in (2, 3):
            problems.append(f"dimensions is {self.dimensions}; expected 2 or 3")
        if self.velocity not in VELOCITIES:
            problems.append(f"unknown velocity '{self.velocity}'; expected one of {', '.join(VELOCITIES)}")
        if not self.frame_seconds > 0:
            problems.append(f"frame_seconds is {self.frame_seconds}; expected above 0")
        return problems

    def _width(self) -> int:
        if self.layout == "raw":
            return 0 if self.mean is None else len(self.mean)
        subset = landmarks.SUBSETS[self.subset]
        values = sum(len(indices) for indices in subset.values()) * self.dimensions
        return values * (1 + len(VELOCITIES[self.velocity])) + len(subset)

    @property
    def decisive(self) -> tuple[str, ...]:
        """Names of the settings that decide the features."""
        if self.layout == "raw":
            return ("layout", "frame_seconds", "mean", "deviation")
        return ("layout", "frame_seconds", "points", "dimensions", "velocity")

    @property
    def points(self) -> dict[str, tuple[int, ...]]:
        """Indices of the points of each part that is used."""
        return landmarks.SUBSETS[self.subset]

    @property
    def needs_fitting(self) -> bool:
        """Whether `fit` has yet to see the training split."""
        return self.layout == "raw" and self.mean is None

    def fit(self, utterances: Iterable[np.ndarray]) -> SignFeatureExtractor:
        """Find the mean and the deviation of each value; layout "raw" only, others need none.

        Args:
            utterances: frames [T, F] of each training utterance; read once, one at a time.

        Raises:
            UserError: if there is no utterance, or their widths differ.
        """
        if self.layout != "raw":
            return self
        statistics = RunningStatistics()
        for frames in utterances:
            statistics.update(_raw_frames(frames))
        self.deviation = statistics.deviation().tolist()
        self.mean = statistics.mean.tolist()
        self.feature_size = len(self.mean)
        return self

    def extract(self, media: np.ndarray) -> np.ndarray:
        """Features of one utterance.

        Args:
            media: frames [T, 1629] or [T, 543, 3]; any [T, F] for layout "raw".

        Returns:
            float32 [T, feature_size].

        Raises:
            UserError: for a wrong width, no frame, or values that are not finite.
        """
        return self._standardised(media) if self.layout == "raw" else self._landmark_features(media)

    def _standardised(self, media: np.ndarray) -> np.ndarray:
        if self.needs_fitting:
            raise UserError(
                "'raw' features without statistics",
                "their mean and deviation",
                fix="call fit with the training split first",
            )
        frames = _raw_frames(media)
        if frames.shape[1] != self.feature_size:
            raise UserError(landmarks.describe_width(frames.shape[1]), f"{self.feature_size}, as in the training split")
        return ((frames - np.asarray(self.mean)) / np.asarray(self.deviation)).astype(np.float32)

    def _landmark_features(self, media: np.ndarray) -> np.ndarray:
        points = landmarks.holistic_points(media)  # [T, 543, 3]
        masks = landmarks.part_masks(points)
        parts = landmarks.normalise_parts(points, masks, self.points, self.dimensions)
        columns = [*parts.values(), *(masks[name].astype(np.float32)[:, None] for name in parts)]
        for direction in VELOCITIES[self.velocity]:
            columns += [landmarks.difference(values, masks[name], direction) for name, values in parts.items()]
        return np.concatenate(columns, axis=1)  # [T, feature_size]


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


class _SignKey(PreTrainedConfig):
    """The key of the sign classes in transformers' registries; no model has this configuration."""

    model_type = "kd_asr_slr_sign"


register(_SignKey, SignFeatureExtractor, SignProcessor)
