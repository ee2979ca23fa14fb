"""Landmarks from .pose files, the format of the pose-format library.

Source: Moryossef et al., "pose-format: Library for viewing, augmenting, and handling .pose files" (2023).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from kd_asr_slr.errors import UserError

SUFFIX = ".pose"
_FIX = "extract it again from the video, or copy it again from its source"
# What the library raises on bytes that are cut off or of another format.
_UNREADABLE = (
    struct.error,
    ValueError,
    TypeError,
    IndexError,
    OverflowError,
    MemoryError,
    ZeroDivisionError,
    NotImplementedError,
)


def load_pose(path: Path) -> np.ndarray:
    """Read the landmarks of the one person of a .pose file.

    A point of confidence 0 was not found: all its coordinates become 0, which is how the landmark layouts tell missing
    points. All components stay, in the order of the file.

    Args:
        path: an existing file that is not empty.

    Returns:
        float32 [T, points, coordinates].

    Raises:
        UserError: if the file is cut off or no .pose file, or shows several people.

    Example:
        >>> load_pose(Path("kinder.pose")).shape
        (45, 178, 3)
    """
    pose = _read(path)
    data = np.ma.getdata(pose.body.data)  # [T, people, points, coordinates]
    confidence = np.asarray(pose.body.confidence)  # [T, people, points]
    if data.ndim != 4 or data.shape[:3] != confidence.shape:
        raise UserError(f"{path}: values of shape {data.shape} and confidences of shape {confidence.shape}", fix=_FIX)
    if data.shape[1] != 1:
        raise UserError(f"{path}: shows {data.shape[1]} people", expected="one signer", fix="keep the signer's points")
    return np.where(confidence[:, 0, :, None] > 0, data[:, 0], 0).astype(np.float32)  # [T, points, coordinates]


def _read(path: Path) -> Any:
    from pose_format import Pose

    content = path.read_bytes()
    try:
        pose = Pose.read(content)
    except _UNREADABLE as error:
        reason = str(error).strip() or type(error).__name__
        raise UserError(f"{path}: cannot be read as .pose ({reason})", fix=_FIX) from error
    _check_size(path, pose, len(content))
    return pose


def _check_size(path: Path, pose: Any, size: int) -> None:
    """Versions 0.1 and 0.2 have values and confidences of 4 bytes at the end of the file and nothing after them."""
    if pose.header.version == 0:
        return
    values = 4 * (np.ma.getdata(pose.body.data).size + np.asarray(pose.body.confidence).size)
    header = _header_size(pose.header)
    if header + values != size:
        raise UserError(f"{path}: header and values take {header + values} bytes but the file has {size}", fix=_FIX)


def _header_size(header: Any) -> int:
    """Bytes before the first value, as the format defines them."""
    size = 4 + 6 + 2 + (6 if round(header.version, 3) == 0.1 else 10)
    for component in header.components:
        texts = [component.name, component.format, *component.points]
        size += sum(2 + len(text.encode("utf-8")) for text in texts)
        size += 6 + 4 * len(component.limbs) + 6 * len(component.colors)
    return size
