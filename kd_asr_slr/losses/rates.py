"""Teacher frames at the student's rate: equal, or resampled by the known ratio."""

from __future__ import annotations

import torch

from kd_asr_slr.errors import UserError
from kd_asr_slr.losses.base import Batch, LossContext, utterance_names
from kd_asr_slr.losses.row_sources import Interpolated, interpolate
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.outputs import TeacherSignal, given

MAX_LISTED = 5


class RateMatcher:
    """Brings teacher frames to the student's frames, or refuses.

    "equal": both sides must have the same number of frames, to the frame. "resample": student frame t, whose centre
    lies at (t + 1/2) student seconds, gets the linear interpolation of the two teacher frames around that time; the
    lengths must then agree with the ratio of the frame rates within rounding (one frame of each side). "shift": as
    "resample" before the shift is looked for. "tokens" does not come here.

    Args:
        settings: `rate_matching`.
        context: `frame_seconds` of the student.

    Raises:
        ValueError: if frames are to be resampled and the student's `frame_seconds` is not given.
    """

    def __init__(self, settings: LossSettings, context: LossContext) -> None:
        self.shift = settings.rate_matching == "shift"
        self.resample = self.shift or settings.rate_matching == "resample"
        self.frame_seconds = context.frame_seconds
        if self.resample and not self.frame_seconds:
            raise ValueError(f"rate_matching '{settings.rate_matching}' needs LossContext.frame_seconds of the student")

    def lengths(self, signal: TeacherSignal, student_lengths: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Frames that both sides have, [B], after checking that they belong together.

        Args:
            signal: the teachers' frames.
            student_lengths: [B], valid frames of the student.
            batch: for the `ids` in the message.

        Raises:
            UserError: if the lengths of an utterance for which a teacher speaks do not belong together.
        """
        teacher_lengths = signal.lengths
        if not self.resample and torch.equal(teacher_lengths, student_lengths):
            return teacher_lengths
        expected = teacher_lengths * self._ratio(signal)
        tolerance = 1 + self._ratio(signal) if self.resample else 0
        wrong = ((expected - student_lengths).abs() > tolerance) & (signal.weight > 0)
        if wrong.any():
            self._refuse(wrong, signal, student_lengths, batch)
        if self._as_they_are(signal):
            return torch.minimum(teacher_lengths, student_lengths)
        return torch.where(teacher_lengths > 0, student_lengths, 0)

    def frames(self, frames: torch.Tensor, signal: TeacherSignal, size: int) -> torch.Tensor:
        """Teacher frames [B, T_teacher, D] at the student's rate: [B, T, D] with T = `size`, or as they are."""
        if not self.resample:
            return frames
        return interpolate(frames, signal.lengths, self._ratio(signal), size, lowest=None).dense()

    def scores(self, signal: TeacherSignal, size: int) -> torch.Tensor | Interpolated:
        """`frames` of the log-probabilities, made where they are read; then up to a constant of each frame."""
        if self._as_they_are(signal):
            return signal.log_probs
        return interpolate(signal.log_probs, signal.lengths, self._ratio(signal), size)

    def _as_they_are(self, signal: TeacherSignal) -> bool:
        """Whether nothing is resampled; a shift needs no more than the same rate."""
        return not self.resample or (self.shift and self._ratio(signal) == 1)

    def _ratio(self, signal: TeacherSignal) -> float:
        """Student frames per teacher frame."""
        return signal.frame_seconds / given(self.frame_seconds, "frame_seconds") if self.resample else 1.0

    def _refuse(self, wrong: torch.Tensor, signal: TeacherSignal, student_lengths: torch.Tensor, batch: Batch) -> None:
        names = utterance_names(batch, len(wrong))
        rows = wrong.nonzero().flatten().tolist()
        found = [
            f"{names[row]!r} has {int(student_lengths[row])} student frames, {int(signal.lengths[row])} teacher frames"
            for row in rows[:MAX_LISTED]
        ]
        more = f" and {len(rows) - MAX_LISTED} utterances more" if len(rows) > MAX_LISTED else ""
        student_rate = "" if self.frame_seconds is None else f", the student's {self.frame_seconds:g}"
        rates = f" (the teachers' frame_seconds is {signal.frame_seconds:g}{student_rate})"
        if self.resample:
            expected = "lengths whose ratio is that of the frame_seconds, within rounding"
            fix = "check that teacher and student get the same input, and the frame_seconds of both"
        else:
            expected = "as many frames on both sides"
            fix = "give the student the teacher's subsampling, or set rate_matching: resample"
        raise UserError("; ".join(found) + more + rates, expected=expected, fix=fix)
