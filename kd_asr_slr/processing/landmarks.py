"""Body landmarks: missing points, gaps, centring and scaling by part, differences over time. numpy only.

Inside the package a missing point is NaN, whatever the file writes for it (zeros, NaN, or confidence 0). It is not a
position: it takes no part in any centre, scale or difference. Features have zero in its place, beside a mask that says
so.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.layouts import LAYOUTS, Layout, wrong_width

HOLISTIC = LAYOUTS["mediapipe_holistic"]
# MediaPipe Holistic as the corpora write it: 543 points (x, y, z), part after part.
PARTS: dict[str, slice] = {name: part.points for name, part in HOLISTIC.parts.items()}
SUBSETS = HOLISTIC.subsets

CENTRES = ("part", "body", "none")
# What a mask channel says of a part.
DETECTED, INTERPOLATED, MISSING = 1.0, 0.5, 0.0


def read_points(features: np.ndarray, name: str, min_confidence: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """View frames as the points of a layout.

    Args:
        features: [T, F] or [T, P, C].
        name: a key of `LAYOUTS`.
        min_confidence: points up to that confidence are missing.

    Returns:
        Points, float32 [T, P, C], NaN in the coordinates of missing ones, and the frames' temporal values, float32
        [T, temporal].

    Raises:
        UserError: for another width, naming the layout it looks like; for no frame; for NaN where the layout has none.
    """
    layout = LAYOUTS[name]
    frames = np.asarray(features, dtype=np.float32)
    if frames.ndim not in (2, 3) or not frames.size:
        widths = " or ".join(str(width) for width in layout.widths)
        raise UserError(f"landmarks of shape {frames.shape}", f"[T, {widths}], at least one frame")
    flat = frames.reshape(len(frames), -1)
    if flat.shape[1] not in layout.widths:
        raise wrong_width(flat.shape[1], name)
    values = layout.points * layout.widths[flat.shape[1]]
    check_finite(flat[:, :values], nan="missing" if layout.missing_points else "refused")
    check_finite(flat[:, values:])
    points = flat[:, :values].reshape(len(flat), layout.points, -1)
    return mark_missing(points, layout, min_confidence), flat[:, values:]


def check_finite(frames: np.ndarray, nan: str = "refused") -> None:
    """Refuse infinite values, and NaN unless it means a missing point, naming the first bad frame.

    Args:
        frames: [T, F].
        nan: "refused" or "missing".

    Raises:
        UserError: if there is one.
    """
    bad = (np.isinf(frames) if nan == "missing" else ~np.isfinite(frames)).any(axis=1)
    if bad.any():
        raise UserError(
            f"NaN or infinite values in {bad.sum()} of {len(bad)} frames, first in frame {bad.argmax()}",
            "finite values",
        )


def mark_missing(points: np.ndarray, layout: Layout, min_confidence: float = 0.0) -> np.ndarray:
    """Put NaN into the coordinates of points that are missing, as their layout and their confidences tell.

    Args:
        points: [T, P, C].
        layout: theirs.
        min_confidence: points up to that confidence are missing.

    Returns:
        A copy, float32 [T, P, C]; confidences stay (0 instead of NaN).
    """
    points = np.array(points, dtype=np.float32)
    coordinates = points[..., : layout.dimensions]
    missing = np.isnan(coordinates).any(axis=-1)  # [T, P]
    if layout.missing_points:
        missing |= ~coordinates.any(axis=-1)
    if points.shape[-1] > layout.dimensions:
        confidences = np.nan_to_num(points[..., -1], nan=0.0)
        missing |= confidences <= min_confidence
        points[..., -1] = confidences
    for name, seen in part_masks(coordinates, layout).items():
        missing[~seen, layout.parts[name].points] = True
    coordinates[missing] = np.nan
    return points


def present(points: np.ndarray) -> np.ndarray:
    """Whether a part was detected: any of its values is not zero.

    Args:
        points: [T, P, C].

    Returns:
        bool [T].
    """
    return points.any(axis=(1, 2))


def part_masks(points: np.ndarray, layout: Layout = HOLISTIC) -> dict[str, np.ndarray]:
    """`present` for each part of a layout.

    Args:
        points: [T, P, C], as a file has them.
        layout: theirs.
    """
    return {name: present(points[:, part.points]) for name, part in layout.parts.items()}


def fill_gaps(points: np.ndarray, max_gap: int) -> np.ndarray:
    """Draw a straight line through gaps of up to `max_gap` frames; longer ones, and those at either end, stay.

    Args:
        points: [T, P, D], NaN where missing.
        max_gap: frames; 0 fills none.

    Returns:
        [T, P, D].
    """
    known = np.isfinite(points).all(axis=-1)  # [T, P]
    frames = len(points)
    if max_gap < 1 or known.all():
        return points
    time = np.arange(frames)[:, None]
    before = np.maximum.accumulate(np.where(known, time, -1), axis=0)  # last known frame up to here
    after = np.minimum.accumulate(np.where(known, time, frames)[::-1], axis=0)[::-1]  # first known from here on
    rows, columns = np.nonzero(~known & (before >= 0) & (after < frames) & (after - before - 1 <= max_gap))
    first, last = before[rows, columns], after[rows, columns]
    share = ((rows - first) / (last - first))[:, None]
    filled = points.copy()
    filled[rows, columns] = points[first, columns] * (1 - share) + points[last, columns] * share
    return filled


def body_scale(
    pose: np.ndarray,
    mask: np.ndarray | None = None,
    shoulders: tuple[int, int] = HOLISTIC.shoulders,
    hips: tuple[int, int] = HOLISTIC.hips,
) -> float:
    """Size of the signer: the median shoulder width of the utterance, or the torso's height where that is zero.

    One number an utterance, so that a shoulder seen from the side does not blow up the frame.

    Args:
        pose: [T, P, C], NaN where missing.
        mask: bool [T], the frames to look at; all by default.
        shoulders, hips: left and right.

    Returns:
        A positive length in the units of x and y; 1.0 where no pose was found.
    """
    seen = (pose if mask is None else pose[mask])[:, :, :2]
    left, right = (seen[:, index] for index in shoulders)
    width = _median_distance(left, right)
    if width > 1e-6:
        return width
    height = _median_distance((left + right) / 2, (seen[:, hips[0]] + seen[:, hips[1]]) / 2)
    return height if height > 1e-6 else 1.0


def _median_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Median distance over the frames that have both, 0 where none has."""
    distances = np.linalg.norm(first - second, axis=-1)
    distances = distances[np.isfinite(distances)]
    return float(np.median(distances)) if len(distances) else 0.0


