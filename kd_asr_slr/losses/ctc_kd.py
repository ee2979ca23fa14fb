"""Frame-wise distillation of CTC outputs."""

from __future__ import annotations

import torch

from kd_asr_slr.losses.base import Batch
from kd_asr_slr.losses.ctc_target import FrameDistillation
from kd_asr_slr.losses.frame_selection import select_frames
from kd_asr_slr.losses.kl import selected_kl
from kd_asr_slr.losses.masking import mean_per_utterance
from kd_asr_slr.losses.sparse_kl import blank_and_best_label, selected_sparse_kl
from kd_asr_slr.outputs import CTCOutput, SparseTargets, TeacherSignal


class CTCDistillation(FrameDistillation):
    """CTC-KD: the divergence between the teachers' and the student's frames.

    loss_b = weight_b / |M_b| * sum over t in M_b of KL(teacher_T[b, t] || student_T[b, t]) * T^2

    with M_b the frames that `frame_selection` keeps, chosen on the combined teacher at temperature 1. With
    `drop_blank_class` the blank is left out on both sides and the labels are renormalised.

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
        teacher, valid = self._target(output, signal, batch)
        selected = self._select(teacher, valid)
        rows = selected.nonzero(as_tuple=True)
        dropped = self.context.blank_id if self.settings.drop_blank_class else None
        divergence_of = selected_sparse_kl if isinstance(teacher, SparseTargets) else selected_kl
        divergence = divergence_of(output.logits, teacher, rows, temperature, dropped)  # [N]
        return mean_per_utterance(divergence, rows, selected) * signal.weight.to(divergence.dtype)

    def diagnostics(self, output: CTCOutput, signal: TeacherSignal | None, batch: Batch) -> dict[str, float]:
        """`valid_frame_ratio`: frames that are matched, of all frames for which a teacher speaks."""
        teacher, valid = self._target(output, signal, batch)
        total = int(valid.sum())
        return {"valid_frame_ratio": int(self._select(teacher, valid).sum()) / total if total else 0.0}

    @torch.no_grad()
    def _select(self, teacher: torch.Tensor | SparseTargets, valid: torch.Tensor) -> torch.Tensor:
        blank = self.context.blank_id
        if isinstance(teacher, SparseTargets):
            teacher, blank = blank_and_best_label(teacher, blank), 0
        return select_frames(teacher, valid, blank, self.settings)
