"""The Kullback-Leibler divergence that every soft loss shares, row by row.

Value and gradient come out of one pass over blocks of rows that fit into the cache. Beside the inputs, nothing of size
[N, V] exists but the gradient itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from kd_asr_slr.losses.kl_blocks import one_pass
from kd_asr_slr.losses.kl_compiled import spread
from kd_asr_slr.losses.kl_sides import Sides
from kd_asr_slr.losses.masking import Rows
from kd_asr_slr.losses.row_sources import Interpolated, RowSource
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
    teacher = RowSource(teacher_log_probs.detach(), None)
    return _RowKL.apply(student_logits, None, teacher, _checked(temperature), drop_class)


def selected_kl(
    student_logits: torch.Tensor,
    teacher_log_probs: torch.Tensor | Interpolated,
    rows: Rows,
    temperature: float = 1.0,
    drop_class: int | None = None,
    teacher_rows: Rows | None = None,
) -> torch.Tensor:
    """`row_kl` of the selected positions of two padded batches, without a copy of the selection.

    Args:
        student_logits: [B, T, V], raw.
        teacher_log_probs: [B, T', V]; its padding may differ from the student's. Up to a constant of each frame.
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
    student = RowSource.of(student_logits, rows)
    if isinstance(teacher_log_probs, Interpolated):
        teacher: RowSource = teacher_log_probs.rows(teacher_rows or rows)
    else:
        teacher = RowSource.of(teacher_log_probs.detach(), teacher_rows or rows)
    return _RowKL.apply(student.scores, student.places, teacher, _checked(temperature), drop_class)


def _checked(temperature: float) -> float:
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, it must be positive")
    return temperature


class _RowKL(torch.autograd.Function):
    """Row-wise KL; `forward` writes the gradient for a weight of 1, `backward` scales it in place and hands it over."""

    @staticmethod
    def forward(
        ctx: Any,
        student: torch.Tensor,
        places: torch.Tensor | None,
        teacher: RowSource,
        temperature: float,
        drop_class: int | None,
    ) -> torch.Tensor:
        sides = Sides(RowSource(student, places), teacher, temperature, drop_class)
        found = one_pass(sides, with_gradient=ctx.needs_input_grad[0])
        ctx.save_for_backward(student, places, found.scale)
        ctx.others, ctx.gradient = (teacher, temperature, drop_class), found.gradient
        return found.values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        student, places, scale = ctx.saved_tensors
        # A second call (retain_graph) finds the gradient gone, with the first caller, and computes it again.
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            gradient = one_pass(Sides(RowSource(student, places), *ctx.others)).gradient
        return spread(given(gradient, "the gradient"), weights * scale, places, student), None, None, None, None
