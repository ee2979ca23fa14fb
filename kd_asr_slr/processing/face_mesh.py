"""Points of the face by index: MediaPipe's mesh (468 points, 478 with irises), and the 68 points of iBUG."""

from __future__ import annotations

MESH_POINTS = 468
IRIS_POINTS = 10
NOSE_TIP = 1

# The outer contour of the lips in the face mesh, from one corner along the lower lip and back along the upper.
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398)
RIGHT_BROW = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55)
LEFT_BROW = (300, 293, 334, 296, 336, 276, 283, 282, 295, 285)
OVAL_RIGHT = (109, 67, 103, 54, 21, 162, 127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148)
OVAL_LEFT = (338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377)
OVAL = (10, *OVAL_LEFT, 152, *OVAL_RIGHT)
# Tip, base and both wings of the nose.
NOSE = (1, 2, 98, 327)

# The 128 points of MediaPipe's FACEMESH_CONTOURS, in the order in which pose-format stores them.
CONTOURS = tuple(sorted({*LIPS, *INNER_LIPS, *RIGHT_EYE, *LEFT_EYE, *RIGHT_BROW, *LEFT_BROW, *OVAL}))

# Kaggle "Isolated Sign Language Recognition", first place: lips, nose, eyes.
KAGGLE_FACE = (*LIPS, *INNER_LIPS, *NOSE, *RIGHT_EYE, *LEFT_EYE)

# MSKA's 26 face points as indices of iBUG's 68 (which are points 23 to 90 of COCO-WholeBody): every third point of
# contour, brows, nose and eyes, and the mouth.
# Source: Guan et al., "Multi-Stream Keypoint Attention Network" (2024), the configuration for PHOENIX-2014.
MSKA_FACE = (0, 3, 6, 10, 13, 16, 18, 20, 23, 25, 30, 33, 36, 39, 42, 45, 48, 49, 50, 51, 52, 53, 54, 56, 57, 58)
# The same places in the mesh, point by point.
MSKA_MESH = (
    *(127, 58, 149, 378, 288, 356),  # contour
    *(63, 66, 296, 293),  # brows
    *(1, 2),  # nose
    *(33, 133, 362, 263),  # corners of the eyes
    *(61, 39, 37, 0, 267, 269, 291, 314, 17, 84),  # mouth
)

# Points on the plane of symmetry. The other 220 below 248 are the signer's right half, and those from 248 on the left,
# in the same order.
_MIDDLE = (
    *(0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19),
    *(94, 151, 152, 164, 168, 175, 195, 197, 199, 200),
)
_RIGHT_HALF = tuple(index for index in range(248) if index not in _MIDDLE)
# Centre, right edge, top, left edge, bottom of either iris.
_IRISES = ((468, 473), (469, 476), (470, 475), (471, 474), (472, 477))
_IBUG_PAIRS = (
    *((index, 16 - index) for index in range(8)),  # contour
    *((index, 43 - index) for index in range(17, 22)),  # brows
    *((31, 35), (32, 34)),  # nose
    *((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),  # eyes
    *((48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67)),  # mouth
)


def swapped(size: int, pairs: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """For each point the one that takes its place in a mirror.

    Args:
        size: number of points.
        pairs: left and right of each pair; the others stay.

    Example:
        >>> swapped(4, ((1, 3),))
        (0, 3, 2, 1)
    """
    places = list(range(size))
    for first, second in pairs:
        places[first], places[second] = second, first
    return tuple(places)


MESH_MIRROR = swapped(MESH_POINTS, tuple(zip(_RIGHT_HALF, range(248, MESH_POINTS), strict=True)))
IRIS_MESH_MIRROR = swapped(
    MESH_POINTS + IRIS_POINTS, (*zip(_RIGHT_HALF, range(248, MESH_POINTS), strict=True), *_IRISES)
)
CONTOURS_MIRROR = tuple(CONTOURS.index(MESH_MIRROR[index]) for index in CONTOURS)
IBUG_MIRROR = swapped(68, _IBUG_PAIRS)
# OpenPose adds both pupils.
OPENPOSE_FACE_MIRROR = swapped(70, (*_IBUG_PAIRS, (68, 69)))
