"""The Kullback-Leibler divergence that every soft loss shares, row by row.

Value and gradient come out of one pass over blocks of rows that fit into the cache. Beside the inputs, nothing of size
[N, V] exists but the gradient itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from kd_asr_slr.losses.masking import Rows

# Numbers a block; four of these stay in the cache of a processor, a GPU wants fewer and larger ones.
BLOCK_SIZE = {"cpu": 3 * 2**16, "cuda": 2**23}
SAFE_PROBABILITY = 1e-9  # its logarithm is exact to 1e-6


def row_kl(
    student_logits: torch.Tensor,
    teacher_log_probs: torch.Tensor,
    temperature: float = 1.0,
    drop_class: int | None = None,
) -> torch.Tensor:
    """KL(teacher_T || student_T) * T^2 of each row, in float32 whatever the inputs are.

    Both sides are softened: teacher_T = softmax(log_probs / T), student_T = softmax(logits / T). Log-probabilities
    are logits up to a constant, so this equals softening the teacher's own logits. The gradient with respect to a
    logit is T * (student_T - teacher_T), whose scale hardly depends on T. It cannot be differentiated twice.

    Args:
        student_logits: [N, V], raw.
        teacher_log_probs: [N, V], at temperature 1; -inf means probability 0. Receives no gradient.
        temperature: T > 0.
        drop_class: class left out on both sides before the softmax, e.g. the blank; None keeps all.

    Returns:
        [N].

    Raises:
        ValueError: if the shapes differ, or T is not positive.

    Source:
        Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531), section 2.

    Example:
        >>> logits = torch.tensor([[1.0, 2.0, 3.0]])
        >>> row_kl(logits, logits.log_softmax(-1), temperature=2.0).abs() < 1e-6
        tensor([True])
    """
    if student_logits.shape != teacher_log_probs.shape:
        raise ValueError(f"student rows are {tuple(student_logits.shape)}, teacher's {tuple(teacher_log_probs.shape)}")
    options = _Options(_checked(temperature), drop_class)
    return _RowKL.apply(student_logits, teacher_log_probs.detach(), None, None, options)


def selected_kl(
    student_logits: torch.Tensor,
    teacher_log_probs: torch.Tensor,
    rows: Rows,
    temperature: float = 1.0,
    drop_class: int | None = None,
) -> torch.Tensor:
    """`row_kl` of the selected positions of two padded batches, without a copy of the selection.

    Args:
        student_logits: [B, T, V], raw.
        teacher_log_probs: [B, T', V]; its padding may differ from the student's.
        rows: (utterance, position) of every selected row, [N] each; the same position on both sides, each once.
        temperature: T > 0.
        drop_class: as in `row_kl`.

    Returns:
        [N].

    Raises:
        ValueError: if the vocabularies differ in size, or T is not positive.

    Example:
        >>> logits = torch.zeros(1, 2, 3)
        >>> selected_kl(logits, logits.log_softmax(-1), (torch.tensor([0]), torch.tensor([1])))
        tensor([0.])
    """
    shapes = tuple(student_logits.shape), tuple(teacher_log_probs.shape)
    if shapes[0][::2] != shapes[1][::2]:
        raise ValueError(f"student logits are {shapes[0]}, teacher's {shapes[1]}; B and V must agree")
    options = _Options(_checked(temperature), drop_class)
    student, places = _flat(student_logits, rows)
    teacher, teacher_places = _flat(teacher_log_probs.detach(), rows)
    if len(places) == len(student) == len(teacher):
        ordered = torch.arange(len(places), device=places.device)
        if torch.equal(places, ordered) and torch.equal(teacher_places, ordered):  # everything: blocks are slices
            places = teacher_places = None
    return _RowKL.apply(student, teacher, places, teacher_places, options)


def _checked(temperature: float) -> float:
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, it must be positive")
    return temperature


def _flat(batch: torch.Tensor, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch [B, T, V] as [B * T, V], without a copy also where time comes first in memory, and the rows' places."""
    utterances, positions = rows
    count, frames, _ = batch.shape
    if not batch.is_contiguous() and batch.transpose(0, 1).is_contiguous():
        return batch.transpose(0, 1).flatten(0, 1), positions * count + utterances
    return batch.flatten(0, 1), utterances * frames + positions


@dataclass(frozen=True)
class _Options:
    temperature: float
    drop_class: int | None


class _RowKL(torch.autograd.Function):
    """Row-wise KL; `forward` writes the gradient for a weight of 1, `backward` scales it in place and hands it over."""

    @staticmethod
    def forward(
        ctx: Any,
        student: torch.Tensor,
        teacher: torch.Tensor,
        places: torch.Tensor | None,
        teacher_places: torch.Tensor | None,
        options: _Options,
    ) -> torch.Tensor:
        sides = student, teacher, places, teacher_places
        values, gradient = _one_pass(*sides, options, with_gradient=ctx.needs_input_grad[0])
        ctx.save_for_backward(*sides)
        ctx.options, ctx.gradient = options, gradient
        return values.mul_(options.temperature**2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        student, teacher, places, teacher_places = ctx.saved_tensors
        # A second call (retain_graph) finds the gradient gone, with the first caller, and computes it again.
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            _, gradient = _one_pass(student, teacher, places, teacher_places, ctx.options)
        scale = weights * ctx.options.temperature  # [N]
        if places is not None and len(gradient) == len(student):
            scale = scale.new_zeros(len(gradient)).index_copy_(0, places, scale)
        gradient.mul_(scale.unsqueeze(1))
        if len(gradient) < len(student):
            gradient = torch.zeros_like(student).index_copy_(0, places, gradient)
        return gradient, None, None, None, None


def _one_pass(
    student: torch.Tensor,
    teacher: torch.Tensor,
    places: torch.Tensor | None,
    teacher_places: torch.Tensor | None,
    options: _Options,
    with_gradient: bool = True,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """KL(teacher_T || student_T) [N], and student_T - teacher_T.

    The latter comes as [N, V] where that is at most half of the student's [M, V]; else as [M, V] with 0 in the other
    rows, so that no second one is needed to spread it out.

    With a, b the softened scores of student and teacher, p the teacher's probabilities and A, B the log-normalisers, it
    is sum p ((b - a) - (B - A)): the difference goes into every class, where the terms are as small as the divergence
    is; outside of the sum, large terms would cancel.
    """
    count, width = len(student) if places is None else len(places), student.shape[1]
    kind = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    values = student.new_empty(count, dtype=kind)
    gradient, compact = None, 2 * count <= len(student)
    if with_gradient:
        gradient = student.new_empty(count, width) if compact or places is None else torch.zeros_like(student)
    step = max(1, BLOCK_SIZE.get(student.device.type, BLOCK_SIZE["cuda"]) // max(width, 1))
    buffers = student.new_empty(4, min(step, count), width, dtype=kind)
    for start in range(0, count, step):
        rows = slice(start, min(start + step, count))
        scratch, difference, probs, targets = buffers[:, : rows.stop - start].unbind()  # [R, V] each
        ours = _softened(student, places, rows, options, scratch)
        theirs = _softened(teacher, teacher_places, rows, options, difference)
        torch.softmax(ours, -1, out=probs)
        torch.softmax(theirs, -1, out=targets)
        shift = _log_normaliser_difference(ours, theirs, probs, targets, options.drop_class)
        # 0 times a finite floor, which stands for the -inf of probability 0, is 0 and not NaN.
        torch.sub(theirs, ours, out=difference).clamp_(min=torch.finfo(kind).min / 4)
        torch.sum(difference.sub_(shift).mul_(targets), -1, out=values[rows])
        if gradient is None:
            continue
        if places is None or compact:
            torch.sub(probs, targets, out=gradient[rows])
        else:
            gradient.index_copy_(0, places[rows], probs.sub_(targets).to(gradient.dtype))
    return values, gradient


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
    scores: torch.Tensor, places: torch.Tensor | None, rows: slice, options: _Options, buffer: torch.Tensor
) -> torch.Tensor:
    """The scores [R, V] of the rows over T: in the buffer, or the rows themselves where nothing changes them."""
    chosen = scores[rows] if places is None else scores.index_select(0, places[rows])
    if options.temperature == 1 and options.drop_class is None and chosen.dtype == buffer.dtype:
        return chosen
    torch.mul(chosen.to(buffer.dtype), 1 / options.temperature, out=buffer)
    if options.drop_class is not None:
        buffer[:, options.drop_class] = torch.finfo(buffer.dtype).min / 4
    return buffer
