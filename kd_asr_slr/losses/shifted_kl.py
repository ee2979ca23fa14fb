"""The divergence of CTC-KD under the best shift of each utterance: the search leaves the exponentials that it needs.

Dimensions: B utterances, G of them at a time, T frames of the student, T' of the teacher, V classes, n the window.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from kd_asr_slr.blocks import are_safe
from kd_asr_slr.losses.kl import selected_kl
from kd_asr_slr.losses.kl_blocks import compared, spread
from kd_asr_slr.losses.masking import length_mask
from kd_asr_slr.losses.shifts import BLOCK_FRAMES, band_products, beside_each, best_shifts, least_shifts, met_frames
from kd_asr_slr.outputs import given

# Numbers of a tensor that is worked on at a time, 64 MiB in float32. A shift is known when its utterance has been read,
# so that a group cannot be made to fit into the cache; every group costs calls.
GROUP_SIZE = 2**24


def shifted_kl(
    student_logits: torch.Tensor,
    teacher_log_probs: torch.Tensor,
    counted: torch.Tensor,
    lengths: torch.Tensor,
    window: int,
    temperature: float = 1.0,
    drop_class: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`kl.selected_kl` of the frames that meet under the best shift of each utterance, and that shift.

    The arguments are those of `shifts.best_shifts`. On a processor both together cost half as much again as the
    divergence alone; it takes a second tensor of the size of the logits, at most `GROUP_SIZE`, beside the gradient.

    Returns:
        [N], KL * T^2 of the student's frames that meet one of the teacher's that counts, in their order; these frames,
        [B, T], boolean; the shifts, [B].

    Source:
        As for `best_shifts` and `kl.row_kl`.

    Example:
        >>> student = torch.tensor([[[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]]])
        >>> teacher = student.roll(-1, dims=1).log_softmax(-1)
        >>> counted, lengths = torch.tensor([[True, True, False]]), torch.tensor([3])
        >>> values, met, shifts = shifted_kl(student, teacher, counted, lengths, window=2)
        >>> values.abs() < 1e-6, met, shifts
        (tensor([True, True]), tensor([[False,  True,  True]]), tensor([1]))
    """
    search = _Search(teacher_log_probs.detach(), counted, lengths, window, temperature, drop_class)
    needs_gradient = student_logits.requires_grad and torch.is_grad_enabled()
    plain = student_logits.dtype == teacher_log_probs.dtype and student_logits.dtype in (torch.float32, torch.float64)
    if plain and student_logits.device.type == "cpu":
        with torch.no_grad(), torch.autocast("cpu", enabled=False):  # the products as exact as their factors
            found = _in_one_go(student_logits, search, needs_gradient)
        if found is not None:
            return _Matched.apply(student_logits, search, found), found.met, found.shifts
    shifts = best_shifts(student_logits, teacher_log_probs, counted, lengths, window, temperature, drop_class)
    met, rows, teacher_rows = met_frames(shifts, counted, lengths, student_logits.shape[1])
    return selected_kl(student_logits, teacher_log_probs, rows, temperature, drop_class, teacher_rows), met, shifts


@dataclass(frozen=True)
class _Search:
    """The arguments of `best_shifts` beside the student."""

    teacher: torch.Tensor
    counted: torch.Tensor
    lengths: torch.Tensor
    window: int
    temperature: float
    drop_class: int | None

    def of(self, utterances: slice) -> _Search:
        """The same for some utterances."""
        teacher, counted, lengths = (side[utterances] for side in (self.teacher, self.counted, self.lengths))
        return replace(self, teacher=teacher, counted=counted, lengths=lengths)


@dataclass(frozen=True)
class _Found:
    """What came out; the rows of the gradient are divided by `scale` where frames meet, and 0 elsewhere."""

    values: torch.Tensor  # [N]
    met: torch.Tensor  # [B, T]
    shifts: torch.Tensor  # [B]
    scale: torch.Tensor  # [N]
    gradient: torch.Tensor | None  # [B, T, V]


class _Matched(torch.autograd.Function):
    """Puts what was found on the graph."""

    @staticmethod
    def forward(ctx: Any, student: torch.Tensor, search: _Search, found: _Found) -> torch.Tensor:
        ctx.save_for_backward(student, found.scale)
        ctx.search, ctx.gradient, ctx.met = search, found.gradient, found.met
        return found.values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        student, scale = ctx.saved_tensors
        # A second call (retain_graph) finds the gradient gone, with the first caller, and computes it again.
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            gradient = given(_in_one_go(student, ctx.search), "what was found before").gradient
        rows, places = given(gradient, "the gradient").flatten(0, 1), ctx.met.flatten().nonzero().squeeze(1)
        return spread(rows, weights * scale, places, student.flatten(0, 1)).view_as(student), None, None


