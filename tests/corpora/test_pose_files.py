"""`.pose` files: real ones against the pose-format library, and broken ones."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pose_format import Pose
from pose_format.numpy import NumPyPoseBody

from kd_asr_slr.corpora.media import read_features, read_header
from kd_asr_slr.corpora.pose_files import load_pose
from kd_asr_slr.errors import UserError

SHAPES = {
    "mediapipe.pose": (170, 178, 3),
    "mediapipe_long.pose": (278, 178, 3),
    "openpose.pose": (93, 137, 2),
    "segmentation_example.pose": (130, 576, 3),
    "essen.pose": (73, 178, 3),
    "kinder.pose": (45, 178, 3),
    "kleine.pose": (68, 178, 3),
    "pizza.pose": (53, 178, 3),
}


@pytest.fixture
def kinder(shared_data: Path) -> Path:
    return next((shared_data / "pose").rglob("kinder.pose"))


def test_real_files(shared_data: Path) -> None:
    files = {path.name: path for path in (shared_data / "pose").rglob("*.pose")}
    assert {name: load_pose(path).shape for name, path in files.items()} == SHAPES
    for name, path in files.items():
        frames, points, coordinates = SHAPES[name]
        assert (read_header(path).length, read_header(path).width) == (frames, points * coordinates)
        assert read_features(path).shape == (frames, points * coordinates)


def test_values_are_those_of_the_library_and_missing_points_are_zero(shared_data: Path) -> None:
    path = shared_data / "pose" / "mediapipe.pose"
    pose, points = Pose.read(path.read_bytes()), load_pose(path)
    missing = pose.body.confidence[:, 0] == 0
    assert missing.any() and np.abs(pose.body.data.data[:, 0][missing]).max() > 100  # the file holds numbers there
    assert (points[missing] == 0).all()
    assert np.array_equal(points[~missing], pose.body.data.data[:, 0][~missing])


def rewritten(path: Path, people: int = 1, missing_nan: bool = False) -> bytes:
    """The file as the library writes it today (version 0.2), with more people or NaN where points are missing."""
    pose = Pose.read(path.read_bytes())
    data = np.repeat(np.array(pose.body.data.data), people, axis=1)
    confidence = np.repeat(np.array(pose.body.confidence), people, axis=1)
    if missing_nan:
        data[confidence == 0] = np.nan
    buffer = BytesIO()
    Pose(pose.header, NumPyPoseBody(pose.body.fps, data, confidence)).write(buffer)
    return buffer.getvalue()


def test_the_version_the_library_writes_today(kinder: Path, tmp_path: Path) -> None:
    path = tmp_path / "kinder.pose"
    path.write_bytes(rewritten(kinder, missing_nan=True))
    assert np.array_equal(load_pose(path), load_pose(kinder))
    assert np.isfinite(read_features(path)).all()
    path.write_bytes(rewritten(kinder, people=2))
    with pytest.raises(UserError, match="shows 2 people"):
        load_pose(path)


@pytest.mark.parametrize("version", ["0.0", "0.1", "0.2"])
def test_files_that_are_cut_off(shared_data: Path, kinder: Path, tmp_path: Path, version: str) -> None:
    content = {
        "0.0": (shared_data / "pose" / "openpose.pose").read_bytes(),
        "0.1": kinder.read_bytes(),
        "0.2": rewritten(kinder),
    }[version]
    path = tmp_path / "cut.pose"
    for length in (3, 11, 500, 2700, len(content) // 2 + 1, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"cut\.pose"):
            read_features(path)


def test_another_format(tmp_path: Path) -> None:
    path = tmp_path / "text.pose"
    path.write_bytes(b"x,y,confidence\n" * 100)
    with pytest.raises(UserError, match="cannot be read as .pose"):
        read_features(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="0 bytes"):
        read_features(path)
