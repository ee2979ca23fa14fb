"""Layouts: widths, parts, subsets of 79 and 118 points, mirrors, what a wrong width looks like, real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kd_asr_slr.corpora.media import read_features
from kd_asr_slr.errors import UserError
from kd_asr_slr.processing import face_mesh, landmarks
from kd_asr_slr.processing.layouts import KNOWN_WIDTHS, LAYOUTS, describe_width, layouts_of
from kd_asr_slr.processing.sign import SignFeatureExtractor

# Left and right half of the lips and of the eyes, as the first place of Kaggle's competition swaps them.
LEFT_LIPS = (84, 181, 91, 146, 61, 185, 40, 39, 37, 87, 178, 88, 95, 78, 191, 80, 81, 82)
RIGHT_LIPS = (314, 405, 321, 375, 291, 409, 270, 269, 267, 317, 402, 318, 324, 308, 415, 310, 311, 312)


def test_widths() -> None:
    widths = {name: set(layout.widths) for name, layout in LAYOUTS.items()}
    assert widths == {
        "mediapipe_holistic": {1629},
        "mediapipe_6516": {6516},
        "mediapipe_3318": {3318},
        "mediapipe_576": {1728, 2304},
        "mediapipe_178": {534, 712},
        "kaggle_islr": {1629},
        "coco_wholebody": {399, 266},
        "openpose_137": {411, 274},
    }
    assert 99 + 126 + 1404 + LAYOUTS["mediapipe_6516"].temporal == 6516
    assert 3 * 2 * (33 + 42 + 478) == 3318
    assert set().union(*widths.values()) <= set(KNOWN_WIDTHS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_parts_cover_the_points_once_and_subsets_lie_inside(name: str) -> None:
    layout = LAYOUTS[name]
    covered = np.concatenate([np.arange(layout.points)[part.points] for part in layout.parts.values()])
    assert sorted(covered) == list(range(layout.points))
    for subset in layout.subsets.values():
        assert list(subset) == [part for part in layout.parts if part in subset]  # the streams follow each other
        for part, indices in subset.items():
            assert len(set(indices)) == len(indices) and set(indices) <= set(range(layout.size(part)))


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_mirror_twice_is_nothing_and_swaps_the_hands(name: str) -> None:
    layout = LAYOUTS[name]
    assert np.array_equal(layout.mirror[layout.mirror], np.arange(layout.points))
    left, right = (layout.parts[part].points for part in ("left_hand", "right_hand"))
    assert np.array_equal(np.arange(layout.points)[left], layout.mirror[right])
    for pair in (layout.shoulders, layout.hips):
        first, second = (layout.parts["pose"].points.start + index for index in pair)
        assert layout.mirror[first] == second


def test_subsets_of_79_points() -> None:
    """The 79 points of MSKA's configuration for PHOENIX-2014, by their index among 133."""
    coco = LAYOUTS["coco_wholebody"]
    points = {coco.parts[part].points.start + index for part, ids in coco.subsets["points79"].items() for index in ids}
    face = [23, 26, 29, 33, 36, 39, 41, 43, 46, 48, 53, 56, 59, 62, 65, 68, 71, 72, 73, 74, 75, 76, 77, 79, 80, 81]
    assert points == {*range(11), *range(91, 133), *face}
    for name, layout in LAYOUTS.items():
        sizes = {part: len(indices) for part, indices in layout.subsets.get("points79", {}).items()}
        assert sizes == {"pose": 11, "left_hand": 21, "right_hand": 21, "face": 26} or name == "mediapipe_178"
    # In the mesh they are as symmetric as on the 68 points.
    where = dict(zip(face_mesh.MSKA_FACE, face_mesh.MSKA_MESH, strict=True))
    pairs = [(a, face_mesh.IBUG_MIRROR[a]) for a in where if face_mesh.IBUG_MIRROR[a] in where]
    assert len(pairs) > 20 and all(face_mesh.MESH_MIRROR[where[a]] == where[b] for a, b in pairs)


def test_subset_of_118_points() -> None:
    subset = LAYOUTS["kaggle_islr"].subsets["points118"]
    face = set(subset["face"])
    assert {part: len(indices) for part, indices in subset.items()} == {"left_hand": 21, "right_hand": 21, "face": 76}
    assert {*LEFT_LIPS, *RIGHT_LIPS, 0, 13, 14, 17} | {1, 2, 98, 327} <= face
    assert len(face - {*LEFT_LIPS, *RIGHT_LIPS, 0, 13, 14, 17, 1, 2, 98, 327}) == 32
    assert "points118" not in LAYOUTS["coco_wholebody"].subsets


def test_the_mesh_in_a_mirror() -> None:
    mirror = face_mesh.MESH_MIRROR
    assert tuple(mirror[index] for index in LEFT_LIPS) == RIGHT_LIPS
    assert tuple(mirror[index] for index in face_mesh.RIGHT_EYE) == face_mesh.LEFT_EYE
    assert tuple(mirror[index] for index in face_mesh.RIGHT_BROW) == face_mesh.LEFT_BROW
    assert tuple(mirror[index] for index in face_mesh.OVAL_RIGHT) == face_mesh.OVAL_LEFT
    assert face_mesh.IRIS_MESH_MIRROR[:468] == mirror
    assert len(face_mesh.CONTOURS) == 128


