"""The arithmetic of `kl`: value and gradient of rows, in one pass over blocks that fit into the cache."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from kd_asr_slr.blocks import are_safe, rows_at_once
from kd_asr_slr.kernels.buffers import BUFFERS
from kd_asr_slr.kernels.dispatch import applies, in_threads, within
from kd_asr_slr.losses.row_sources import RowsBetween, RowSource
from kd_asr_slr.outputs import given

SAFE_PROBABILITY = 1e-9  # its logarithm is exact to 1e-6


@dataclass(frozen=True)
class Sides:
    """What is compared with what.

    Attributes:
        student: [N, V] rows of M, raw, each once.
        teacher: [N, V] rows, log-probabilities at temperature 1.
        temperature: T > 0.
        drop_class: class left out on both sides; None keeps all.
    """

    student: RowSource
    teacher: RowSource
    temperature: float
    drop_class: int | None

    @property
    def count(self) -> int:
        """N."""
        return len(self.student)

    @property
    def dtype(self) -> torch.dtype:
        """At least float32, whatever the sides are in."""
        both = torch.promote_types(self.student.scores.dtype, self.teacher.scores.dtype)
        return torch.promote_types(both, torch.float32)

    @property
    def compact(self) -> bool:
        """Whether the gradient is [N, V] and not [M, V]: where that is at most half of it."""
        return self.student.places is not None and 2 * self.count <= len(self.student.scores)

    @property
    def scattered(self) -> bool:
        """Whether a block of rows is not a block of the gradient."""
        return self.student.places is not None and not self.compact

    @property
    def within(self) -> bool:
        """Whether rows and class exist. Where they do not it is left to torch to say so, or to count from the end."""
        student, teacher = self.student, self.teacher
        later = [teacher.later] if isinstance(teacher, RowsBetween) else []
        theirs = [places for places in (teacher.places, *later) if places is not None]
        return (
            within(len(student.scores), *([] if student.places is None else [student.places]))
            and within(len(teacher.scores), *theirs)
            and 0 <= (self.drop_class or 0) < student.scores.shape[1]
        )

    def blocks(self, buffers: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """Slices of the N rows, and room for that many blocks of them: [buffers, R, V]."""
        scores = self.student.scores
        step = max(1, min(rows_at_once(scores, buffers), self.count))
        room = scores.new_empty(buffers, step, scores.shape[1], dtype=self.dtype)
        for start in range(0, self.count, step):
            rows = slice(start, min(start + step, self.count))
            yield rows, room[:, : rows.stop - rows.start]


@dataclass(frozen=True)
class Divergence:
    """What came out.

    Attributes:
        values: [N], KL(teacher_T || student_T) * T^2.
        gradient: T * (student_T - teacher_T), each row divided by its `scale`: [M, V] with its rows in their places,
            so that no second one is needed to spread it out, or [N, V] (see `Sides.compact`); for `spread` only. None
            where it was not asked for.
        scale: [N].
    """

    values: torch.Tensor
    gradient: torch.Tensor | None
    scale: torch.Tensor


def one_pass(sides: Sides, with_gradient: bool = True) -> Divergence:
    """The divergence of every row.

    With a, b the softened scores of student and teacher, p the teacher's probabilities and A, B the log-normalisers, it
    is sum p ((b - a) - (B - A)): the difference goes into every class, where the terms are as small as the divergence
    is; outside of the sum, large terms would cancel.
    """
    scores, found = sides.student.scores, None
    if applies(scores, sides.teacher.scores) and sides.within:
        found = _compiled(sides, with_gradient)
    elif scores.device.type == "cpu" and scores.dtype != torch.float16:  # it holds no large exponential
        found = _plain_exponentials(sides, with_gradient)
    return _softmaxes(sides, with_gradient) if found is None else found


def spread(
    gradient: torch.Tensor, scale: torch.Tensor, places: torch.Tensor | None, like: torch.Tensor
) -> torch.Tensor:
    """A gradient with each row times its scale, in place, and at its place among rows of 0.

    Args:
        gradient: [N, V] of the rows that count, or [M, V] with 0 in the others, which may hold anything where compiled
            loops are used.
        scale: [N].
        places: [N], where these rows are; None: N is M, and all of them are in their places.
        like: [M, V].

    Returns:
        [M, V].
    """
    if places is not None and len(gradient) < len(like):
        return torch.zeros_like(like).index_copy_(0, places, gradient.mul_(scale.unsqueeze(1)))
    kept, factors = torch.ones(len(like), dtype=torch.bool, device=like.device), scale
    if places is not None:
        kept = kept.logical_not_().index_fill_(0, places, True)
        factors = scale.new_zeros(len(like)).index_copy_(0, places, scale)
    if not applies(gradient):
        return gradient.mul_(factors.unsqueeze(1))
    from kd_asr_slr.kernels.divergence import scale as scale_rows

    in_threads(scale_rows, len(like), like.shape[1], gradient, kept, factors.to(gradient.dtype))
    return gradient


def _numbers(places: torch.Tensor | None) -> torch.Tensor:
    """Of rows, for a compiled loop, which takes no None: empty means all, in their order."""
    return torch.empty(0, dtype=torch.long) if places is None else places


def _room_for_gradient(sides: Sides, wanted: bool) -> torch.Tensor | None:
    scores = sides.student.scores
    if not wanted:
        return None
    if sides.compact or sides.count == len(scores):
        return scores.new_empty(sides.count, scores.shape[1])
    return torch.zeros_like(scores)


def _write(gradient: torch.Tensor, sides: Sides, rows: slice, block: torch.Tensor) -> None:
    """Put the gradient of some rows, where it was not computed in its place, into its place."""
    if sides.scattered:
        gradient.index_copy_(0, given(sides.student.places, "places")[rows], block.to(gradient.dtype))


def _compiled(sides: Sides, with_gradient: bool) -> Divergence | None:
    """`_plain_exponentials` in one loop over the rows; the gradient is [M, V], with anything in the other rows."""
    from kd_asr_slr.kernels.divergence import divergence

    student, teacher = sides.student, sides.teacher
    scores, nothing = student.scores, student.scores.new_empty(0)
    between = (_numbers(None), nothing, -math.inf)
    if isinstance(teacher, RowsBetween):
        lowest = -math.inf if teacher.lowest is None else teacher.lowest
        between = (teacher.later, teacher.share.flatten().float(), lowest)
    gradient = BUFFERS.take(*scores.shape) if with_gradient else nothing.view(0, 0)
    values, scale = scores.new_empty(2, sides.count)
    safe = in_threads(
        divergence,
        sides.count,
        2 * scores.shape[1],
        scores,
        _numbers(student.places),
        teacher.scores,
        _numbers(teacher.places),
        *between[:2],
        np.float32(between[2]),
        np.float32(sides.temperature),
        -1 if sides.drop_class is None else sides.drop_class,
        values,
        scale,
        gradient,
    )
    return Divergence(values, gradient if with_gradient else None, scale) if all(safe) else None


def _plain_exponentials(sides: Sides, with_gradient: bool) -> Divergence | None:
    """`one_pass` with exponentials of the scores as they are: no pass for the largest of a row, none to normalise them.

    None where that went wrong: a probability of 0, or scores whose exponentials over- or underflow. To ask costs
    nothing on a processor; a GPU would have to wait.
    """
    gradient = _room_for_gradient(sides, with_gradient)
    values = sides.student.scores.new_empty(sides.count, dtype=sides.dtype)
    totals = values.new_empty(2, sides.count)  # of student and teacher
    for rows, room in sides.blocks(3):
        exponentials, (probs, targets, difference) = room[:2], room.unbind()  # [2, R, V], [R, V] each
        theirs = sides.teacher.block(rows, targets, difference)
        ours = sides.student.block(rows, probs, difference)
        torch.sub(theirs, ours, out=difference)
        _exponentials(ours, theirs, sides.temperature, exponentials)
        if sides.drop_class is not None:
            room[..., sides.drop_class] = 0.0
        our_total, their_total = torch.sum(exponentials, -1, out=totals[:, rows]).unsqueeze(-1)  # [R, 1]
        place = None if gradient is None else difference if sides.scattered else gradient[rows]
        found = compared(difference, exponentials, our_total, their_total, sides.temperature, values[rows], place)
        if not math.isfinite(found.sum()):
            return None
        if gradient is not None and place is not None:
            _write(gradient, sides, rows, place)
    our_totals, their_totals = totals
    if sides.count and not (are_safe(totals) and are_safe(their_totals / our_totals)):
        return None
    return Divergence(values.mul_(sides.temperature).div_(their_totals), gradient, sides.temperature / our_totals)


def compared(
    difference: torch.Tensor,
    exponentials: torch.Tensor | tuple[torch.Tensor, torch.Tensor],
    our_totals: torch.Tensor,
    their_totals: torch.Tensor,
    temperature: float,
    values: torch.Tensor,
    place: torch.Tensor | None,
) -> torch.Tensor:
    """The divergence of rows, times their totals over T, from exponentials that are neither shifted nor normalised.

    Args:
        difference: [R, V], the teacher's scores minus the student's; overwritten.
        exponentials: exp(scores / T) of the student and of the teacher, [R, V] each.
        our_totals: [R, 1], their sums.
        their_totals: [R, 1].
        temperature: T.
        values: [R], where it goes.
        place: [R, V], where the gradient goes, divided by T / our_totals; it may be `difference`, or the student's
            exponentials. None: nowhere.

    Returns:
        The values.
    """
    probs, targets = exponentials
    ratio = their_totals / our_totals
    # T times the difference of the log-normalisers, since the scores here are not divided by T.
    torch.sum(difference.sub_(ratio.log().mul_(temperature)).mul_(targets), -1, out=values)
    if place is not None:
        torch.addcmul(probs, targets, ratio.reciprocal_(), value=-1, out=place)
    return values


def _exponentials(ours: torch.Tensor, theirs: torch.Tensor, temperature: float, out: torch.Tensor) -> None:
    """exp(scores / T) of both sides, [2, R, V]; the sides themselves may lie there."""
    if temperature == 1:
        torch.exp(ours, out=out[0])
        torch.exp(theirs, out=out[1])
    else:
        torch.mul(ours, 1 / temperature, out=out[0])
        torch.mul(theirs, 1 / temperature, out=out[1])
        out.exp_()


def _softmaxes(sides: Sides, with_gradient: bool) -> Divergence:
    """`one_pass` for any scores at all."""
    gradient = _room_for_gradient(sides, with_gradient)
    values = sides.student.scores.new_empty(sides.count, dtype=sides.dtype)
    floor = torch.finfo(sides.dtype).min / 4
    for rows, room in sides.blocks(4):
        scratch, difference, probs, targets = room.unbind()  # [R, V] each
        theirs = _softened(sides.teacher.block(rows, difference, scratch), sides, difference)
        ours = _softened(sides.student.block(rows, scratch, probs), sides, scratch)
        torch.softmax(ours, -1, out=probs)
        torch.softmax(theirs, -1, out=targets)
        shift = _log_normaliser_difference(ours, theirs, probs, targets, sides.drop_class)
        # 0 times a finite floor, which stands for the -inf of probability 0, is 0 and not NaN.
        torch.sub(theirs, ours, out=difference).clamp_(min=floor)
        torch.sum(difference.sub_(shift).mul_(targets), -1, out=values[rows])
        if gradient is not None:
            place = probs if sides.scattered else gradient[rows]
            torch.sub(probs, targets, out=place)
            _write(gradient, sides, rows, place)
    return Divergence(values.mul_(sides.temperature**2), gradient, torch.full_like(values, sides.temperature))


def _log_normaliser_difference(
    ours: torch.Tensor, theirs: torch.Tensor, probs: torch.Tensor, targets: torch.Tensor, drop_class: int | None
) -> torch.Tensor:
    """The teacher's log-normaliser minus the student's, [R, 1]: of any class, the score minus the log-probability.

    Of a class of probability near 0 that is inexact; the largest ones are then looked up, at the price of two passes. A
    GPU always does so, since to ask would make it wait.
    """
    sides = ours, theirs, probs, targets  # [R, V] each
    chosen = 1 if drop_class == 0 and ours.shape[1] > 1 else 0
    of_class = torch.stack([side[:, chosen] for side in sides])  # [4, R]
    if ours.is_cuda or of_class[2:].amin() < SAFE_PROBABILITY:
        of_class = torch.stack([side.amax(-1) for side in sides])
    our_score, their_score, our_prob, their_prob = of_class
    return (their_score - our_score).sub_(torch.log(their_prob / our_prob)).unsqueeze(1)


def _softened(scores: torch.Tensor, sides: Sides, out: torch.Tensor) -> torch.Tensor:
    """Scores [R, V] over T, in `out`, where they may lie already; the largest of each row becomes 0.

    A row that is far from 0 as a whole would lose its last digits in a difference with the other side's.
    """
    kept = [scores]
    if sides.drop_class is not None:
        dropped = range(scores.shape[1])[sides.drop_class]
        kept = [part for part in (scores[:, :dropped], scores[:, dropped + 1 :]) if part.shape[1]]
    largest = torch.stack([part.amax(-1, keepdim=True) for part in kept]).amax(0) if kept else 0.0  # [R, 1]
    torch.sub(scores, largest, out=out).mul_(1 / sides.temperature)
    if sides.drop_class is not None:
        out[:, sides.drop_class] = torch.finfo(out.dtype).min / 4
    return out
