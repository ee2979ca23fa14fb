"""What the soft losses on CTC frames share: pairs of distributions, whatever the frame rates are."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import torch

from kd_asr_slr.losses.alignment import label_frames
from kd_asr_slr.losses.base import Batch, Loss, LossContext
from kd_asr_slr.losses.frame_selection import select_frames
from kd_asr_slr.losses.label_pooling import pool_labels
from kd_asr_slr.losses.masking import Rows, length_mask, speaking_mask
from kd_asr_slr.losses.rates import RateMatcher
from kd_asr_slr.losses.row_sources import Interpolated
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.losses.shifts import best_shifts, met_frames
from kd_asr_slr.losses.sparse_kl import blank_and_best_label
from kd_asr_slr.outputs import CTCOutput, SparseTargets, TeacherSignal, given


@dataclass(frozen=True)
class Pairs:
    """A student's distributions and a teacher's, side by side: frames, or labels with `rate_matching: tokens`.

    Attributes:
        student: [B, P, V], raw, with gradient.
        scores: [B, P', V], the teacher's log-probabilities; [B, P'] sparse targets where a cache holds such; or frames
            that are interpolated where they are read. P and P' may differ in padding only, unless there are shifts.
        valid: [B, P'], boolean, the teacher's positions that exist and may speak.
        lengths: [B], positions of the student.
        shifts: [B], positions by which the student is late; None: each position stands beside its own.
    """

    student: torch.Tensor
    scores: torch.Tensor | SparseTargets | Interpolated
    valid: torch.Tensor
    lengths: torch.Tensor
    shifts: torch.Tensor | None = None

    @cached_property
    def teacher(self) -> torch.Tensor | SparseTargets:
        """The scores, with interpolated frames made and normalised."""
        if isinstance(self.scores, Interpolated):
            with torch.no_grad():
                return self.scores.dense(normalised=True)
        return self.scores

    def beside(self, mask: torch.Tensor) -> tuple[torch.Tensor, Rows, Rows]:
        """Where the student meets teacher positions of a mask [B, P'].

        Returns:
            The student's positions as a mask [B, P], as rows (utterance, position), and the teacher's rows beside them.
        """
        if self.shifts is None:
            rows = mask.nonzero(as_tuple=True)
            return mask, rows, rows
        return met_frames(self.shifts, mask, self.lengths, self.student.shape[1])


class LastCall:
    """What the diagnostics of a loss are made of, kept from its last call without keeping the call's output alive.

    Args:
        output: the student's output of the call.
        signal: the teachers' signal of the call.
        found: small tensors, by name.
    """

    def __init__(self, output: CTCOutput, signal: TeacherSignal, **found: torch.Tensor | None) -> None:
        self._asked = weakref.ref(output), weakref.ref(signal)
        self.found = {name: tensor for name, tensor in found.items() if tensor is not None}

    def was_on(self, output: CTCOutput, signal: TeacherSignal) -> bool:
        """Whether the call was on these two."""
        return self._asked[0]() is output and self._asked[1]() is signal


class FrameDistillation(Loss):
    """A soft loss that compares teacher and student position by position.

    What a position is depends on `rate_matching`: a frame ("equal", "resample"), a frame of the teacher beside the
    student's frame that is later by the utterance's best shift ("shift"), or a label ("tokens"): the mean of the logits
    over the frames that the side's own forced alignment gives to the label. With "tokens" an utterance has no positions
    where there are no labels, or one of the sides is too short for them.

    Raises:
        UserError: on call, where teacher and student lengths differ and `rate_matching` cannot match them.

    Source:
        Li et al. 2025, "Delayed-KD" (2505.22069), for the shift.
    """

    kind = "soft"
    head = "ctc"
    needs = frozenset({"log_probs"})

    def __init__(self, settings: LossSettings, context: LossContext) -> None:
        super().__init__(settings, context)
        self.rates = RateMatcher(settings, context)
        self._last: LastCall | None = None
        if settings.rate_matching != "equal":  # frames that are moved in time are mixed class by class
            self.needs = self.needs | {"dense_log_probs"}

    @property
    def dropped(self) -> int | None:
        """The class that CTC-KD leaves out."""
        return self.context.blank_id if self.settings.drop_blank_class else None

    def _found(self, output: CTCOutput, signal: TeacherSignal, batch: Batch) -> dict[str, torch.Tensor]:
        """What the call on this output and signal found; where there was none, of one at temperature 1."""
        if self._last is None or not self._last.was_on(output, signal):
            with torch.no_grad():
                self(output, signal, batch)
        return given(self._last, "the last call").found

    def _pairs(self, output: CTCOutput, signal: TeacherSignal, batch: Batch, temperature: float = 1.0) -> Pairs:
        """Both sides; with "shift" after the search, for shifts that make CTC-KD least on what it selects."""
        if self.settings.rate_matching == "tokens":
            return self._label_pairs(output, signal, batch)
        with torch.no_grad():
            lengths = self.rates.lengths(signal, output.logit_lengths, batch)
            if signal.sparse is not None:  # `needs` lets it come with "equal" only
                valid = speaking_mask(lengths, signal.weight, signal.sparse.ids.shape[1])
                return Pairs(output.logits, signal.sparse, valid, output.logit_lengths)
            scores = self.rates.scores(signal, output.logits.shape[1])
            pairs = Pairs(
                output.logits, scores, speaking_mask(lengths, signal.weight, scores.shape[1]), output.logit_lengths
            )
            if not self.rates.shift:
                return pairs
            teacher = cast(torch.Tensor, pairs.teacher)
            sought = teacher, self._select(pairs), pairs.lengths, self.settings.match_window
            return replace(pairs, scores=teacher, shifts=best_shifts(pairs.student, *sought, temperature, self.dropped))

    def _label_pairs(self, output: CTCOutput, signal: TeacherSignal, batch: Batch) -> Pairs:
        """One pair a label."""
        labels, blank = batch["labels"], self.context.blank_id
        sides = (output.logits, output.logit_lengths), (signal.log_probs, signal.lengths)
        ours, theirs = label_frames(sides, labels, blank)  # [B, T], [B, T']
        aligned = (ours >= 0).any(1) & (theirs >= 0).any(1) & (signal.weight > 0)  # [B]
        counts = torch.where(aligned, (labels >= 0).sum(1), 0)
        size = labels.shape[1]
        with torch.no_grad():
            teacher = pool_labels(signal.log_probs, theirs, counts, size).log_softmax(-1)
        student = pool_labels(output.logits, ours, counts, size)
        return Pairs(student, teacher, length_mask(counts, size), counts)

    @torch.no_grad()
    def _select(self, pairs: Pairs) -> torch.Tensor:
        """The teacher's positions that count, [B, P']."""
        if self.settings.frame_selection == "all":  # what the teacher says need not be made for it
            return pairs.valid
        teacher, blank = pairs.teacher, self.context.blank_id
        if isinstance(teacher, SparseTargets):
            teacher, blank = blank_and_best_label(teacher, blank), 0
        return select_frames(teacher, pairs.valid, blank, self.settings)
