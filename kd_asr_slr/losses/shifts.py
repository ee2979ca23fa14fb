"""The shift in time under which a teacher and a student agree best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from kd_asr_slr.blocks import log_totals, rows_at_once
from kd_asr_slr.kernels.dispatch import applies, has_class, in_threads
from kd_asr_slr.losses.masking import Rows, at_least_float32
from kd_asr_slr.losses.row_sources import LOG_ZERO

BLOCK_FRAMES = 16  # at least; with fewer, more of the products would lie outside of the window
SAME = 1e-5  # costs nearer than this, absolutely or relatively, are equal: the smaller shift is taken


@torch.no_grad()
def best_shifts(
    student_logits: torch.Tensor,
    teacher_log_probs: torch.Tensor,
    counted: torch.Tensor,
    lengths: torch.Tensor,
    window: int,
    temperature: float = 1.0,
    drop_class: int | None = None,
) -> torch.Tensor:
    """The shift of each utterance, at most `window` frames, with the least mean divergence of the frames it pairs.

    A shift s pairs the teacher's frame t with the student's frame t + s, so a student that is late has a positive one.
    Each counts with the mean of KL(teacher_T[t] || student_T[t + s]) over the teacher's frames that count and have a
    partner; one that pairs none is not taken. KL is the teacher's negative entropy minus a product of its probabilities
    with the student's log-probabilities, and the products of all shifts are a few matrix products.

    Args:
        student_logits: [B, T, V], raw.
        teacher_log_probs: [B, T', V], at temperature 1 and at the student's frame rate.
        counted: [B, T'], boolean, the teacher's frames that count.
        lengths: [B], valid frames of the student.
        window: n >= 0; 2 n + 1 shifts are tried.
        temperature: T > 0.
        drop_class: class left out on both sides, e.g. the blank.

    Returns:
        [B], from -n to n; of equal ones the one nearest to 0.

    Source:
        The temporal alignment buffer of Li et al. 2025, "Delayed-KD" (2505.22069), here to both sides.

    Example:
        >>> student = torch.tensor([[[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]]])
        >>> teacher = student.roll(-1, dims=1).log_softmax(-1)
        >>> best_shifts(student, teacher, torch.tensor([[True, True, False]]), torch.tensor([3]), window=2)
        tensor([1])
    """
    if student_logits.numel() == 0 or teacher_log_probs.numel() == 0:  # no frame is met under any shift
        return lengths.new_zeros(len(lengths), dtype=torch.long)
    sides = student_logits, teacher_log_probs
    if applies(*sides) and has_class(drop_class, student_logits.shape[2]):  # where it is none, torch says so
        found = _compiled(*sides, counted, lengths, window, temperature, drop_class)
        if found is not None:
            return found
    with torch.autocast(student_logits.device.type, enabled=False):  # the products in float32
        divergence = _banded_kl(*sides, window, temperature, drop_class)  # [B, T', 2 n + 1]
    return _least_shifts(divergence, counted, lengths, window)


def _least_shifts(divergence: torch.Tensor, counted: torch.Tensor, lengths: torch.Tensor, window: int) -> torch.Tensor:
    """The shift of each utterance, [B], with the least mean of the divergences that it pairs.

    Args:
        divergence: [B, T', 2 n + 1], of the teacher's frame t and the student's t + s at [b, t, s + n]; any number
            where there is no such frame.
        counted: [B, T'], boolean, the teacher's frames that count.
        lengths: [B], valid frames of the student.
        window: n.
    """
    offsets = torch.arange(-window, window + 1, device=counted.device)  # [2 n + 1]
    partners = torch.arange(divergence.shape[1], device=counted.device).unsqueeze(1) + offsets  # [T', 2 n + 1]
    paired = counted.unsqueeze(2) & (partners >= 0) & (partners < lengths[:, None, None])  # [B, T', 2 n + 1]
    total = torch.where(paired, divergence, 0.0).sum(1)
    costs = torch.where(paired.any(1), total / paired.sum(1).clamp(min=1), torch.inf)  # [B, 2 n + 1]
    least = costs.amin(1, keepdim=True)
    near = costs <= least + SAME * (1 + least.abs())
    nearest_first = offsets.abs().argsort(stable=True)
    return offsets[nearest_first][near[:, nearest_first].long().argmax(1)]


def met_frames(
    shifts: torch.Tensor, mask: torch.Tensor, lengths: torch.Tensor, size: int
) -> tuple[torch.Tensor, Rows, Rows]:
    """Where student frames meet the teacher's frames of a mask.

    Args:
        shifts: [B], frames by which the student is late.
        mask: [B, T'], boolean, frames of the teacher.
        lengths: [B], valid frames of the student.
        size: T, frames of the student.

    Returns:
        The student's frames as a mask [B, T], as rows (utterance, frame), and the teacher's rows beside them.
    """
    frames = torch.arange(size, device=mask.device)
    sources = frames - shifts.unsqueeze(1)  # [B, T]
    inside = (sources >= 0) & (sources < mask.shape[1]) & (frames < lengths.unsqueeze(1))
    met = inside & mask.gather(1, sources.clamp(0, mask.shape[1] - 1))
    utterance, frame = met.nonzero(as_tuple=True)
    return met, (utterance, frame), (utterance, frame - shifts[utterance])


def _compiled(
    student: torch.Tensor,
    teacher: torch.Tensor,
    counted: torch.Tensor,
    lengths: torch.Tensor,
    window: int,
    temperature: float,
    drop_class: int | None,
) -> torch.Tensor | None:
    """`best_shifts` in loops over the frames; None where plain exponentials over- or underflow."""
    from kd_asr_slr.kernels.shifts import banded, least

    count, frames, width = teacher.shape
    divergence = teacher.new_empty(count, frames, 2 * window + 1)
    normalisers = student.new_empty(student.shape[:2])
    safe = in_threads(
        banded,
        count * ((frames + 1) // 2) + normalisers.numel(),
        (1 + window) * width,
        student,
        teacher,
        counted.contiguous(),
        lengths,
        window,
        np.float32(temperature),
        -1 if drop_class is None else drop_class,
        divergence,
        normalisers,
    )
    if not all(safe):
        return None
    shifts = torch.empty_like(lengths, dtype=torch.long)
    inside = lengths.clamp(max=student.shape[1])  # the loop does not ask whether a frame exists
    least(*(part.numpy() for part in (divergence, normalisers, counted, inside)), SAME, shifts.numpy())
    return shifts


def _banded_kl(
    student: torch.Tensor, teacher: torch.Tensor, window: int, temperature: float, drop_class: int | None
) -> torch.Tensor:
    """KL(teacher_T[t] || student_T[t + s]) at [b, t, s + n]; any number where there is no such frame.

    With p the teacher's probabilities and b its scores over T, B their log-normaliser, a and A the student's, it is
    sum p (b - a) - B + A; the sums over p a are products of matrices, some frames of some utterances at a time.
    """
    count, frames, width = teacher.shape
    size = max(2 * window + 1, BLOCK_FRAMES)
    group = rows_at_once(teacher, buffers=size)  # utterances, of each so many frames
    dtype = torch.promote_types(at_least_float32(student[:0]).dtype, at_least_float32(teacher[:0]).dtype)
    search = _Search(window, temperature, drop_class, teacher.new_empty(2, min(group, count), size, width, dtype=dtype))
    found = []
    for start in range(0, count, group):
        ours, theirs = student[start : start + group], teacher[start : start + group]
        bands = [search.band(ours, theirs[:, at : at + size], at - window) for at in range(0, frames, size)]
        normalisers = [search.log_normalisers(ours[:, at : at + size]) for at in range(0, ours.shape[1], size)]
        found.append(torch.cat(bands, 1) + beside_each(torch.cat(normalisers, 1), frames, window))
    return torch.cat(found)


def beside_each(values: torch.Tensor, frames: int, window: int) -> torch.Tensor:
    """Of values [B, T] of the student's frames, that of frame t + s at [b, t, s + n].

    Args:
        values: [B, T].
        frames: T', frames of the teacher.
        window: n.

    Returns:
        [B, T', 2 n + 1].
    """
    spread = F.pad(values, (window, max(frames + window - values.shape[1], 0)))  # [B, at least T' + 2 n]
    return spread.unfold(1, 2 * window + 1, 1)[:, :frames]


def band_products(probs: torch.Tensor, student: torch.Tensor, first: int, window: int) -> torch.Tensor:
    """Products of teacher frames with the student's frames in reach of each.

    Args:
        probs: [B, R, V], frames of the teacher.
        student: [B, T, V].
        first: the student's frame that is the earliest partner of the first of the R; it may lie before the beginning.
        window: n.

    Returns:
        [B, R, 2 n + 1].
    """
    rows, reach, missing = probs.shape[1], 2 * window, max(-first, 0)
    ours = student[:, max(first, 0) : max(first + rows + reach, 0)].to(probs.dtype)  # [B, R', V]
    cross = probs @ ours.transpose(1, 2)  # [B, R, R']
    cross = F.pad(cross, (missing, max(rows + reach - missing - cross.shape[2], 0)))
    places = torch.arange(rows, device=cross.device)[:, None] + torch.arange(reach + 1, device=cross.device)
    return cross.gather(2, places.expand(len(cross), -1, -1))


@dataclass(frozen=True)
class _Search:
    """What every block of a search needs; `room` is [2, B', R, V]: fresh memory would cost more than the arithmetic."""

    window: int
    temperature: float
    drop_class: int | None
    room: torch.Tensor

    def band(self, student: torch.Tensor, teacher: torch.Tensor, first: int) -> torch.Tensor:
        """`_banded_kl` without the student's normaliser: of teacher frames [B', R, V], [B', R, 2 n + 1]."""
        scores = self._scaled(teacher).clamp_(min=LOG_ZERO)
        probs = torch.exp(scores, out=self.room[1, : len(teacher), : teacher.shape[1]])
        if self.drop_class is not None:
            probs[..., self.drop_class] = 0.0
        total = probs.sum(-1, keepdim=True)  # [B', R, 1]
        cross = band_products(probs, student, first, self.window).div_(self.temperature)
        own = scores.mul_(probs).sum(-1, keepdim=True)  # [B', R, 1]
        return (own - cross) / total - total.log()

    def log_normalisers(self, logits: torch.Tensor) -> torch.Tensor:
        """logsumexp(logits / T) of [B', R, V], [B', R]."""
        scores = self._scaled(logits)
        if self.drop_class is not None:
            scores[..., self.drop_class] = -torch.inf
        return log_totals(scores, self.room[1, : len(scores), : scores.shape[1]]).squeeze(-1)

    def _scaled(self, scores: torch.Tensor) -> torch.Tensor:
        """scores / T, [B', R, V], in the room."""
        here = self.room[0, : len(scores), : scores.shape[1]]
        if scores.dtype != here.dtype:
            return here.copy_(scores).mul_(1 / self.temperature)
        return torch.mul(scores, 1 / self.temperature, out=here)
