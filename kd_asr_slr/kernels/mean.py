"""The weighted mean of many teachers' logits, a frame at a time: each of their numbers is read once."""

from __future__ import annotations

import numpy as np

from kd_asr_slr.kernels.compiling import F32, HIGHEST, LOWEST, PART, compiled, exp, own_rows, row_at

BYTES = 4  # of a float32
TOGETHER = 4  # rows that are added up in one loop; more streams than that a processor does not foresee


@compiled
def _add(out: np.ndarray, addresses: np.ndarray, shares: np.ndarray, fresh: bool) -> None:
    """Four rows by their shares, to `out` or, where it is fresh, instead of what stands there."""
    width = len(out)
    a, b = row_at(addresses[0], width), row_at(addresses[1], width)
    c, d = row_at(addresses[2], width), row_at(addresses[3], width)
    p, q, r, s = shares[0], shares[1], shares[2], shares[3]
    if fresh:
        for v in range(width):
            out[v] = p * a[v] + q * b[v] + r * c[v] + s * d[v]
    else:
        for v in range(width):
            out[v] += p * a[v] + q * b[v] + r * c[v] + s * d[v]


@compiled
def _total(row: np.ndarray, largest: np.float32) -> np.float32:
    """The sum of exp(row - largest)."""
    total = 0.0
    for start in range(0, len(row), PART):
        part, of_part = row[start : start + PART], F32(0.0)
        for v in range(len(part)):
            of_part += exp(part[v] - largest)
        total += float(of_part)
    return F32(total)


@compiled
def _normalise(row: np.ndarray) -> None:
    """log_softmax, in place; the largest number is looked for only where plain exponentials over- or underflow."""
    largest = F32(0.0)
    total = _total(row, largest)
    if not LOWEST < total < HIGHEST:
        largest = row.max()
        total = _total(row, largest)
    log_total = largest + np.log(total)
    for v in range(len(row)):
        row[v] -= log_total


@compiled
def mean_of_logits(
    mean: np.ndarray,
    addresses: np.ndarray,
    frames: np.ndarray,
    shares: np.ndarray,
    valid: np.ndarray,
    before: int,
    last: bool,
    counter: np.ndarray,
    count: int,
    chunk: int,
) -> None:
    """mean = its own share * mean + sum of the teachers' logits by their shares, of the frames of a thread.

    Args:
        mean: [B, T, V]; frame b * T + t.
        addresses: [P, B], where a teacher's logits of an utterance begin; 0: it does not speak for it.
        frames: [P], frames of each teacher.
        shares: [1 + P, B], of the mean as it is, which is not read where that is 0, and of the teachers.
        valid: [B], frames that anybody speaks for.
        before: frames of the mean that were there before; of the others those that nobody speaks for become uniform.
        last: whether it becomes log-probabilities.
    """
    length, width = mean.shape[1:]
    near, weights = np.zeros(TOGETHER, np.int64), np.zeros(TOGETHER, F32)
    nothing = np.zeros(width, F32)  # beside fewer rows than four; one of them again would make 0 times -inf, a NaN
    for index in own_rows(counter, count, chunk):
        utterance, frame = index // length, index % length
        row = mean[utterance, frame]
        if frame >= valid[utterance]:
            if frame >= before:
                row[:] = -np.log(F32(width))
            continue
        spoken_for = False
        for part in range(len(frames)):
            spoken_for |= addresses[part, utterance] != 0
        fresh, waiting = spoken_for and not shares[0, utterance] > 0, 0
        if spoken_for and not fresh:
            share = shares[0, utterance]
            for v in range(width):
                row[v] *= share
        for part in range(len(frames)):
            if addresses[part, utterance] != 0 and frame < frames[part]:
                near[waiting] = addresses[part, utterance] + frame * width * BYTES
                weights[waiting] = shares[1 + part, utterance]
                waiting += 1
            if waiting == TOGETHER:
                _add(row, near, weights, fresh)
                fresh, waiting = False, 0
        if waiting:
            near[waiting:], weights[waiting:] = nothing.ctypes.data, F32(0.0)
            _add(row, near, weights, fresh)
        elif fresh:
            row[:] = F32(0.0)
        if last:
            _normalise(row)