def test_a_real_face_is_symmetric_by_the_mirror(shared_data: Path) -> None:
    """The mirrored mean face of a real file, fitted back onto the face, lies within a few per cent of its size."""
    frames = read_features(shared_data / "pose" / "segmentation_example.pose").reshape(130, 576, 3)
    mirror = np.asarray(face_mesh.MESH_MIRROR)
    face = frames[:, LAYOUTS["mediapipe_576"].parts["face"].points].mean(axis=0, dtype=np.float64)
    face -= face.mean(axis=0)
    flipped = np.c_[face[mirror] * [-1, 1, 1], np.ones(468)]
    fitted = flipped @ np.linalg.lstsq(flipped, face, rcond=None)[0]
    size = np.linalg.norm(face, axis=1).mean()
    assert np.linalg.norm(fitted - face, axis=1).max() < 0.1 * size
    shuffled = np.c_[face[np.roll(mirror, 1)] * [-1, 1, 1], np.ones(468)]
    wrong = shuffled @ np.linalg.lstsq(shuffled, face, rcond=None)[0]
    assert np.linalg.norm(wrong - face, axis=1).max() > 0.5 * size


@pytest.mark.parametrize(
    ("file", "layout", "frames"),
    [
        ("segmentation_example.pose", "mediapipe_576", 130),
        ("mediapipe.pose", "mediapipe_178", 170),
        ("openpose.pose", "openpose_137", 93),
    ],
)
def test_real_pose_files(shared_data: Path, file: str, layout: str, frames: int) -> None:
    """Shoulders one apart, wrists at the origin, and a mask that agrees with the confidences in the file."""
    from pose_format import Pose

    path = shared_data / "pose" / file
    media = read_features(path)
    assert layout in layouts_of(media.shape[1])
    extractor = SignFeatureExtractor(layout, "hands_pose", dimensions=2)
    features = extractor.extract(media)
    pose = Pose.read(path.read_bytes())
    components = {component.name.lower(): len(component.points) for component in pose.header.components}
    starts = dict(zip(components, np.cumsum([0, *components.values()]), strict=False))
    named = {"left_hand": "hand_left", "right_hand": "hand_right"} if layout == "openpose_137" else {}
    for number, part in enumerate(["pose", "left_hand", "right_hand"]):
        name = next(key for key in components if key.startswith(named.get(part, part)))
        seen = pose.body.confidence[:, 0, starts[name] : starts[name] + components[name]] > 0
        centre = list(LAYOUTS[layout].parts[part].centre)
        mask = features[:, extractor.streams["temporal"][0] + number]
        assert np.array_equal(mask == 1, seen[:, centre].all(axis=1)), part
    points = features[:, : extractor.streams["temporal"][0]].reshape(frames, -1, 2)
    first = len(extractor.points["pose"])
    assert not points[:, [first, first + 21]].any()  # both wrists
    left, right = (extractor.points["pose"].index(index) for index in LAYOUTS[layout].shoulders)
    widths = np.linalg.norm(points[:, left] - points[:, right], axis=-1)
    assert np.median(widths[widths > 0]) == pytest.approx(1, abs=1e-5)


def test_a_wrong_width_names_the_layout_and_what_to_type() -> None:
    assert describe_width(399) == "399 values a frame (looks like COCO-WholeBody, 133 x 3; layout 'coco_wholebody')"
    for width, layout, name in [
        (3318, "mediapipe_6516", "mediapipe_3318"),
        (6516, "mediapipe_3318", "mediapipe_6516"),
        (399, "mediapipe_holistic", "coco_wholebody"),
        (1629, "coco_wholebody", "mediapipe_holistic"),
    ]:
        with pytest.raises(
            UserError, match=f"{width} values.*'{name}'.*expected.*'{layout}'.*set the layout to '{name}'"
        ):
            SignFeatureExtractor(layout).extract(np.ones((4, width)))
    with pytest.raises(UserError, match="expected 6516 = 543 points x 3 . 4887 for the layout.*'raw'"):
        SignFeatureExtractor("mediapipe_6516").extract(np.ones((4, 77)))


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if not layout.missing_points])
def test_nan_is_refused_where_it_does_not_mean_missing(name: str) -> None:
    frames = np.ones((3, next(iter(LAYOUTS[name].widths))), np.float32)
    frames[1, 0] = np.nan
    with pytest.raises(UserError, match="in 1 of 3 frames, first in frame 1"):
        landmarks.read_points(frames, name)


def test_infinite_values_are_always_refused() -> None:
    frames = np.ones((3, 399), np.float32)
    frames[2, 0] = np.inf
    with pytest.raises(UserError, match="first in frame 2"):
        landmarks.read_points(frames, "coco_wholebody")
