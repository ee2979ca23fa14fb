"""The divergence against targets of which only some classes are written down, never made dense."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from kd_asr_slr.blocks import rows_at_once
from kd_asr_slr.losses.kl_compiled import spread
from kd_asr_slr.losses.masking import Rows, at_least_float32
from kd_asr_slr.losses.row_sources import flat_rows
from kd_asr_slr.outputs import SparseTargets


def selected_sparse_kl(
    student_logits: torch.Tensor,
    targets: SparseTargets,
    rows: Rows,
    temperature: float = 1.0,
    drop_class: int | None = None,
) -> torch.Tensor:
    """`sparse_row_kl` of the selected positions of a padded batch, as `kl.selected_kl` has it.

    Args:
        student_logits: [B, T, V], raw.
        targets: of [B, T'] frames; their padding may differ from the student's.
        rows: (utterance, position) of every selected row, [N] each; the same position on both sides, each once.
        temperature: T > 0.
        drop_class: as in `sparse_row_kl`.

    Returns:
        [N].
    """
    if student_logits.shape[2] != targets.size:
        raise ValueError(f"the student has {student_logits.shape[2]} classes and the targets {targets.size}")
    student, places = flat_rows(student_logits, rows)
    return sparse_row_kl(student, places, targets.map(lambda part: part[rows]), temperature, drop_class)


def sparse_row_kl(
    logits: torch.Tensor,
    places: torch.Tensor,
    targets: SparseTargets,
    temperature: float = 1.0,
    drop_class: int | None = None,
) -> torch.Tensor:
    """KL(teacher_T || student_T) * T^2 of rows, over the classes written down and one class for all others.

    Both sides add up the tail, so the value is at most the KL over all classes. Within the tail the teacher's
    probabilities are taken to lie as the student's do: the gradient moves the tail as a whole. Measured on trained
    teachers, that is nearer to the dense gradient than a tail spread evenly, by frequency or truncated, at every T.

    Args:
        logits: [M, V], raw, of any float type; the value is float32.
        places: [N], long, distinct: the rows that count.
        targets: of N rows, [N, k]. Receives no gradient.
        temperature: T > 0.
        drop_class: class left out on both sides. Where it lies in a row's tail, the tail's mass keeps its share.

    Returns:
        [N].

    Source:
        Hinton et al. 2015 (1503.02531) for the divergence; one class for the tail as in reference implementations of
        top-k distillation.

    Example:
        >>> targets = SparseTargets(torch.tensor([[1]]), torch.tensor([[0.0]]), size=3)
        >>> sparse_row_kl(torch.zeros(1, 3), torch.tensor([0]), targets)
        tensor([1.0986])
    """
    kept = targets.log_probs > -math.inf  # [N, k]
    with torch.no_grad():
        target = targets.at(temperature)  # [N, k + 1]
        if drop_class is not None:
            target = torch.cat([target[:, :-1].masked_fill(targets.ids == drop_class, -math.inf), target[:, -1:]], 1)
            target = target.log_softmax(1).nan_to_num(nan=-math.inf)  # nothing but the dropped class: no target
    return _SparseKL.apply(logits, places, targets.ids, kept, target, temperature, drop_class)


def blank_and_best_label(targets: SparseTargets, blank_id: int) -> torch.Tensor:
    """[..., 2] log-probabilities at temperature 1, the blank's first: all that a selection of frames asks for."""
    label = targets.log_probs.masked_fill(targets.ids == blank_id, -math.inf).amax(-1)
    return torch.stack([targets.one_or_other(blank_id)[..., 0], label], -1)


class _SparseKL(torch.autograd.Function):
    """`forward` writes the gradient for a weight of 1, `backward` scales it in place and hands it over."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        places: torch.Tensor,
        ids: torch.Tensor,
        kept: torch.Tensor,
        target: torch.Tensor,
        temperature: float,
        drop_class: int | None,
    ) -> torch.Tensor:
        sides = logits, places, ids, kept, target
        value, gradient = _one_pass(*sides, temperature, drop_class)
        ctx.save_for_backward(*sides)
        ctx.temperature, ctx.drop_class, ctx.gradient = temperature, drop_class, gradient
        return value.mul_(temperature**2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        logits, places, ids, kept, target = ctx.saved_tensors
        # A second call (retain_graph) finds the gradient gone, with the first caller, and computes it again.
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            _, gradient = _one_pass(logits, places, ids, kept, target, ctx.temperature, ctx.drop_class)
        return spread(gradient, weights * ctx.temperature, places, logits), None, None, None, None, None, None


def _one_pass(
    logits: torch.Tensor,
    places: torch.Tensor,
    ids: torch.Tensor,
    kept: torch.Tensor,
    target: torch.Tensor,
    temperature: float,
    drop_class: int | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """KL [N], and its gradient with respect to the softened logits, over blocks of rows that fit into the cache.

    Args:
        logits: [M, V].
        places: [N], the rows of them.
        ids: [N, k].
        kept: [N, k], boolean, places of `ids` that hold a class.
        target: [N, k + 1], log-probabilities, the tail last.
        temperature: T.
        drop_class: see `sparse_row_kl`.

    Returns:
        [N]; and [N, V] where that is at most half of the logits, else [M, V] with 0 in the other rows.
    """
    count, width = len(places), logits.shape[1]
    value = logits.new_empty(count, dtype=torch.promote_types(logits.dtype, torch.float32))
    compact = 2 * count <= len(logits)
    gradient = logits.new_empty(count, width) if compact else torch.zeros_like(logits)
    step = rows_at_once(logits, buffers=3)
    for start in range(0, count, step):
        part = slice(start, start + step)
        scores = at_least_float32(logits.index_select(0, places[part])).div_(temperature)  # a copy, [R, V]
        value[part] = _one_block(scores, ids[part], kept[part], target[part].to(scores.dtype), drop_class)
        if compact:
            gradient[part] = scores
        else:
            gradient.index_copy_(0, places[part], scores.to(gradient.dtype))
    return value, gradient


def _one_block(
    scores: torch.Tensor, ids: torch.Tensor, kept: torch.Tensor, target: torch.Tensor, drop_class: int | None
) -> torch.Tensor:
    """KL of each row [R]; the softened logits `scores` [R, V] become its gradient with respect to them, in place."""
    counted = kept if drop_class is None else kept & (ids != drop_class)
    named = scores.gather(1, ids).masked_fill(~counted, -math.inf)  # [R, k]
    scores.scatter_(1, ids, -math.inf)
    if drop_class is not None:
        scores[:, drop_class] = -math.inf
    largest = scores.amax(1, keepdim=True).nan_to_num(neginf=0.0)
    total = scores.sub_(largest).exp_().sum(1, keepdim=True)  # [R, 1]
    student = torch.cat([named, total.log() + largest], 1).log_softmax(1)  # [R, k + 1]
    target = _without_empty_tail(target, total == 0)
    teacher = target.exp()
    # 0 * log 0 is 0, on either side.
    value = torch.where(teacher > 0, teacher * (target - student), 0.0).sum(1)
    gradient = (student.exp() - teacher) * (teacher > 0).any(1, keepdim=True)  # [R, k + 1]; 0 where there is no target
    scores.mul_(gradient[:, -1:] / total.clamp(min=torch.finfo(scores.dtype).tiny))
    # Left-over places repeat the first class, and must then write what it writes.
    scores.scatter_(1, ids, torch.where(kept, gradient[:, :-1], gradient[:, :1]))
    return value


def _without_empty_tail(target: torch.Tensor, empty: torch.Tensor) -> torch.Tensor:
    """The target [R, k + 1] without its tail where that is empty, [R, 1]: what is there is the dropped class's."""
    if not empty.any():
        return target
    named = F.pad(target[:, :-1], (0, 1), value=-math.inf).log_softmax(1).nan_to_num(nan=-math.inf)
    return torch.where(empty & (target[:, -1:] > -math.inf), named, target)
