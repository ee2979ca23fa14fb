"""CTC-KD against targets of which only some classes are written down, never made dense."""

from __future__ import annotations

import math
from typing import Any

import torch

from kd_asr_slr.losses.base import LossContext
from kd_asr_slr.losses.frame_selection import select_frames
from kd_asr_slr.losses.masking import at_least_float32, mean_per_utterance, speaking_mask
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.outputs import CTCOutput, SparseTargets, TeacherSignal

CHUNK = 2**22  # numbers of a float32 working copy of the logits


class SparseKL(torch.autograd.Function):
    """Value and gradient of `sparse_row_kl` in one pass over the logits, some rows at a time."""

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
        """[N] from logits [M, V], places [N], ids [N, k], kept [N, k] and log-probabilities [N, k + 1]."""
        value = torch.empty(len(places), dtype=at_least_float32(logits[:0]).dtype, device=logits.device)
        gradient = logits.new_empty(len(places), logits.shape[1])
        rows = max(1, CHUNK // logits.shape[1])
        for start in range(0, len(places), rows):
            part = slice(start, start + rows)
            scores = at_least_float32(logits.index_select(0, places[part])).div_(temperature)  # a copy, [n, V]
            value[part] = _one_chunk(scores, ids[part], kept[part], target[part].to(scores.dtype), drop_class)
            gradient[part] = scores.mul_(temperature)
        ctx.save_for_backward(places, gradient)
        ctx.rows = len(logits)
        return value.mul_(temperature**2)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The saved gradient of each row times that of its value; rows that were not asked for get 0."""
        places, gradient = ctx.saved_tensors
        scaled = gradient * grad_output.to(gradient.dtype)[:, None]  # [N, V]
        if len(places) < ctx.rows:
            scaled = gradient.new_zeros(ctx.rows, gradient.shape[1]).index_copy_(0, places, scaled)
        return scaled, None, None, None, None, None, None


def _one_chunk(
    scores: torch.Tensor, ids: torch.Tensor, kept: torch.Tensor, target: torch.Tensor, drop_class: int | None
) -> torch.Tensor:
    """KL of each row [n]; the softened logits `scores` [n, V] become its gradient with respect to them, in place."""
    counted = kept if drop_class is None else kept & (ids != drop_class)
    named = scores.gather(1, ids).masked_fill(~counted, -math.inf)  # [n, k]
    scores.scatter_(1, ids, -math.inf)
    if drop_class is not None:
        scores[:, drop_class] = -math.inf
    largest = scores.amax(1, keepdim=True).nan_to_num(neginf=0.0)
    total = scores.sub_(largest).exp_().sum(1, keepdim=True)  # [n, 1]
    student = torch.cat([named, total.log() + largest], 1).log_softmax(1)  # [n, k + 1]
    teacher = target.exp()
    # 0 * log 0 is 0, on either side.
    value = torch.where(teacher > 0, teacher * (target - student), 0.0).sum(1)
    gradient = (student.exp() - teacher) * (teacher > 0).any(1, keepdim=True)  # [n, k + 1]; 0 where there is no target
    scores.mul_(gradient[:, -1:] / total.clamp(min=torch.finfo(scores.dtype).tiny))
    # Left-over places repeat the first class, and must then write what it writes.
    scores.scatter_(1, ids, torch.where(kept, gradient[:, :-1], gradient[:, :1]))
    return value


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
    return SparseKL.apply(logits, places, targets.ids, kept, target, temperature, drop_class)


def stays_sparse(signal: TeacherSignal | None, settings: LossSettings) -> bool:
    """Whether a CTC loss takes the targets as they are: frames that have to be resampled or shifted are made dense."""
    return signal is not None and signal.sparse is not None and settings.rate_matching == "equal"


def sparse_ctc_kd(
    output: CTCOutput,
    signal: TeacherSignal,
    lengths: torch.Tensor,
    settings: LossSettings,
    context: LossContext,
    temperature: float = 1.0,
) -> torch.Tensor:
    """CTC-KD, as `losses.ctc_kd` has it, on sparse targets.

    Args:
        output: of the student.
        signal: with `sparse`.
        lengths: [B], frames that both sides have, checked.
        settings: the selection of frames, `drop_blank_class`.
        context: the blank.
        temperature: T.

    Returns:
        [B].
    """
    selected = select_sparse(signal, lengths, settings, context)
    rows = selected.nonzero(as_tuple=True)
    places = rows[0] * output.logits.shape[1] + rows[1]  # [N], in the flattened logits
    dropped = context.blank_id if settings.drop_blank_class else None
    targets = signal.sparse.map(lambda part: part[rows])
    divergence = sparse_row_kl(output.logits.flatten(0, 1), places, targets, temperature, dropped)  # [N]
    return mean_per_utterance(divergence, rows, selected) * signal.weight.to(divergence.dtype)


@torch.no_grad()
def select_sparse(
    signal: TeacherSignal, lengths: torch.Tensor, settings: LossSettings, context: LossContext
) -> torch.Tensor:
    """`frame_selection.select_frames` on sparse targets: [B, T], boolean."""
    sparse, blank = signal.sparse, context.blank_id
    valid = speaking_mask(lengths, signal.weight, sparse.ids.shape[1])
    label = sparse.log_probs.masked_fill(sparse.ids == blank, -math.inf).amax(-1)  # [B, T], of the best label
    return select_frames(torch.stack([sparse.log_prob_of(blank), label], -1), valid, 0, settings)