def scale_of(points: np.ndarray, layout: Layout, part: str = "pose") -> float:
    """`body_scale` of an utterance, measured on its pose (or on another part that has the pose's joints).

    Args:
        points: [T, P, C], NaN where missing.
        layout: theirs.
        part: the pose.
    """
    return body_scale(points[:, layout.parts[part].points], None, layout.shoulders, layout.hips)


def part_centre(points: np.ndarray, layout: Layout, part: str) -> np.ndarray:
    """Where a part is centred in each frame, e.g. mid-shoulder (pose), wrist (hands), tip of the nose (face).

    Args:
        points: [T, P, D], NaN where missing.
        layout: theirs.
        part: its name.

    Returns:
        [T, 1, D]; NaN where one of the points that make the centre is missing.
    """
    centre = layout.parts[part].centre
    return points[:, layout.parts[part].points][:, list(centre)].sum(axis=1, keepdims=True) / len(centre)


def normalise_parts(
    points: np.ndarray, layout: Layout, subset: Mapping[str, tuple[int, ...]], centre: str = "part"
) -> dict[str, np.ndarray]:
    """Centre each part and divide by the size of the body.

    Args:
        points: coordinates, [T, P, D], NaN where missing.
        layout: theirs.
        subset: point indices for each part that is wanted.
        centre: "part": each part on its own centre in each frame, so that a part whose centre is missing is missing;
            "body": everything on the signer's median mid-shoulder; "none".

    Returns:
        For each part of the subset, [T, points of the part, D], NaN where missing.
    """
    parts = {}
    for name, indices in subset.items():
        # A pose in metres has a size of its own.
        measured = name if name == "pose_world" else "pose"
        chosen = points[:, layout.parts[name].points][:, list(indices)]
        if centre == "part":
            chosen = chosen - part_centre(points, layout, name)
        elif centre == "body":
            chosen = chosen - _median_position(part_centre(points, layout, measured))
        parts[name] = chosen / scale_of(points, layout, measured)
    return parts


def _median_position(centres: np.ndarray) -> np.ndarray:
    """Median over the frames that have it, zero where none has: [T, 1, D] -> [D]."""
    known = centres[np.isfinite(centres).all(axis=(1, 2))]
    return np.median(known, axis=(0, 1)) if len(known) else np.zeros(centres.shape[-1], dtype=centres.dtype)


def mask_channel(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """What happened to a part in each frame: 1 detected, 0.5 interpolated, 0 missing.

    Args:
        before, after: the part before and after gaps were filled, [T, P, D], NaN where missing.

    Returns:
        float32 [T, 1].
    """
    detected = np.isfinite(before).any(axis=(1, 2))
    there = np.isfinite(after).any(axis=(1, 2))
    states = np.where(detected, DETECTED, np.where(there, INTERPOLATED, MISSING))
    return states.astype(np.float32)[:, None]


def difference(values: np.ndarray, mask: np.ndarray, direction: str) -> np.ndarray:
    """Change per frame, zero wherever one of the two frames is missing or does not exist.

    Args:
        values: [T, F].
        mask: bool [T], or [T, F] where each value may be missing.
        direction: "forward" (next minus this) or "backward" (this minus previous).

    Returns:
        [T, F].
    """
    mask = mask[:, None] if mask.ndim == 1 else mask
    changes = np.where(mask[1:] & mask[:-1], values[1:] - values[:-1], 0.0)  # [T - 1, F]
    edge = np.zeros_like(values[:1])
    ordered = [changes, edge] if direction == "forward" else [edge, changes]
    return np.concatenate(ordered).astype(values.dtype)
