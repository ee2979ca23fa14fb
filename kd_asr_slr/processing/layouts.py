"""Landmark layouts by name: which points a frame holds, where its parts lie, and which subsets of points to use.

A new layout is an entry of `LAYOUTS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kd_asr_slr.errors import UserError
from kd_asr_slr.processing import face_mesh

Subset = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Part:
    """Points that are detected, centred and mirrored together.

    Args:
        points: where they lie among those of the layout.
        stream: "pose", "hands" or "face".
        centre: points of the part whose mean is its centre.
        mirror: for each point the one of `opposite` that takes its place in a mirror.
        opposite: the part on the other side; None where it is the part itself.
    """

    points: slice
    stream: str
    centre: tuple[int, ...]
    mirror: tuple[int, ...]
    opposite: str | None = None


@dataclass(frozen=True)
class Layout:
    """What the values of a frame are.

    Args:
        parts: in the order of the features, whatever their order in the file.
        shoulders, hips: left and right, inside the part "pose".
        subsets: by name, point indices of each part that is wanted; without "all", which every layout has.
        dimensions: coordinates of a point, 2 or 3.
        channels: values a point may have in the file; one more than `dimensions` means that the last is a confidence.
        missing_points: whether points go missing one by one (NaN, or zero in all coordinates); otherwise a part is
            missing as a whole (all zeros), and NaN is refused.
        temporal: values a frame that follow those of the points: velocities and the like, computed by somebody else.
    """

    parts: Mapping[str, Part]
    shoulders: tuple[int, int]
    hips: tuple[int, int]
    named_subsets: Mapping[str, Subset]
    dimensions: int = 3
    channels: tuple[int, ...] = (3,)
    missing_points: bool = False
    temporal: int = 0

    @cached_property
    def points(self) -> int:
        """Number of points."""
        return sum(self.size(name) for name in self.parts)

    @cached_property
    def widths(self) -> dict[int, int]:
        """Values a frame -> values a point, for each form that a file may have."""
        return {self.points * channels + self.temporal: channels for channels in self.channels}

    @cached_property
    def subsets(self) -> dict[str, Subset]:
        """Point indices by subset and part; "all" is every point."""
        everything = {name: tuple(range(self.size(name))) for name in self.parts}
        return {**self.named_subsets, "all": everything}

    @cached_property
    def has_confidence(self) -> bool:
        """Whether a file may hold confidences."""
        return max(self.channels) > self.dimensions

    @cached_property
    def mirror(self) -> np.ndarray:
        """For each point the one that takes its place in a mirror; int [P]."""
        index = np.zeros(self.points, dtype=np.int64)
        for name, part in self.parts.items():
            opposite = self.parts[part.opposite or name]
            index[part.points] = opposite.points.start + np.asarray(part.mirror)
        return index

    def size(self, part: str) -> int:
        """Number of points of a part."""
        return self.parts[part].points.stop - self.parts[part].points.start


HAND_POINTS = 21
HAND = tuple(range(HAND_POINTS))
HANDS: Subset = {"left_hand": HAND, "right_hand": HAND}

# MediaPipe Pose: nose, ears, shoulders, elbows, wrists, hips; then with eyes instead of hips, as MSKA has them.
UPPER_BODY = (0, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24)
MSKA_BODY = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16)
_POSE_PAIRS = ((1, 4), (2, 5), (3, 6), *((index, index + 1) for index in range(7, 33, 2)))
_MEDIAPIPE_JOINTS: dict[str, Any] = {"shoulders": (11, 12), "hips": (23, 24)}
_COCO_PAIRS = (*((index, index + 1) for index in range(1, 17, 2)), (17, 20), (18, 21), (19, 22))
_COCO_UPPER_BODY = (0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
_OPENPOSE_PAIRS = (
    (2, 5),
    (3, 6),
    (4, 7),
    (9, 12),
    (10, 13),
    (11, 14),
    (15, 16),
    (17, 18),
    (19, 22),
    (20, 23),
    (21, 24),
)
_OPENPOSE_UPPER_BODY = (0, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9)
_OPENPOSE_MSKA_BODY = (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4)
_IBUG_LIPS = tuple(range(48, 60))
_IBUG_NOSE_TIP = 30

MEDIAPIPE_SUBSETS: dict[str, Subset] = {
    "hands": HANDS,
    "hands_pose": {"pose": UPPER_BODY, **HANDS},
    "hands_pose_lips": {"pose": UPPER_BODY, **HANDS, "face": face_mesh.LIPS},
    "points79": {"pose": MSKA_BODY, **HANDS, "face": face_mesh.MSKA_MESH},
    "points118": {**HANDS, "face": face_mesh.KAGGLE_FACE},
}


def _parts(pose: Part, left: int, right: int, face: Part) -> dict[str, Part]:
    """The four parts in the order of the features; hands by their first point."""
    return {
        "pose": pose,
        "left_hand": Part(slice(left, left + HAND_POINTS), "hands", (0,), HAND, "right_hand"),
        "right_hand": Part(slice(right, right + HAND_POINTS), "hands", (0,), HAND, "left_hand"),
        "face": face,
    }


def _mediapipe_pose(start: int) -> Part:
    return Part(slice(start, start + 33), "pose", _MEDIAPIPE_JOINTS["shoulders"], face_mesh.swapped(33, _POSE_PAIRS))


def _mesh(start: int, irises: bool = False) -> Part:
    mirror = face_mesh.IRIS_MESH_MIRROR if irises else face_mesh.MESH_MIRROR
    return Part(slice(start, start + len(mirror)), "face", (face_mesh.NOSE_TIP,), mirror)


def _mediapipe(parts: dict[str, Part], **options: Any) -> Layout:
    return Layout(parts, named_subsets=MEDIAPIPE_SUBSETS, **_MEDIAPIPE_JOINTS, **options)


def _contours_layout() -> Layout:
    """pose-format's reduced MediaPipe Holistic: shoulders to hips, the face's contours, hands; 178 points."""
    body = tuple(range(8))
    pose = Part(slice(0, 8), "pose", (0, 1), face_mesh.swapped(8, ((0, 1), (2, 3), (4, 5), (6, 7))))
    # There is no nose: the middle between the inner corners of the eyes.
    eyes = tuple(face_mesh.CONTOURS.index(index) for index in (133, 362))
    face = Part(slice(8, 136), "face", eyes, face_mesh.CONTOURS_MIRROR)
    lips = tuple(face_mesh.CONTOURS.index(index) for index in face_mesh.LIPS)
    subsets = {
        "hands": HANDS,
        "hands_pose": {"pose": body, **HANDS},
        "hands_pose_lips": {"pose": body, **HANDS, "face": lips},
    }
    parts = _parts(pose, 136, 157, face)
    return Layout(parts, (0, 1), (6, 7), subsets, channels=(3, 4), missing_points=True)


def _ibug_layout(parts: dict[str, Part], upper: tuple[int, ...], mska: tuple[int, ...], **options: Any) -> Layout:
    """A layout of image coordinates whose face begins with iBUG's 68 points."""
    subsets = {
        "hands": HANDS,
        "hands_pose": {"pose": upper, **HANDS},
        "hands_pose_lips": {"pose": upper, **HANDS, "face": _IBUG_LIPS},
        "points79": {"pose": mska, **HANDS, "face": face_mesh.MSKA_FACE},
    }
    return Layout(parts, named_subsets=subsets, dimensions=2, channels=(3, 2), missing_points=True, **options)


