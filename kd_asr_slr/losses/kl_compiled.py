"""The divergence of rows, and its gradient in its place, by compiled loops."""

from __future__ import annotations

import math

import numpy as np
import torch

from kd_asr_slr.kernels.buffers import BUFFERS
from kd_asr_slr.kernels.dispatch import applies, in_threads
from kd_asr_slr.losses.kl_sides import Divergence, Sides
from kd_asr_slr.losses.row_sources import RowsBetween


def compiled(sides: Sides, with_gradient: bool) -> Divergence | None:
    """The divergence from exponentials of the scores as they are; the gradient is [M, V], anything in the other rows.

    None where that went wrong: a probability of 0, or scores whose exponentials over- or underflow.
    """
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
    factors = scale if places is None else scale.new_zeros(len(like)).index_copy_(0, places, scale)
    if not applies(gradient):
        return gradient.mul_(factors.unsqueeze(1))
    from kd_asr_slr.kernels.divergence import scale as scale_rows

    kept = torch.full((len(like),), places is None)
    if places is not None:
        kept.index_fill_(0, places, True)
    in_threads(scale_rows, len(like), like.shape[1], gradient, kept, factors.to(gradient.dtype))
    return gradient


def _numbers(places: torch.Tensor | None) -> torch.Tensor:
    """Of rows, for a compiled loop, which takes no None: empty means all, in their order."""
    return torch.empty(0, dtype=torch.long) if places is None else places
