"""The Kullback-Leibler divergence of rows and its gradient, a row at a time."""

from __future__ import annotations

import numpy as np

from kd_asr_slr.kernels.compiling import F32, HIGHEST, LARGEST, LOWEST, PART, compiled, exp, own_rows


@compiled
def _exponentials(
    ours: np.ndarray,
    theirs: np.ndarray,
    inverse: np.float32,
    probs: np.ndarray,
    targets: np.ndarray,
) -> tuple[np.float32, np.float32]:
    """exp(scores / T) of both sides, and their sums."""
    our_total, their_total = 0.0, 0.0
    for start in range(0, len(ours), PART):
        part = slice(start, start + PART)
        x, y, p, q = ours[part], theirs[part], probs[part], targets[part]
        our_sum, their_sum = F32(0.0), F32(0.0)
        for v in range(len(x)):
            prob, target = exp(x[v] * inverse), exp(y[v] * inverse)
            p[v], q[v] = prob, target
            our_sum += prob
            their_sum += target
        our_total += float(our_sum)
        their_total += float(their_sum)
    return F32(our_total), F32(their_total)


@compiled
def _compare(ours: np.ndarray, theirs: np.ndarray, targets: np.ndarray, shift: np.float32) -> np.float32:
    """The sum of (theirs - ours - shift) * targets."""
    total = 0.0
    for start in range(0, len(ours), PART):
        part = slice(start, start + PART)
        x, y, q = ours[part], theirs[part], targets[part]
        of_part = F32(0.0)
        for v in range(len(x)):
            of_part += (y[v] - x[v] - shift) * q[v]
        total += float(of_part)
    return F32(total)


@compiled
def _between(before: np.ndarray, after: np.ndarray, share: np.float32, lowest: np.float32, out: np.ndarray) -> None:
    """`1 - share` of one row and `share` of the next; what is lower counts as `lowest`."""
    for v in range(len(out)):
        low, high = max(before[v], lowest), max(after[v], lowest)
        out[v] = low + share * (high - low)


@compiled
def divergence(
    student: np.ndarray,
    places: np.ndarray,
    teacher: np.ndarray,
    their_places: np.ndarray,
    later: np.ndarray,
    shares: np.ndarray,
    lowest: np.float32,
    temperature: np.float32,
    dropped: int,
    values: np.ndarray,
    scales: np.ndarray,
    gradient: np.ndarray,
    counter: np.ndarray,
    count: int,
    chunk: int,
) -> bool:
    """`losses.kl_blocks.one_pass` of the rows of a thread, with exponentials of the scores as they are.

    Args:
        student: [M, V].
        places: [N], its rows that count; empty: all of them, in their order.
        teacher: [M', V].
        their_places: [N]; empty: all of them, in their order.
        later: [N], the row after it, where frames are interpolated; else empty.
        shares: [N], of the later row; else empty.
        lowest: what lower scores of the teacher count as, where frames are interpolated.
        temperature: T.
        dropped: class left out; -1: none.
        values: [N], where the divergence goes.
        scales: [N], where T over the student's totals goes.
        gradient: [M, V], where the gradient goes, each row divided by its scale; [0, 0]: nowhere.

    Returns:
        Whether no exponential that counts has over- or underflowed.
    """
    width = student.shape[1]
    probs, targets, between = np.empty(width, F32), np.empty(width, F32), np.empty(width, F32)
    inverse, safe = F32(1.0) / temperature, True
    for row in own_rows(counter, count, chunk):
        place = places[row] if len(places) else row
        ours = student[place]
        theirs = teacher[their_places[row] if len(their_places) else row]
        if len(later):
            _between(theirs, teacher[later[row]], shares[row], lowest, between)
            theirs = between
        # Behind the dropped class, and before it; where none is dropped, all classes and none.
        behind = dropped + 1
        our_total, their_total = _exponentials(
            ours[behind:], theirs[behind:], inverse, probs[behind:], targets[behind:]
        )
        if dropped > 0:
            parts = _exponentials(ours[:dropped], theirs[:dropped], inverse, probs, targets)
            our_total, their_total = our_total + parts[0], their_total + parts[1]
        ratio = their_total / our_total
        shift = temperature * np.log(ratio)  # T times the difference of the log-normalisers
        value = _compare(ours[behind:], theirs[behind:], targets[behind:], shift)
        if dropped > 0:
            value += _compare(ours[:dropped], theirs[:dropped], targets, shift)
        values[row], scales[row] = value * temperature / their_total, temperature / our_total
        safe &= LOWEST < our_total < HIGHEST and LOWEST < their_total < HIGHEST and abs(value) < LARGEST
        safe &= F32(1.0) / HIGHEST < ratio < HIGHEST  # both totals may be safe, and their ratio not
        if len(gradient):
            share = F32(1.0) / ratio
            out = gradient[place]
            for v in range(width):
                out[v] = probs[v] - targets[v] * share
            if dropped >= 0:
                out[dropped] = F32(0.0)
    return safe


@compiled
def scale(rows: np.ndarray, kept: np.ndarray, factors: np.ndarray, counter: np.ndarray, count: int, chunk: int) -> None:
    """Each row of [M, V] times its factor [M], in place; one that is not kept, [M], becomes 0, whatever it holds."""
    for index in own_rows(counter, count, chunk):
        row, factor = rows[index], factors[index]
        if kept[index]:
            for v in range(len(row)):
                row[v] *= factor
        else:
            row[:] = F32(0.0)
