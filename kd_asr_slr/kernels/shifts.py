"""The divergence of a teacher's frames from the student's frames in reach, and the shift under which it is least."""

from __future__ import annotations

import numpy as np

from kd_asr_slr.kernels.compiling import F32, HIGHEST, LARGEST, LOWEST, compiled, exp, own_rows


@compiled
def _soften(scores: np.ndarray, inverse: np.float32, out: np.ndarray) -> tuple[np.float32, np.float32]:
    """exp(scores / T) in `out`; their sum, and that of their products with the scores."""
    total, own = F32(0.0), F32(0.0)
    for v in range(len(scores)):
        prob = exp(scores[v] * inverse)
        out[v] = prob
        total += prob
        own += prob * scores[v]
    return total, own


@compiled
def _soften_all(
    scores: np.ndarray, inverse: np.float32, dropped: int, out: np.ndarray
) -> tuple[np.float32, np.float32]:
    """`_soften` of all classes but the dropped one, which gets 0."""
    behind = dropped + 1
    total, own = _soften(scores[behind:], inverse, out[behind:])
    if dropped >= 0:
        parts = _soften(scores[:dropped], inverse, out)
        total, own = total + parts[0], own + parts[1]
        out[dropped] = F32(0.0)
    return total, own


@compiled
def _products(one: np.ndarray, two: np.ndarray, frames: np.ndarray, start: int, out: np.ndarray) -> None:
    """Products of two rows with frames [T, V], from `start` on, in `out` [2, R]; any number where there is no frame.

    Two at a time and three frames: each number from the second cache is used twice.
    """
    last, size = len(frames) - 1, out.shape[1]
    for place in range(0, size, 3):
        a, b, c, d, e, f = F32(0.0), F32(0.0), F32(0.0), F32(0.0), F32(0.0), F32(0.0)
        frame = start + place
        p, q = frames[min(max(frame, 0), last)], frames[min(max(frame + 1, 0), last)]
        r = frames[min(max(frame + 2, 0), last)]
        for v in range(len(one)):
            a += one[v] * p[v]
            b += one[v] * q[v]
            c += one[v] * r[v]
            d += two[v] * p[v]
            e += two[v] * q[v]
            f += two[v] * r[v]
        out[0, place], out[1, place] = a, d
        if place + 1 < size:
            out[0, place + 1], out[1, place + 1] = b, e
        if place + 2 < size:
            out[0, place + 2], out[1, place + 2] = c, f


@compiled
def banded(
    student: np.ndarray,
    teacher: np.ndarray,
    counted: np.ndarray,
    lengths: np.ndarray,
    window: int,
    temperature: np.float32,
    dropped: int,
    divergence: np.ndarray,
    normalisers: np.ndarray,
    counter: np.ndarray,
    count: int,
    chunk: int,
) -> bool:
    """`losses.shifts.best_shifts` before the shifts are compared: pairs of the teacher's frames, then the student's.

    Args:
        student: [B, T, V].
        teacher: [B, T', V].
        counted: [B, T'], the teacher's frames that count; the others are not read.
        lengths: [B], valid frames of the student.
        window: n.
        temperature: T.
        dropped: class left out; -1: none.
        divergence: [B, T', 2 n + 1], where the divergence goes, but for the student's normaliser; any number where
            there is no such frame of the student.
        normalisers: [B, T], where logsumexp(student / T) goes.

    Returns:
        Whether no exponential of a teacher's frame that counts has over- or underflowed, and none of the student's.
    """
    width, theirs, ours = student.shape[2], teacher.shape[1], student.shape[1]
    reach, pairs = 2 * window + 1, (theirs + 1) // 2
    probs, products = np.empty((2, width), F32), np.empty((2, reach + 1), F32)
    inverse, safe = F32(1.0) / temperature, True
    for index in own_rows(counter, count, chunk):
        if index >= len(teacher) * pairs:
            utterance, frame = (index - len(teacher) * pairs) // ours, (index - len(teacher) * pairs) % ours
            if frame >= lengths[utterance]:
                continue
            total, _ = _soften_all(student[utterance, frame], inverse, dropped, probs[0])
            normalisers[utterance, frame] = np.log(total)
            safe &= LOWEST < total < HIGHEST
            continue
        utterance, frame = index // pairs, 2 * (index % pairs)
        later = frame + 1 < theirs and counted[utterance, frame + 1]
        if not (later or counted[utterance, frame]):
            continue
        one, two = frame if counted[utterance, frame] else frame + 1, frame + 1 if later else frame
        total, own = _soften_all(teacher[utterance, one], inverse, dropped, probs[0])
        their_total, their_own = _soften_all(teacher[utterance, two], inverse, dropped, probs[1])
        _products(probs[0], probs[1], student[utterance], one - window, products)
        for place in range(reach):
            divergence[utterance, one, place] = (own - products[0, place]) * inverse / total - np.log(total)
            divergence[utterance, two, place] = (
                their_own - products[1, place + two - one]
            ) * inverse / their_total - np.log(their_total)
        safe &= (
            LOWEST < total < HIGHEST
            and LOWEST < their_total < HIGHEST
            and abs(own) < LARGEST
            and abs(their_own) < LARGEST
        )
    return safe


@compiled
def least(
    divergence: np.ndarray,
    normalisers: np.ndarray,
    counted: np.ndarray,
    lengths: np.ndarray,
    same: float,
    shifts: np.ndarray,
) -> None:
    """`losses.shifts.least_shifts`, with the student's normalisers added to what `banded` found.

    Args:
        divergence: [B, T', 2 n + 1].
        normalisers: [B, T].
        counted: [B, T'].
        lengths: [B], valid frames of the student.
        same: costs nearer than this, absolutely or relatively, are equal.
        shifts: [B], where they go.
    """
    window = divergence.shape[2] // 2
    costs = np.empty(2 * window + 1)
    for utterance in range(len(divergence)):
        for shift in range(-window, window + 1):
            total, pairs = 0.0, 0
            for frame in range(max(0, -shift), min(divergence.shape[1], lengths[utterance] - shift)):
                if counted[utterance, frame]:
                    total += divergence[utterance, frame, shift + window] + normalisers[utterance, frame + shift]
                    pairs += 1
            costs[shift + window] = total / pairs if pairs else np.inf
        smallest, best = costs.min(), 2 * window + 1  # farther than any shift
        for shift in range(-window, window + 1):
            near = costs[shift + window] <= smallest + same * (1 + abs(smallest))
            if near and abs(shift) < abs(best):
                best = shift
        shifts[utterance] = best if abs(best) <= window else 0
