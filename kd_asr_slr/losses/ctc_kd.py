"""Frame-wise distillation of CTC outputs."""

from __future__ import annotations

import torch

from kd_asr_slr.losses.base import Batch
from kd_asr_slr.losses.ctc_target import FrameDistillation, LastCall, Pairs
from kd_asr_slr.losses.kl import selected_kl
from kd_asr_slr.losses.masking import Rows, mean_per_utterance
from kd_asr_slr.losses.sparse_kl import selected_sparse_kl
from kd_asr_slr.outputs import CTCOutput, SparseTargets, TeacherSignal, given


class CTCDistillation(FrameDistillation):
    """CTC-KD: the divergence between the teachers' and the student's frames.

    loss_b = weight_b / |M_b| * sum over t in M_b of KL(teacher_T[b, t] || student_T[b, t]) * T^2

    with M_b the frames that `frame_selection` keeps, chosen on the combined teacher at temperature 1. With
    `drop_blank_class` the blank is left out on both sides and the labels are renormalised. `rate_matching` says which
    frames are compared (see `FrameDistillation`): with "shift" the teacher's frame at t - shift_b, with "tokens" t runs
    over labels.

    Raises:
        UserError: on call, where teacher and student lengths differ and `rate_matching` cannot match them.

    Source:
        Hinton et al. 2015 (1503.02531) for the divergence; Kurata & Audhkhasi 2019 (1904.08311) for frame-wise CTC
        distillation; Hilmes et al. 2025 (2506.01503) for the choice of frames.

    Example::

        loss = CTCDistillation(LossSettings(), LossContext(blank_id=0))
        loss(output, signal, batch, temperature=2.0)  # [B]
    """

    name = "ctc_kd"

    def __call__(
        self, output: CTCOutput, signal: TeacherSignal | None, batch: Batch, temperature: float = 1.0
    ) -> torch.Tensor:
        signal = given(signal, "signal")
        pairs = self._pairs(output, signal, batch, temperature)
        selected, rows, teacher_rows = pairs.beside(self._select(pairs))  # [B, P]
        divergence = self._divergence(pairs, rows, teacher_rows, temperature)
        self._last = LastCall(output, signal, valid=pairs.valid, selected=selected, shifts=pairs.shifts)
        return mean_per_utterance(divergence, rows, selected) * signal.weight.to(divergence.dtype)

    def _divergence(self, pairs: Pairs, rows: Rows, teacher_rows: Rows, temperature: float) -> torch.Tensor:
        """Of the rows of both sides, [N]."""
        if isinstance(pairs.scores, SparseTargets):
            return selected_sparse_kl(pairs.student, pairs.scores, rows, temperature, self.dropped)
        return selected_kl(pairs.student, pairs.scores, rows, temperature, self.dropped, teacher_rows)

    def diagnostics(self, output: CTCOutput, signal: TeacherSignal | None, batch: Batch) -> dict[str, float]:
        """`valid_frame_ratio`: frames (or labels) that are matched, of all for which a teacher speaks.

        With `rate_matching: shift` also `shift`: frames by which the student is late, on average.
        """
        last = self._found(output, given(signal, "signal"), batch)
        valid, total = last["valid"], int(last["valid"].sum())
        found = {"valid_frame_ratio": int(last["selected"].sum()) / total if total else 0.0}
        if "shifts" in last:
            heard = last["shifts"][valid.any(1)].double()
            found["shift"] = float(heard.mean()) if len(heard) else 0.0
        return found
