"""The columns of landmark features: points part by part, a mask a part, velocities part by part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from kd_asr_slr.errors import UserError
from kd_asr_slr.outputs import given
from kd_asr_slr.processing import landmarks
from kd_asr_slr.processing.projection import Columns
from kd_asr_slr.processing.sign_settings import VELOCITIES

if TYPE_CHECKING:
    from kd_asr_slr.processing.sign import SignFeatureExtractor


def landmark_columns(settings: SignFeatureExtractor) -> Columns:
    """First and last column (exclusive) of each stream: "pose", "hands", "face", then "temporal", all that follows."""
    values = settings.dimensions + int(settings.confidence)
    layout = given(settings.points_layout, "the layout of the landmarks")
    widths: dict[str, int] = {}
    for name, indices in settings.points.items():
        stream = layout.parts[name].stream
        widths[stream] = widths.get(stream, 0) + len(indices) * values
    positions = sum(map(len, settings.points.values())) * settings.dimensions
    kept = layout.temporal if settings.temporal == "keep" else 0
    widths["temporal"] = len(settings.points) + positions * len(VELOCITIES[settings.velocity]) + kept
    return column_ranges(widths)


def column_ranges(widths: Mapping[str, int]) -> Columns:
    """Widths one after the other -> first and last column (exclusive) of each."""
    ranges, start = {}, 0
    for name, width in widths.items():
        ranges[name] = (start, start + width)
        start += width
    return ranges


def landmark_features(settings: SignFeatureExtractor, points: np.ndarray) -> np.ndarray:
    """The columns of an utterance, without temporal values of its file.

    Args:
        settings: which points, and what is done to them.
        points: [T, P, C], NaN where missing.

    Returns:
        float32 [T, F].

    Raises:
        UserError: if confidences are asked for and the points have none.
    """
    layout, subset = given(settings.points_layout, "the layout of the landmarks"), settings.points
    coordinates = points[..., : settings.dimensions]
    before = landmarks.normalise_parts(coordinates, layout, subset, settings.centre)
    after = before
    if settings.interpolate_gaps:
        filled = landmarks.fill_gaps(coordinates, settings.interpolate_gaps)
        after = landmarks.normalise_parts(filled, layout, subset, settings.centre)
    known = {name: _flat(np.isfinite(part)) for name, part in after.items()}
    parts = {name: _flat(np.nan_to_num(part, nan=0.0)).astype(np.float32) for name, part in after.items()}
    columns = list((_with_confidence(settings, parts, points) if settings.confidence else parts).values())
    columns += [landmarks.mask_channel(before[name], after[name]) for name in parts]
    for direction in VELOCITIES[settings.velocity]:
        columns += [landmarks.difference(values, known[name], direction) for name, values in parts.items()]
    return np.concatenate(columns, axis=1)  # [T, F]


def _with_confidence(
    settings: SignFeatureExtractor, parts: Mapping[str, np.ndarray], points: np.ndarray
) -> dict[str, np.ndarray]:
    """Each point's confidence behind its coordinates."""
    layout = given(settings.points_layout, "the layout of the landmarks")
    if points.shape[-1] <= layout.dimensions:
        raise UserError(f"landmarks of {points.shape[-1]} values a point", "a confidence behind the coordinates")
    joined = {}
    for name, indices in settings.points.items():
        chosen = points[:, layout.parts[name].points]  # [T, points of the part, C]
        confidences = chosen[:, list(indices), -1:]  # [T, P, 1]
        values = parts[name].reshape(*confidences.shape[:2], -1)
        joined[name] = _flat(np.concatenate([values, confidences], axis=-1)).astype(np.float32)
    return joined


def _flat(part: np.ndarray) -> np.ndarray:
    return part.reshape(len(part), -1)
