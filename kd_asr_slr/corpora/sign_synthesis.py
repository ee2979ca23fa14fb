"""Gloss sequences as landmark trajectories in the layout of MediaPipe Holistic.

A gloss is a form: handshape, place, movement, orientation, one or two hands, mouth. A signer carries it out with an
own body, speed and style. Between two glosses the hands glide from the end of one to the start of the next
(coarticulation, movement epenthesis), so frames there belong to neither.

An utterance is [T, 543, 3]: 33 pose, 21 left hand, 21 right hand, 468 face landmarks, in this order; x to the right
and y down in shares of the picture, z towards the camera negative. "Left" is the signer's left, at larger x. A hand
that was not detected is all zeros.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kd_asr_slr.corpora.body_model import face_points, hand_points, pose_points
from kd_asr_slr.corpora.synthetic import spread

POSE, LEFT_HAND, RIGHT_HAND, FACE = slice(0, 33), slice(33, 54), slice(54, 75), slice(75, 543)
POINTS = 543

# Places of the right hand in shoulder widths from the middle of the shoulders: x to the signer's left, y down.
_PLACES = np.array([[-0.45, -0.75], [0.05, -0.60], [0.0, 0.05], [-0.65, 0.10], [0.35, 0.20], [-0.25, 0.60]])
# Flexion of thumb, index, middle, ring and little finger: 0 straight, 1 in the fist.
_HANDSHAPES = np.array(
    [
        [0.0, 0.0, 0.0, 0.0, 0.0],  # open hand
        [1.0, 1.0, 1.0, 1.0, 1.0],  # fist
        [1.0, 0.0, 1.0, 1.0, 1.0],  # index
        [1.0, 0.0, 0.0, 1.0, 1.0],  # two fingers
        [0.0, 1.0, 1.0, 1.0, 1.0],  # thumb
        [0.0, 1.0, 1.0, 1.0, 0.0],  # thumb and little finger
        [0.5, 0.5, 0.5, 0.5, 0.5],  # claw
    ]
)
# Displacement over a stroke, as control points in shoulder widths: straight ones, an arc, and there and back again.
_MOVEMENTS = np.array(
    [
        [[0.0, 0.0], [0.25, 0.0], [0.5, 0.0]],
        [[0.0, 0.0], [0.0, 0.25], [0.0, 0.5]],
        [[0.0, 0.0], [0.15, -0.2], [0.3, -0.4]],
        [[0.0, 0.0], [0.25, -0.35], [0.5, 0.0]],
        [[0.0, 0.0], [0.35, 0.05], [0.0, 0.1]],
    ]
)
_REST = np.array([[-0.35, 1.25], [0.35, 1.25]])  # right and left hand in the lap
_REST_FLEXION, _REST_ANGLE = 0.4, 2.6


@dataclass(frozen=True)
class GlossForm:
    """How a gloss is signed; indices into the inventories of places, handshapes and movements."""

    place: int
    handshape: int
    movement: int
    angle: float
    hands: int
    mouth: float


@dataclass(frozen=True)
class Signer:
    """A signer.

    Attributes:
        shoulders: shoulder width in shares of the picture.
        arm: length of the arm, in shoulder widths.
        hand: length of the hand, in shoulder widths.
        speed: factor on the number of frames of a gloss (larger: slower).
        amplitude: factor on movements.
        accent: [2], shift of all places in shoulder widths.
        shape_bias: [5], added to the flexion of the fingers.
        tilt: added to the orientation of the hands, in radians.
    """

    shoulders: float
    arm: float
    hand: float
    speed: float
    amplitude: float
    accent: np.ndarray
    shape_bias: np.ndarray
    tilt: float


def make_signer(index: int, rng: np.random.Generator) -> Signer:
    """The index-th signer; body size is spread evenly, style is drawn."""
    size = spread(index, 0.2)
    return Signer(
        shoulders=0.20 + 0.08 * size,
        arm=1.55 + rng.uniform(-0.1, 0.1),
        hand=0.42 + rng.uniform(-0.05, 0.05),
        speed=float(rng.uniform(0.85, 1.2)),
        amplitude=float(rng.uniform(0.75, 1.25)),
        accent=rng.normal(0.0, 0.1, 2),
        shape_bias=rng.normal(0.0, 0.12, 5),
        tilt=float(rng.normal(0.0, 0.15)),
    )


def gloss_form(gloss: str) -> GlossForm:
    """The form of a gloss, from a hash of its name: any gloss has one, and some differ in one feature only.

    Example:
        >>> gloss_form("RAIN") == gloss_form("RAIN")
        True
    """
    digest = hashlib.sha256(gloss.encode()).digest()
    return GlossForm(
        place=digest[0] % len(_PLACES),
        handshape=digest[1] % len(_HANDSHAPES),
        movement=digest[2] % len(_MOVEMENTS),
        angle=(digest[3] % 4) * np.pi / 4.0 - 0.6,
        hands=1 + (digest[4] % 3 == 0),
        mouth=(digest[5] % 4) / 3.0,
    )


def render_sentence(
    glosses: Sequence[str],
    n_frames: int | None,
    signer: Signer,
    rng: np.random.Generator,
    *,
    difficulty: float = 0.5,
    frames_per_gloss: int = 10,
) -> np.ndarray:
    """Sign a sentence.

    Args:
        glosses: at least one; any names.
        n_frames: frames wanted, at least one a gloss; by default what the signer's speed gives.
        signer: who signs.
        rng: draws everything that differs between two renderings.
        difficulty: 0 to 1: variation of each gloss, jitter of the landmarks, missing hands.
        frames_per_gloss: mean frames of a gloss and the glide to it, where `n_frames` is not given.

    Returns:
        float64 [T, 543, 3].

    Example:
        >>> render_sentence(["RAIN", "NORTH"], 30, make_signer(0, item_rng(0)), item_rng(1)).shape
        (30, 543, 3)
    """
    if not glosses or (n_frames is not None and n_frames < len(glosses)):
        raise ValueError(f"{len(glosses)} glosses do not fit into {n_frames} frames")
    keys, times = _key_poses(glosses, signer, difficulty, rng)
    if n_frames is None:
        n_frames = max(2, round(times[-1] * frames_per_gloss * signer.speed))
    track = _glide(keys, times * (n_frames - 1) / times[-1], n_frames)  # [T, 15]
    return _landmarks(track, signer, difficulty, rng)


# A key pose: place x, y of right and left hand (4), flexion of right and left fingers (10), angle of both hands (2),
# opening of the mouth (1).
_RIGHT, _LEFT, _RIGHT_FLEXION, _LEFT_FLEXION = slice(0, 2), slice(2, 4), slice(4, 9), slice(9, 14)
_ANGLES, _MOUTH = slice(14, 16), 16


def _key_poses(
    glosses: Sequence[str], signer: Signer, difficulty: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Key poses [keys, 17] and their times [keys], in glosses from the start of the sentence."""
    rest = np.concatenate([_REST.ravel(), np.full(10, _REST_FLEXION), np.full(2, _REST_ANGLE), [0.0]])
    keys, times = [rest], [0.0]
    start = 0.25
    for gloss in glosses:
        length = np.exp(rng.normal(0.0, 0.08 + 0.2 * difficulty))
        glide = length * rng.uniform(0.3, 0.5)
        stroke = _stroke(gloss_form(gloss), keys[-1], signer, difficulty, rng)
        keys += list(stroke)
        times += list(start + glide + (length - glide) * np.array([0.0, 0.5, 1.0]))
        start += length
    return np.array([*keys, rest]), np.array([*times, start + 0.35])


