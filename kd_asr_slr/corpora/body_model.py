"""A jointed figure with the landmarks of MediaPipe Holistic: hands, face and upper body from a few numbers.

Everything is in shoulder widths from the middle of the shoulders, x to the signer's left, y down, z away from the
camera. Numbering of the landmarks: MediaPipe Hands (21), Face Mesh (468), Pose (33).
"""

from __future__ import annotations

import numpy as np

_JOINTS = np.array([0.30, 0.55, 0.78, 1.0])  # of a straight finger, in lengths of the hand, from the wrist
_SPREAD = np.array([-0.75, -0.25, 0.0, 0.22, 0.42])  # directions of thumb to little finger, in radians
_LENGTHS = np.array([0.75, 1.0, 1.05, 1.0, 0.85])

# Face Mesh: outer and inner contour of the lips, each as a closed ring that starts at the corner of smaller x.
_LIPS_OUTER = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185]
_LIPS_INNER = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191]
_NOSE_TIP = 1

# Pose landmarks that do not move, as left-side x, y, z; the right side (next number) is mirrored.
_MIRRORED = {11: (0.5, 0.0, 0.0), 23: (0.32, 1.55, 0.0), 25: (0.34, 2.6, 0.1), 27: (0.34, 3.6, 0.2)}
_MIRRORED |= {29: (0.34, 3.7, 0.25), 31: (0.36, 3.8, 0.0)}
# Head landmarks of the pose, relative to the middle of the face; 9 and 10 are the corners of the mouth.
_HEAD = {0: (0.0, 0.05, -0.2), 9: (0.1, 0.22, -0.1), 10: (-0.1, 0.22, -0.1), 7: (0.28, 0.0, 0.1), 8: (-0.28, 0.0, 0.1)}
_HEAD |= {1: (0.07, -0.08, -0.1), 2: (0.12, -0.08, -0.1), 3: (0.17, -0.08, -0.1)}
_HEAD |= {4: (-0.07, -0.08, -0.1), 5: (-0.12, -0.08, -0.1), 6: (-0.17, -0.08, -0.1)}
# Pose landmarks at the hands (left; right is the next number) and the hand landmarks they copy.
_AT_HAND = {15: 0, 17: 17, 19: 5, 21: 2}


def hand_points(wrist: np.ndarray, flexion: np.ndarray, angle: np.ndarray, size: float, side: int) -> np.ndarray:
    """The 21 landmarks of a hand.

    Args:
        wrist: [T, 3].
        flexion: [T, 5], thumb to little finger, 0 straight to 1 bent into the palm.
        angle: [T], 0 with the fingers up, growing towards the outside of the body.
        size: length of the hand.
        side: 1 for the left hand, -1 for the right.

    Returns:
        [T, 21, 3]: the wrist, then four joints of each finger.
    """
    bend = flexion[..., None] * np.array([0.0, 0.9, 1.8, 2.6])  # [T, 5, 4], radians out of the palm at each joint
    bones = np.diff(_JOINTS, prepend=0.0) * _LENGTHS[:, None]  # [5, 4]
    along = np.cumsum(bones * np.cos(bend), axis=-1)  # [T, 5, 4]
    towards_camera = np.cumsum(bones * np.sin(bend), axis=-1)
    direction = (angle[:, None] + _SPREAD)[..., None]  # [T, 5, 1]
    x = side * along * np.sin(direction)
    y = -along * np.cos(direction)
    joints = np.stack([x, y, -towards_camera], axis=-1).reshape(len(wrist), 20, 3)
    return wrist[:, None] + size * np.concatenate([np.zeros((len(wrist), 1, 3)), joints], axis=1)


def face_points(centre: np.ndarray, mouth: np.ndarray) -> np.ndarray:
    """The 468 landmarks of the face: the front of an ellipsoid, with lips that open.

    Args:
        centre: [T, 3].
        mouth: [T], opening from 0 to about 1.

    Returns:
        [T, 468, 3].
    """
    still = _face_shape()
    face = np.repeat(still[None], len(centre), axis=0)
    for ring, width, height in ((_LIPS_OUTER, 0.12, 0.05), (_LIPS_INNER, 0.08, 0.01)):
        turn = np.pi + 2.0 * np.pi * np.arange(len(ring)) / len(ring)  # the lower lip comes first
        opening = (height + 0.07 * mouth)[:, None]
        face[:, ring, 0] = width * np.cos(turn)
        face[:, ring, 1] = 0.22 - opening * np.sin(turn)
        face[:, ring, 2] = -0.16
    return centre[:, None] + face


def _face_shape() -> np.ndarray:
    """A face at rest [468, 3]: points spread evenly (golden angle) over the front of an ellipsoid."""
    number = np.arange(468)
    height = 1.0 - 2.0 * (number + 0.5) / 468
    turn = number * np.pi * (3.0 - np.sqrt(5.0)) % np.pi  # the front half
    radius = np.sqrt(1.0 - height**2)
    face = np.stack([0.27 * radius * np.cos(turn), 0.38 * height, -0.2 * radius * np.sin(turn)], axis=-1)
    face[_NOSE_TIP] = _HEAD[0]
    return face


def pose_points(right_hand: np.ndarray, left_hand: np.ndarray, head: np.ndarray, arm: float) -> np.ndarray:
    """The 33 landmarks of the body; wrists and knuckles are those of the hands, elbows follow from the arm's length.

    Args:
        right_hand: [T, 21, 3].
        left_hand: [T, 21, 3].
        head: [T, 3], middle of the face.
        arm: length from the shoulder to the wrist.

    Returns:
        [T, 33, 3].
    """
    pose = np.empty((len(head), 33, 3))
    for number, point in _MIRRORED.items():
        pose[:, number], pose[:, number + 1] = point, np.array(point) * [-1.0, 1.0, 1.0]
    for number, point in _HEAD.items():
        pose[:, number] = head + point
    for number, joint in _AT_HAND.items():
        pose[:, number], pose[:, number + 1] = left_hand[:, joint], right_hand[:, joint]
    pose[:, 13] = _elbow(pose[:, 11], pose[:, 15], arm, side=1)
    pose[:, 14] = _elbow(pose[:, 12], pose[:, 16], arm, side=-1)
    return pose


def _elbow(shoulder: np.ndarray, wrist: np.ndarray, arm: float, side: int) -> np.ndarray:
    """The elbow of an arm of two equal parts, pointing out and down; straight where the wrist is out of reach."""
    reach = wrist - shoulder
    distance = np.linalg.norm(reach, axis=-1, keepdims=True)
    height = np.sqrt(np.maximum((arm / 2.0) ** 2 - (distance / 2.0) ** 2, 0.0))
    outward = np.array([0.6 * side, 0.8, 0.0])
    outward = outward - (reach @ outward)[:, None] * reach / np.maximum(distance**2, 1e-9)
    outward /= np.maximum(np.linalg.norm(outward, axis=-1, keepdims=True), 1e-9)
    return shoulder + reach / 2.0 + height * outward
