"""The arithmetic of `kl`: value and gradient of rows, in one pass over blocks that fit into the cache."""

from __future__ import annotations

import math

import torch

from kd_asr_slr.blocks import are_safe
from kd_asr_slr.kernels.dispatch import applies
from kd_asr_slr.losses.kl_compiled import compiled
from kd_asr_slr.losses.kl_sides import Divergence, Sides
from kd_asr_slr.outputs import given

SAFE_PROBABILITY = 1e-9  # its logarithm is exact to 1e-6


def one_pass(sides: Sides, with_gradient: bool = True) -> Divergence:
    """The divergence of every row.

    With a, b the softened scores of student and teacher, p the teacher's probabilities and A, B the log-normalisers, it
    is sum p ((b - a) - (B - A)): the difference goes into every class, where the terms are as small as the divergence
    is; outside of the sum, large terms would cancel.
    """
    scores, found = sides.student.scores, None
    if applies(scores, sides.teacher.scores) and sides.within:
        found = compiled(sides, with_gradient)
    elif scores.device.type == "cpu" and scores.dtype != torch.float16:  # it holds no large exponential
        found = _plain_exponentials(sides, with_gradient)
    return _softmaxes(sides, with_gradient) if found is None else found


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
        found = _compared(difference, exponentials, our_total, their_total, sides.temperature, values[rows], place)
        if not math.isfinite(found.sum()):
            return None
        if gradient is not None and place is not None:
            _write(gradient, sides, rows, place)
    our_totals, their_totals = totals
    if sides.count and not (are_safe(totals) and are_safe(their_totals / our_totals)):
        return None
    return Divergence(values.mul_(sides.temperature).div_(their_totals), gradient, sides.temperature / our_totals)


def _compared(
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
        nothing = _nothing_but_dropped(targets, sides.drop_class)
        values[rows].masked_fill_(nothing, 0.0)
        if gradient is not None:
            place = probs if sides.scattered else gradient[rows]
            torch.sub(probs, targets, out=place).masked_fill_(nothing.unsqueeze(1), 0.0)
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


def _nothing_but_dropped(targets: torch.Tensor, drop_class: int | None) -> torch.Tensor:
    """Which rows of a teacher [R, V] have all their probability where nobody looks, [R]: they are no target."""
    if drop_class is None:
        return targets.new_zeros(len(targets), dtype=torch.bool)
    return targets[:, drop_class] > 0


def _softened(scores: torch.Tensor, sides: Sides, out: torch.Tensor) -> torch.Tensor:
    """Scores [R, V] over T, in `out`, where they may lie already; the largest of each row becomes 0.

    A row that is far from 0 as a whole would lose its last digits in a difference with the other side's.
    """
    kept = [scores]
    if sides.drop_class is not None:
        dropped = range(scores.shape[1])[sides.drop_class]
        kept = [part for part in (scores[:, :dropped], scores[:, dropped + 1 :]) if part.shape[1]]
    largest = torch.stack([part.amax(-1, keepdim=True) for part in kept]).amax(0) if kept else 0.0  # [R, 1]
    if isinstance(largest, torch.Tensor):
        largest = largest.masked_fill(largest == -math.inf, 0.0)
    torch.sub(scores, largest, out=out).mul_(1 / sides.temperature)
    if sides.drop_class is not None:
        out[:, sides.drop_class] = torch.finfo(out.dtype).min / 4
    return out
