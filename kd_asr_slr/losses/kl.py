"""The Kullback-Leibler divergence that every soft loss shares, row by row.

Value and gradient come out of one pass over blocks of rows that fit into the cache. Beside the inputs, nothing of size
[N, V] exists but the gradient itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from kd_asr_slr.losses.kl_blocks import Sides, one_pass, spread
from kd_asr_slr.losses.masking import Rows
from kd_asr_slr.outputs import given


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
    return _RowKL.apply(student_logits, teacher_log_probs.detach(), None, None, _checked(temperature), drop_class)


def selected_kl(
    student_logits: torch.Tensor,
    teacher_log_probs: torch.Tensor,
    rows: Rows,
    temperature: float = 1.0,
    drop_class: int | None = None,
    teacher_rows: Rows | None = None,
) -> torch.Tensor:
    """`row_kl` of the selected positions of two padded batches, without a copy of the selection.

    Args:
        student_logits: [B, T, V], raw.
        teacher_log_probs: [B, T', V]; its padding may differ from the student's.
        rows: (utterance, position) of every selected row, [N] each, each once.
        temperature: T > 0.
        drop_class: as in `row_kl`.
        teacher_rows: the teacher's rows beside them; None: the same.

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
    places: torch.Tensor | None
    teacher_places: torch.Tensor | None
    student, places = flat_rows(student_logits, rows)
    teacher, teacher_places = flat_rows(teacher_log_probs.detach(), teacher_rows or rows)
    if len(places) == len(student) == len(teacher):
        ordered = torch.arange(len(places), device=places.device)
        if torch.equal(places, ordered) and torch.equal(teacher_places, ordered):  # everything: blocks are slices
            places = teacher_places = None
    return _RowKL.apply(student, teacher, places, teacher_places, _checked(temperature), drop_class)


def _checked(temperature: float) -> float:
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, it must be positive")
    return temperature


def flat_rows(batch: torch.Tensor, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch [B, T, V] as [B * T, V], without a copy also where time comes first in memory, and the rows' places."""
    utterances, positions = rows
    count, frames, _ = batch.shape
    if not batch.is_contiguous() and batch.transpose(0, 1).is_contiguous():
        return batch.transpose(0, 1).flatten(0, 1), positions * count + utterances
    return batch.flatten(0, 1), utterances * frames + positions


class _RowKL(torch.autograd.Function):
    """Row-wise KL; `forward` writes the gradient for a weight of 1, `backward` scales it in place and hands it over."""

    @staticmethod
    def forward(
        ctx: Any,
        student: torch.Tensor,
        teacher: torch.Tensor,
        places: torch.Tensor | None,
        teacher_places: torch.Tensor | None,
        temperature: float,
        drop_class: int | None,
    ) -> torch.Tensor:
        sides = Sides(student, teacher, places, teacher_places, temperature, drop_class)
        found = one_pass(sides, with_gradient=ctx.needs_input_grad[0])
        ctx.save_for_backward(student, teacher, places, teacher_places, found.scale)
        ctx.options, ctx.gradient = (temperature, drop_class), found.gradient
        return found.values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        *tensors, scale = ctx.saved_tensors
        sides = Sides(*tensors, *ctx.options)
        # A second call (retain_graph) finds the gradient gone, with the first caller, and computes it again.
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            gradient = given(one_pass(sides).gradient, "the gradient")
        return spread(gradient, weights * scale, sides.places, sides.student), None, None, None, None, None
