"""Body landmarks: named layouts and point subsets, centring and scaling by part, differences over time. numpy only.

A missing part (e.g. a hand that the detector lost) is all zeros in its frame. It is not a position: it takes no part in
any centre or scale, and it stays zero after normalisation, beside a mask that says so.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kd_asr_slr.errors import UserError

# MediaPipe Holistic as the corpora write it: 543 points (x, y, z), part after part.
PARTS: dict[str, slice] = {
    "pose": slice(0, 33),
    "left_hand": slice(33, 54),
    "right_hand": slice(54, 75),
    "face": slice(75, 543),
}
POINTS = 543
COORDINATES = 3

# Indices inside the part: nose, shoulders, hips of the pose; the wrist of a hand; the tip of the nose of the face mesh.
LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP = 11, 12, 23, 24
HAND_WRIST = 0
FACE_NOSE = 1

# Nose, ears, shoulders, elbows, wrists, hips.
UPPER_BODY = (0, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24)
HAND = tuple(range(21))
# The outer contour of the lips in the face mesh, from one corner along the lower lip and back along the upper.
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)

SUBSETS: dict[str, dict[str, tuple[int, ...]]] = {
    "hands": {"left_hand": HAND, "right_hand": HAND},
    "hands_pose": {"pose": UPPER_BODY, "left_hand": HAND, "right_hand": HAND},
    "hands_pose_lips": {"pose": UPPER_BODY, "left_hand": HAND, "right_hand": HAND, "face": LIPS},
    "all": {name: tuple(range(part.stop - part.start)) for name, part in PARTS.items()},
}

# What a frame of that many values usually is; only for messages.
KNOWN_WIDTHS: dict[int, str] = {
    99: "MediaPipe pose, 33 x 3",
    126: "two MediaPipe hands, 42 x 3",
    150: "MediaPipe pose and hands without face, 75 x 2",
    225: "MediaPipe pose and hands without face, 75 x 3",
    266: "COCO-WholeBody, 133 x 2",
    399: "COCO-WholeBody, 133 x 3",
    1086: "MediaPipe Holistic without depth, 543 x 2",
    1404: "MediaPipe face mesh, 468 x 3",
    1629: "MediaPipe Holistic, 543 x 3",
    1659: "MediaPipe Holistic with irises, 553 x 3",
    1662: "MediaPipe Holistic with pose visibility, 33 x 4 + 510 x 3",
    3318: "pose 33 x 2, hands 42 x 2, face 478 x 2, each with velocity and acceleration",
    6516: "pose 99, hands 126, face 1404, temporal 4887",
}


def describe_width(width: int) -> str:
    """What a frame of `width` values looks like, for messages.

    Example:
        >>> describe_width(225)
        '225 values a frame (looks like MediaPipe pose and hands without face, 75 x 3)'
    """
    known = KNOWN_WIDTHS.get(width)
    return f"{width} values a frame" + (f" (looks like {known})" if known else "")


def holistic_points(features: np.ndarray) -> np.ndarray:
    """View frames as the 543 points of MediaPipe Holistic.

    Args:
        features: [T, 1629] or [T, 543, 3].

    Returns:
        float32 [T, 543, 3].

    Raises:
        UserError: for another width, naming the layout it looks like; for no frame; for NaN.
    """
    frames = np.asarray(features, dtype=np.float32)
    if frames.ndim not in (2, 3) or not frames.size:
        raise UserError(f"landmarks of shape {frames.shape}", f"[T, {POINTS * COORDINATES}], at least one frame")
    flat = frames.reshape(len(frames), -1)
    if flat.shape[1] != POINTS * COORDINATES:
        expected = f"{POINTS * COORDINATES} = {POINTS} points x {COORDINATES} for the layout 'mediapipe_holistic'"
        raise UserError(describe_width(flat.shape[1]), expected, fix="set the layout to 'raw', or convert the features")
    check_finite(flat)
    return flat.reshape(-1, POINTS, COORDINATES)


def check_finite(frames: np.ndarray) -> None:
    """Refuse NaN and infinite values, naming the first bad frame.

    Args:
        frames: [T, F].

    Raises:
        UserError: if there is one.
    """
    bad = ~np.isfinite(frames).all(axis=1)
    if bad.any():
        raise UserError(
            f"NaN or infinite values in {bad.sum()} of {len(bad)} frames, first in frame {bad.argmax()}",
            "finite values",
        )


def present(points: np.ndarray) -> np.ndarray:
    """Whether a part was detected: any of its values is not zero.

    Args:
        points: [T, P, C].

    Returns:
        bool [T].
    """
    return points.any(axis=(1, 2))


def part_masks(points: np.ndarray) -> dict[str, np.ndarray]:
    """`present` for each part of MediaPipe Holistic.

    Args:
        points: [T, 543, 3].
    """
    return {name: present(points[:, part]) for name, part in PARTS.items()}


def body_scale(pose: np.ndarray, mask: np.ndarray) -> float:
    """Size of the signer: the median shoulder width of the utterance, or the torso's height where that is zero.

    One number an utterance, so that a shoulder seen from the side does not blow up the frame.

    Args:
        pose: [T, 33, 3].
        mask: bool [T], frames with a pose.

    Returns:
        A positive length in the units of x and y; 1.0 where no pose was found.
    """
    seen = pose[mask][:, :, :2]
    if not len(seen):
        return 1.0
    width = float(np.median(np.linalg.norm(seen[:, LEFT_SHOULDER] - seen[:, RIGHT_SHOULDER], axis=-1)))
    shoulders = (seen[:, LEFT_SHOULDER] + seen[:, RIGHT_SHOULDER]) / 2
    hips = (seen[:, LEFT_HIP] + seen[:, RIGHT_HIP]) / 2
    height = float(np.median(np.linalg.norm(shoulders - hips, axis=-1)))
    return next((length for length in (width, height) if length > 1e-6), 1.0)


def part_centre(name: str, points: np.ndarray) -> np.ndarray:
    """Where a part is centred in each frame: mid-shoulder (pose), wrist (hands), tip of the nose (face).

    Args:
        name: a key of `PARTS`.
        points: all points of that part, [T, P, C].

    Returns:
        [T, 1, C].
    """
    if name == "pose":
        return (points[:, LEFT_SHOULDER : LEFT_SHOULDER + 1] + points[:, RIGHT_SHOULDER : RIGHT_SHOULDER + 1]) / 2
    index = FACE_NOSE if name == "face" else HAND_WRIST
    return points[:, index : index + 1]


def normalise_parts(
    points: np.ndarray, masks: Mapping[str, np.ndarray], subset: Mapping[str, tuple[int, ...]], dimensions: int
) -> dict[str, np.ndarray]:
    """Centre each part, divide by the size of the body, and put missing parts back to zero.

    Args:
        points: [T, 543, 3].
        masks: bool [T] for each part.
        subset: point indices for each part that is wanted.
        dimensions: 2 (x, y) or 3.

    Returns:
        For each part of the subset, float32 [T, P * dimensions].
    """
    scale = body_scale(points[:, PARTS["pose"]], masks["pose"])
    parts = {}
    for name, indices in subset.items():
        part = points[:, PARTS[name]]
        centred = (part[:, list(indices)] - part_centre(name, part)) / scale
        kept = np.where(masks[name][:, None, None], centred[:, :, :dimensions], 0.0)
        parts[name] = kept.reshape(len(points), -1).astype(np.float32)
    return parts


def difference(values: np.ndarray, mask: np.ndarray, direction: str) -> np.ndarray:
    """Change per frame, zero wherever one of the two frames is missing or does not exist.

    Args:
        values: [T, F].
        mask: bool [T].
        direction: "forward" (next minus this) or "backward" (this minus previous).

    Returns:
        [T, F].
    """
    changes = np.where((mask[1:] & mask[:-1])[:, None], values[1:] - values[:-1], 0.0)  # [T - 1, F]
    edge = np.zeros_like(values[:1])
    ordered = [changes, edge] if direction == "forward" else [edge, changes]
    return np.concatenate(ordered).astype(values.dtype)
