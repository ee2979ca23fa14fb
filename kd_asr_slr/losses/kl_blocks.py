"""The arithmetic of `kl`: value and gradient of rows, in one pass over blocks that fit into the cache."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from kd_asr_slr.blocks import are_safe, rows_at_once

SAFE_PROBABILITY = 1e-9  # its logarithm is exact to 1e-6


@dataclass(frozen=True)
class Sides:
    """What is compared with what.

    Attributes:
        student: [M, V], raw.
        teacher: [M', V], log-probabilities at temperature 1.
        places: [N], distinct, the student's rows that count; None takes all of them, and all of the teacher's.
        teacher_places: [N], the teacher's rows beside them.
        temperature: T > 0.
        drop_class: class left out on both sides; None keeps all.
    """

    student: torch.Tensor
    teacher: torch.Tensor
    places: torch.Tensor | None
    teacher_places: torch.Tensor | None
    temperature: float
    drop_class: int | None

    @property
    def count(self) -> int:
        """N."""
        return len(self.student) if self.places is None else len(self.places)

    @property
    def dtype(self) -> torch.dtype:
        """At least float32, whatever the sides are in."""
        return torch.promote_types(torch.promote_types(self.student.dtype, self.teacher.dtype), torch.float32)

    @property
    def compact(self) -> bool:
        """Whether the gradient is [N, V] and not [M, V]: where that is at most half of it."""
        return self.places is not None and 2 * self.count <= len(self.student)

    @property
    def scattered(self) -> bool:
        """Whether a block of rows is not a block of the gradient."""
        return self.places is not None and not self.compact

    def blocks(self, buffers: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """Slices of the N rows, and room for that many blocks of them: [buffers, R, V]."""
        step = max(1, min(rows_at_once(self.student, buffers), self.count))
        room = self.student.new_empty(buffers, step, self.student.shape[1], dtype=self.dtype)
        for start in range(0, self.count, step):
            rows = slice(start, min(start + step, self.count))
            yield rows, room[:, : rows.stop - rows.start]


@dataclass(frozen=True)
class Divergence:
    """What came out.

    Attributes:
        values: [N], KL(teacher_T || student_T) * T^2.
        gradient: T * (student_T - teacher_T), each row divided by its `scale`: [N, V] where `Sides.compact`, else
            [M, V] with 0 in the other rows, so that no second one is needed to spread it out. None where it was not
            asked for.
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
    gradient = _room_for_gradient(sides) if with_gradient else None
    found = None
    if sides.student.device.type == "cpu" and sides.student.dtype != torch.float16:  # it holds no large exponential
        found = _plain_exponentials(sides, gradient)
    return _softmaxes(sides, gradient) if found is None else found


def spread(
    gradient: torch.Tensor, scale: torch.Tensor, places: torch.Tensor | None, like: torch.Tensor
) -> torch.Tensor:
    """A gradient with each row times its scale, in place, and at its place among rows of 0.

    Args:
        gradient: [N, V] of the rows that count, or [M, V] with 0 in the others.
        scale: [N].
        places: [N], where these rows are; None: N is M, and all of them are in their places.
        like: [M, V].

    Returns:
        [M, V].
    """
    if places is not None and len(gradient) == len(like):
        scale = scale.new_zeros(len(like)).index_copy_(0, places, scale)
    gradient.mul_(scale.unsqueeze(1))
    if len(gradient) < len(like):
        return torch.zeros_like(like).index_copy_(0, places, gradient)
    return gradient


def _room_for_gradient(sides: Sides) -> torch.Tensor:
    if sides.compact or sides.count == len(sides.student):
        return sides.student.new_empty(sides.count, sides.student.shape[1])
    return torch.zeros_like(sides.student)


def _write(gradient: torch.Tensor, sides: Sides, rows: slice, block: torch.Tensor) -> None:
    """Put the gradient of some rows, where it was not computed in its place, into its place."""
    if sides.scattered and sides.places is not None:
        gradient.index_copy_(0, sides.places[rows], block.to(gradient.dtype))


def _plain_exponentials(sides: Sides, gradient: torch.Tensor | None) -> Divergence | None:
    """`one_pass` with exponentials of the scores as they are: no pass for the largest of a row, none to normalise them.

    None where that went wrong: a probability of 0, or scores whose exponentials over- or underflow. To ask costs
    nothing on a processor; a GPU would have to wait.
    """
    values = sides.student.new_empty(sides.count, dtype=sides.dtype)
    totals = values.new_empty(2, sides.count)  # of student and teacher
    for rows, room in sides.blocks(3):
        exponentials, (probs, targets, difference) = room[:2], room.unbind()  # [2, R, V], [R, V] each
        ours = chosen_rows(sides.student, sides.places, rows, probs)
        theirs = chosen_rows(sides.teacher, sides.teacher_places, rows, targets)
        torch.sub(theirs, ours, out=difference)
        _exponentials(ours, theirs, sides.temperature, exponentials)
        if sides.drop_class is not None:
            room[..., sides.drop_class] = 0.0
        our_total, their_total = torch.sum(exponentials, -1, out=totals[:, rows]).unsqueeze(-1)  # [R, 1]
        ratio = their_total / our_total
        # T times the difference of the log-normalisers, since the scores here are not divided by T.
        difference.sub_(ratio.log().mul_(sides.temperature)).mul_(targets)
        if not math.isfinite(torch.sum(difference, -1, out=values[rows]).sum()):
            return None
        if gradient is not None:
            place = difference if sides.scattered else gradient[rows]
            torch.addcmul(probs, targets, ratio.reciprocal_(), value=-1, out=place)
            _write(gradient, sides, rows, place)
    if sides.count and not are_safe(totals):
        return None
    our_totals, their_totals = totals
    return Divergence(values.mul_(sides.temperature).div_(their_totals), gradient, sides.temperature / our_totals)


def chosen_rows(scores: torch.Tensor, places: torch.Tensor | None, rows: slice, buffer: torch.Tensor) -> torch.Tensor:
    """Rows [R, V] of scores, at `places` where some are chosen: in the buffer, or as they lie where that will do."""
    if places is not None:
        if scores.dtype == buffer.dtype:
            return torch.index_select(scores, 0, places[rows], out=buffer)
        return buffer.copy_(scores.index_select(0, places[rows]))
    block = scores[rows]
    return block if block.dtype == buffer.dtype else buffer.copy_(block)


def _exponentials(ours: torch.Tensor, theirs: torch.Tensor, temperature: float, out: torch.Tensor) -> None:
    """exp(scores / T) of both sides, [2, R, V]; the sides themselves may lie there."""
    if temperature == 1:
        torch.exp(ours, out=out[0])
        torch.exp(theirs, out=out[1])
    else:
        torch.mul(ours, 1 / temperature, out=out[0])
        torch.mul(theirs, 1 / temperature, out=out[1])
        out.exp_()


def _softmaxes(sides: Sides, gradient: torch.Tensor | None) -> Divergence:
    """`one_pass` for any scores at all."""
    values = sides.student.new_empty(sides.count, dtype=sides.dtype)
    floor = torch.finfo(sides.dtype).min / 4
    for rows, room in sides.blocks(4):
        scratch, difference, probs, targets = room.unbind()  # [R, V] each
        ours = _softened(sides.student, sides.places, rows, sides, scratch)
        theirs = _softened(sides.teacher, sides.teacher_places, rows, sides, difference)
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


def _softened(
    scores: torch.Tensor, places: torch.Tensor | None, rows: slice, sides: Sides, buffer: torch.Tensor
) -> torch.Tensor:
    """The scores [R, V] of the rows over T: in the buffer, or the rows themselves where nothing changes them."""
    chosen = scores[rows] if places is None else scores.index_select(0, places[rows])
    if sides.temperature == 1 and sides.drop_class is None and chosen.dtype == buffer.dtype:
        return chosen
    torch.mul(chosen.to(buffer.dtype), 1 / sides.temperature, out=buffer)
    if sides.drop_class is not None:
        buffer[:, sides.drop_class] = torch.finfo(buffer.dtype).min / 4
    return buffer