def _in_one_go(student: torch.Tensor, search: _Search, with_gradient: bool = True) -> _Found | None:
    """Search and divergence, some whole utterances at a time; None where plain exponentials over- or underflow.

    The exponentials of both sides, softened, are made once: their sums and products say which shift is best, and their
    difference is the gradient under it.
    """
    count, frames, width = student.shape
    longest = max(frames, search.teacher.shape[1])
    if count * frames * search.teacher.shape[1] == 0:
        return None
    step = max(1, min(count, GROUP_SIZE // (longest * width)))
    room = student.new_empty(2 if with_gradient else 3, step, longest, width)
    gradient = student.new_empty(student.shape) if with_gradient else None
    dense = student.new_zeros(2, count, frames)  # of the student's frames: the divergence and the scale
    shifts = []
    for start in range(0, count, step):
        part = slice(start, min(start + step, count))
        ours, sought = student[part], search.of(part)
        group = _Group.of(ours, sought, room[2, : len(ours), :frames] if gradient is None else gradient[part], room)
        if not group.is_safe(sought):
            return None
        found = least_shifts(group.divergences(sought), sought.counted, sought.lengths, search.window)
        for row, shift in enumerate(found.tolist()):
            group.match(row, shift, search.temperature, dense[:, start + row])
        shifts.append(found)
    return _selected(torch.cat(shifts), search, dense, gradient)


def _selected(shifts: torch.Tensor, search: _Search, dense: torch.Tensor, gradient: torch.Tensor | None) -> _Found:
    """What was found at the frames that are met; `dense` is [2, B, T]."""
    met, rows, _ = met_frames(shifts, search.counted, search.lengths, dense.shape[2])
    values, scale = dense[:, rows[0], rows[1]]  # [N] each
    if gradient is not None:
        gradient.flatten(0, 1).index_fill_(0, (~met).flatten().nonzero().squeeze(1), 0.0)
    return _Found(values, met, shifts, scale, gradient)


@dataclass(frozen=True)
class _Group:
    """Some utterances; of both sides the scores, exp(scores / T), and the totals of these."""

    ours: torch.Tensor  # [G, T, V]
    theirs: torch.Tensor  # [G, T', V]
    probs: torch.Tensor  # of ours, [G, T, V]
    targets: torch.Tensor  # of theirs, [G, T', V]
    our_totals: torch.Tensor  # [G, T, 1]
    their_totals: torch.Tensor  # [G, T', 1]
    own: torch.Tensor  # the total of targets * theirs / T, [G, T', 1]
    scratch: torch.Tensor  # [G, at least T and T', V]

    @staticmethod
    def of(ours: torch.Tensor, search: _Search, probs: torch.Tensor, room: torch.Tensor) -> _Group:
        """With its exponentials in `probs` [G, T, V] and in the room [2 or more, at least G, at least T and T', V]."""
        theirs, inverse = search.teacher, 1 / search.temperature
        targets, scratch = room[0, : len(ours), : theirs.shape[1]], room[1, : len(ours)]
        scaled = scratch[:, : theirs.shape[1]]
        torch.mul(ours, inverse, out=probs).exp_()
        torch.exp(torch.mul(theirs, inverse, out=scaled), out=targets)
        if search.drop_class is not None:
            probs[..., search.drop_class] = 0.0
            targets[..., search.drop_class] = 0.0
        totals = probs.sum(-1, keepdim=True), targets.sum(-1, keepdim=True)
        return _Group(ours, theirs, probs, targets, *totals, scaled.mul_(targets).sum(-1, keepdim=True), scratch)

    def is_safe(self, search: _Search) -> bool:
        """Whether nothing that counts has over- or underflowed; a probability of 0 makes `own` NaN."""
        inside = length_mask(search.lengths, self.ours.shape[1])
        ours, theirs, own = (
            side.squeeze(2)[mask]
            for side, mask in (
                (self.our_totals, inside),
                (self.their_totals, search.counted),
                (self.own, search.counted),
            )
        )
        return (
            len(ours) == 0 or len(theirs) == 0 or (are_safe(ours) and are_safe(theirs) and bool(own.sum().isfinite()))
        )

    def divergences(self, search: _Search) -> torch.Tensor:
        """Of every teacher frame and the student's in reach of it, [G, T', 2 n + 1]; see `shifts.least_shifts`."""
        frames, window = self.theirs.shape[1], search.window
        size = max(2 * window + 1, BLOCK_FRAMES)
        starts = range(0, frames, size)
        blocks = [band_products(self.targets[:, at : at + size], self.ours, at - window, window) for at in starts]
        cross = torch.cat(blocks, 1).div_(search.temperature)
        normalisers = beside_each(self.our_totals.log().squeeze(2), frames, window)
        return (self.own - cross) / self.their_totals - self.their_totals.log() + normalisers

    def match(self, row: int, shift: int, temperature: float, dense: torch.Tensor) -> None:
        """The divergence of an utterance under its shift; `probs` become its gradient, over the scale. See `kl_blocks`.

        Args:
            row: of the utterance.
            shift: s, frame t + s of the student stands beside frame t of the teacher.
            temperature: T.
            dense: [2, T], where the divergence and the scale go.
        """
        here = slice(max(0, shift), min(self.ours.shape[1], self.theirs.shape[1] + shift))
        if here.start >= here.stop:
            return
        there = slice(here.start - shift, here.stop - shift)
        probs, targets = self.probs[row, here], self.targets[row, there]  # [R, V]
        our_totals, their_totals = self.our_totals[row, here], self.their_totals[row, there]  # [R, 1]
        difference = torch.sub(self.theirs[row, there], self.ours[row, here], out=self.scratch[row, : len(probs)])
        sides = (probs, targets), our_totals, their_totals
        values = compared(difference, *sides, temperature, dense[0, here], place=probs)
        values.mul_(temperature).div_(their_totals.squeeze(1))
        dense[1, here] = temperature / our_totals.squeeze(1)