def _coco_wholebody() -> Layout:
    pose = Part(slice(0, 23), "pose", (5, 6), face_mesh.swapped(23, _COCO_PAIRS))
    face = Part(slice(23, 91), "face", (_IBUG_NOSE_TIP,), face_mesh.IBUG_MIRROR)
    parts = _parts(pose, 91, 112, face)
    return _ibug_layout(parts, _COCO_UPPER_BODY, tuple(range(11)), shoulders=(5, 6), hips=(11, 12))


def _openpose() -> Layout:
    pose = Part(slice(0, 25), "pose", (5, 2), face_mesh.swapped(25, _OPENPOSE_PAIRS))
    face = Part(slice(25, 95), "face", (_IBUG_NOSE_TIP,), face_mesh.OPENPOSE_FACE_MIRROR)
    parts = _parts(pose, 95, 116, face)
    return _ibug_layout(parts, _OPENPOSE_UPPER_BODY, _OPENPOSE_MSKA_BODY, shoulders=(5, 2), hips=(12, 9))


def _pose_format_holistic() -> Layout:
    """MediaPipe Holistic as pose-format writes it: pose, face, hands, and the pose again in metres."""
    parts = _parts(_mediapipe_pose(0), 501, 522, _mesh(33))
    world = {"pose_world": _mediapipe_pose(543)}
    # Beside the pose, so that the columns of a stream follow each other.
    return _mediapipe({"pose": parts.pop("pose"), **world, **parts}, channels=(3, 4), missing_points=True)


