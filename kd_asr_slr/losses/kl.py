"""The Kullback-Leibler divergence that every soft loss shares, row by row."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from kd_asr_slr.losses.masking import at_least_float32


def row_kl(
    student_logits: torch.Tensor,
    teacher_log_probs: torch.Tensor,
    temperature: float = 1.0,
    drop_class: int | None = None,
) -> torch.Tensor:
    """KL(teacher_T || student_T) * T^2 of each row, in float32 whatever the inputs are.

    Both sides are softened: teacher_T = softmax(log_probs / T), student_T = softmax(logits / T). Log-probabilities
    are logits up to a constant, so this equals softening the teacher's own logits. The gradient with respect to a
    logit is T * (student_T - teacher_T), whose scale hardly depends on T.

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
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, it must be positive")
    student = F.log_softmax(_softened(student_logits, temperature, drop_class), dim=-1)
    with torch.no_grad():
        teacher = F.softmax(_softened(teacher_log_probs, temperature, drop_class), dim=-1)
    # With probabilities as the target, torch takes 0 * log 0 as 0; with log-probabilities it gives NaN.
    return F.kl_div(student, teacher, reduction="none").sum(-1) * temperature**2


def _softened(scores: torch.Tensor, temperature: float, drop_class: int | None) -> torch.Tensor:
    """The scores over T, without the dropped class, in float32: [N, V] or [N, V-1]."""
    scores = at_least_float32(scores)
    if drop_class is not None:
        scores = torch.cat([scores[:, :drop_class], scores[:, drop_class + 1 :]], dim=-1)  # [N, V-1]
    return scores if temperature == 1 else scores / temperature