def _stroke(
    form: GlossForm, before: np.ndarray, signer: Signer, difficulty: float, rng: np.random.Generator
) -> np.ndarray:
    """The three key poses [3, 17] of one gloss; a hand that does not take part stays where it was or drops."""
    size = signer.amplitude * (1.0 + rng.normal(0.0, 0.3 * difficulty))
    start = _PLACES[form.place] + signer.accent + rng.normal(0.0, 0.03 + 0.22 * difficulty, 2)
    path = start + size * _MOVEMENTS[form.movement]  # [3, 2]
    flexion = _HANDSHAPES[form.handshape] + signer.shape_bias + rng.normal(0.0, 0.05 + 0.45 * difficulty, 5)
    angle = form.angle + signer.tilt + rng.normal(0.0, 0.1 + 0.5 * difficulty)
    keys = np.repeat(before[None], 3, axis=0)
    keys[:, _RIGHT], keys[:, _RIGHT_FLEXION], keys[:, 14] = path, np.clip(flexion, 0.0, 1.0), angle
    if form.hands == 2:
        keys[:, _LEFT] = path * [-1.0, 1.0] + [0.1, 0.0]
        keys[:, _LEFT_FLEXION], keys[:, 15] = keys[:, _RIGHT_FLEXION], angle
    elif rng.random() < 0.6:
        keys[:, _LEFT], keys[:, _LEFT_FLEXION], keys[:, 15] = _REST[1], _REST_FLEXION, _REST_ANGLE
    keys[:, _MOUTH] = form.mouth * rng.uniform(0.5, 1.2)
    return keys