_HOLISTIC = _parts(_mediapipe_pose(0), 33, 54, _mesh(75))

LAYOUTS: dict[str, Layout] = {
    "mediapipe_holistic": _mediapipe(_HOLISTIC),
    "mediapipe_6516": _mediapipe(_HOLISTIC, temporal=4887),
    "mediapipe_3318": _mediapipe(
        _parts(_mediapipe_pose(0), 33, 54, _mesh(75, irises=True)), dimensions=2, channels=(2,), temporal=2212
    ),
    "mediapipe_576": _pose_format_holistic(),
    "mediapipe_178": _contours_layout(),
    "kaggle_islr": _mediapipe(_parts(_mediapipe_pose(489), 468, 522, _mesh(0)), missing_points=True),
    "coco_wholebody": _coco_wholebody(),
    "openpose_137": _openpose(),
}

# What a frame of that many values usually is; only for messages.
KNOWN_WIDTHS: dict[int, str] = {
    99: "MediaPipe pose, 33 x 3",
    126: "two MediaPipe hands, 42 x 3",
    150: "MediaPipe pose and hands without face, 75 x 2",
    225: "MediaPipe pose and hands without face, 75 x 3",
    266: "COCO-WholeBody, 133 x 2",
    274: "OpenPose, 137 x 2",
    399: "COCO-WholeBody, 133 x 3",
    411: "OpenPose, 137 x 3",
    534: "reduced MediaPipe Holistic of pose-format, 178 x 3",
    712: "reduced MediaPipe Holistic of pose-format, 178 x 4",
    1086: "MediaPipe Holistic without depth, 543 x 2",
    1106: "pose 33 x 2, hands 42 x 2, face 478 x 2",
    1404: "MediaPipe face mesh, 468 x 3",
    1629: "MediaPipe Holistic, 543 x 3",
    1659: "MediaPipe Holistic with irises, 553 x 3",
    1662: "MediaPipe Holistic with pose visibility, 33 x 4 + 510 x 3",
    1728: "MediaPipe Holistic of pose-format, 576 x 3",
    2304: "MediaPipe Holistic of pose-format, 576 x 4",
    3318: "pose 33 x 2, hands 42 x 2, face 478 x 2, each with velocity and acceleration",
    6516: "pose 99, hands 126, face 1404, temporal 4887",
}


def layouts_of(width: int) -> list[str]:
    """Names of the layouts whose frames may have that many values."""
    return [name for name, layout in LAYOUTS.items() if width in layout.widths]


def describe_width(width: int) -> str:
    """What a frame of `width` values looks like, for messages.

    Example:
        >>> describe_width(225)
        '225 values a frame (looks like MediaPipe pose and hands without face, 75 x 3)'
        >>> describe_width(399)
        "399 values a frame (looks like COCO-WholeBody, 133 x 3; layout 'coco_wholebody')"
    """
    known, named = KNOWN_WIDTHS.get(width), " or ".join(f"'{name}'" for name in layouts_of(width))
    if not known:
        return f"{width} values a frame"
    return f"{width} values a frame (looks like {known}" + (f"; layout {named})" if named else ")")


def wrong_width(width: int, name: str) -> UserError:
    """The error for a frame that is not of the layout `name`; it names the one it looks like."""
    layout = LAYOUTS[name]
    extra = f" + {layout.temporal}" if layout.temporal else ""
    forms = [f"{wide} = {layout.points} points x {channels}{extra}" for wide, channels in layout.widths.items()]
    others = layouts_of(width)
    fix = f"set the layout to '{others[0]}'" if others else "set the layout to 'raw', or convert the features"
    return UserError(describe_width(width), f"{' or '.join(forms)} for the layout '{name}'", fix=fix)
