"""Recordings and landmarks inside the report: small ones, within a number of bytes in all."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd_asr_slr.corpora.media import read_features
from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.landmarks import read_points
from kd_asr_slr.processing.layouts import LAYOUTS, layouts_of

TYPES = {".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg"}
FRAMES = 8  # of a strip of skeletons
SIZE = 100  # of one skeleton in the strip, in units of the drawing
DRAWN = ("pose", "left_hand", "right_hand")

# Points that are joined. A hand of 21 points is the same in MediaPipe, OpenPose and COCO-WholeBody.
HAND = tuple((0 if point % 4 == 1 else point - 1, point) for point in range(1, 21))
# MediaPipe's 33 points of the body: shoulders, arms, hips; the head as a line between the ears.
POSE = ((11, 12), (11, 13), (13, 15), (12, 14), (14, 16), (11, 23), (12, 24), (23, 24), (7, 8))
BONES = {21: HAND, 33: POSE}


class Budget:
    """Bytes that may still be put into the report.

    Args:
        size: in bytes.

    Attributes:
        used: bytes taken so far.
        refused: how many things were too large for what was left.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0
        self.refused = 0

    def take(self, text: str) -> str | None:
        """The text, or None where it is larger than what is left."""
        if self.used + len(text) > self.size:
            self.refused += 1
            return None
        self.used += len(text)
        return text


def medium_of(path: str | Path, config: Mapping[str, Any], budget: Budget) -> dict[str, str] | None:
    """What is shown of one utterance.

    Args:
        path: its recording or features.
        config: the run's, whose `features` names the landmarks' layout.
        budget: what may still be put in.

    Returns:
        `audio` (a data URI) or `strip` (an SVG drawing); None where there is nothing to show.
    """
    path = Path(path)
    if not path.is_file():
        return None
    kind = TYPES.get(path.suffix.lower())
    if kind is not None:
        if path.stat().st_size > budget.size:
            budget.refused += 1
            return None
        uri = budget.take(f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}")
        return {"audio": uri} if uri else None
    try:
        strip = budget.take(skeleton_strip(read_features(path), str(config.get("features"))))
    except UserError:  # features that are no landmarks, or a file that training has complained about already
        return None
    return {"strip": strip} if strip else None


def skeleton_strip(features: np.ndarray, layout: str) -> str:
    """Draw frames of landmarks side by side: body and hands, evenly spaced over the utterance.

    Args:
        features: [T, F], as the file has them.
        layout: a key of `processing.layouts.LAYOUTS`; any other name is replaced by the layout of that width.

    Returns:
        An SVG drawing.

    Raises:
        UserError: where the features are no landmarks.
    """
    if layout not in LAYOUTS or features.shape[1] not in LAYOUTS[layout].widths:
        known = layouts_of(features.shape[1])
        if not known:
            raise UserError(f"{features.shape[1]} values a frame are no landmarks that can be drawn")
        layout = known[0]
    points = read_points(features, layout)[0][:, :, :2]  # [T, P, 2]
    parts = {name: part for name, part in LAYOUTS[layout].parts.items() if name in DRAWN}
    chosen = np.linspace(0, len(points) - 1, min(FRAMES, len(points))).round().astype(int)
    drawn = np.concatenate([_joined(points[chosen][:, part.points]) for part in parts.values()], axis=1)
    scale, shift = _fit(drawn)
    frames = []
    for place, frame in enumerate(chosen):
        paths = []
        for name, part in parts.items():
            lines = _path((points[frame, part.points] - shift) * scale)
            paths.append(f'<path class="{name}" d="{lines}"/>')
        frames.append(f'<g transform="translate({place * SIZE} 0)">{"".join(paths)}</g>')
    label = html.escape(f"{len(chosen)} of {len(points)} frames of body and hands, from left to right")
    return (
        f'<svg class="strip" role="img" aria-label="{label}" viewBox="0 0 {len(chosen) * SIZE} {SIZE}">'
        f"<title>{label}</title>{''.join(frames)}</svg>"
    )


def _bones(points: int) -> Sequence[tuple[int, int]]:
    """Which of a part's points are joined; where that is not known, each with itself, which draws dots."""
    return BONES.get(points) or [(index, index) for index in range(points)]


def _joined(points: np.ndarray) -> np.ndarray:
    """The points [T, P, 2] of a part that are drawn: MediaPipe's body has legs that nobody needs."""
    return points[:, sorted({point for bone in _bones(points.shape[1]) for point in bone})]


def _fit(points: np.ndarray) -> tuple[float, np.ndarray]:
    """Scale and shift [2] that put points [N, P, 2] into a square; outliers (1 %) may lie outside of it."""
    flat = points.reshape(-1, 2)
    flat = flat[np.isfinite(flat).all(axis=1)]
    if not len(flat):
        return 1.0, np.zeros(2)
    low, high = np.quantile(flat, 0.01, axis=0), np.quantile(flat, 0.99, axis=0)
    scale = 0.9 * SIZE / max(float((high - low).max()), 1e-6)
    return scale, (low + high) / 2 - SIZE / 2 / scale


def _path(points: np.ndarray) -> str:
    """Bones as lines; those with a missing point are left out."""
    there = np.isfinite(points).all(axis=1)
    moves = []
    for start, end in _bones(len(points)):
        if there[start] and there[end]:
            (x, y), (to_x, to_y) = points[start], points[end]
            moves.append(f"M{x:.0f} {y:.0f}L{to_x:.0f} {to_y:.0f}")
    return "".join(moves)