def _glide(keys: np.ndarray, times: np.ndarray, n_frames: int) -> np.ndarray:
    """Key poses at their frames -> one pose a frame, with smooth starts and stops."""
    frames = np.arange(n_frames, dtype=float)
    right = np.clip(np.searchsorted(times, frames, side="right"), 1, len(times) - 1)
    share = (frames - times[right - 1]) / np.maximum(times[right] - times[right - 1], 1e-9)
    share = np.clip(share, 0.0, 1.0)[:, None]
    ease = share * share * (3.0 - 2.0 * share)
    track = keys[right - 1] * (1.0 - ease) + keys[right] * ease
    padded = np.pad(track, ((1, 1), (0, 0)), mode="edge")
    return 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]


def _landmarks(track: np.ndarray, signer: Signer, difficulty: float, rng: np.random.Generator) -> np.ndarray:
    """One pose a frame [T, 17] -> landmarks [T, 543, 3]."""
    frames = len(track)
    origin = np.array([0.5, 0.42, 0.0]) + rng.normal(0.0, 0.02, 3) * [1.0, 1.0, 0.0]
    sway = _wander(frames, 0.02, rng)  # [T, 3], shoulder widths
    right, left = (np.pad(track[:, side], ((0, 0), (0, 1))) + [0.0, 0.0, -0.4] for side in (_RIGHT, _LEFT))
    out = np.empty((frames, POINTS, 3))
    out[:, RIGHT_HAND] = hand_points(right, track[:, _RIGHT_FLEXION], track[:, 14], signer.hand, side=-1)
    out[:, LEFT_HAND] = hand_points(left, track[:, _LEFT_FLEXION], track[:, 15], signer.hand, side=1)
    head = _wander(frames, 0.03, rng) + [0.0, -0.72, -0.2]
    out[:, FACE] = face_points(head, track[:, _MOUTH])
    out[:, POSE] = pose_points(out[:, RIGHT_HAND], out[:, LEFT_HAND], head, signer.arm)
    out = origin + signer.shoulders * (out + sway[:, None])
    jitter = np.full(POINTS, 0.001 + 0.002 * difficulty)
    jitter[LEFT_HAND.start : RIGHT_HAND.stop] *= 2.0
    out += rng.normal(size=out.shape) * jitter[:, None]
    _lose_hands(out, track, difficulty, rng)
    return out


def _wander(frames: int, size: float, rng: np.random.Generator) -> np.ndarray:
    """A slow movement [T, 3] of a body part."""
    time = np.arange(frames)[:, None]
    return size * np.sin(2.0 * np.pi * (time / rng.uniform(20.0, 60.0, 3) + rng.uniform(0.0, 1.0, 3)))


def _lose_hands(out: np.ndarray, track: np.ndarray, difficulty: float, rng: np.random.Generator) -> None:
    """The detector misses hands in the lap most of the time, and others for stretches of a few frames."""
    for hand, place in ((RIGHT_HAND, _RIGHT), (LEFT_HAND, _LEFT)):
        missing = (track[:, place][:, 1] > 1.1) & (rng.random(len(track)) < 0.7)
        for _ in range(rng.poisson(0.1 * difficulty * len(track) / 2.0)):
            start = rng.integers(len(track))
            missing[start : start + rng.integers(1, 7)] = True
        out[missing, hand] = 0.0
