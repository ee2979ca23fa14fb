"""Distillation of how much of each CTC frame is blank."""

from __future__ import annotations

import torch

from kd_asr_slr.losses.base import Batch
from kd_asr_slr.losses.ctc_target import FrameDistillation
from kd_asr_slr.losses.kl import row_kl
from kd_asr_slr.losses.masking import at_least_float32, mean_per_utterance
from kd_asr_slr.outputs import CTCOutput, SparseTargets, TeacherSignal, given


class BlankMass(FrameDistillation):
    """The divergence between the teachers' and the student's blank probability, weighed by `blank_mass_weight`.

    loss_b = weight_b / T_b * sum over all valid frames of KL(p_T || q_T) * T^2

    with p_T = (blank, any label) of the teachers' frame at temperature T, all labels added up after the softmax, and
    q_T that of the student. Every valid frame counts, whatever `frame_selection` says: beside CTC-KD on few frames, or
    without the blank class, it tells the student where to be silent.

    KL of a whole frame = this + (1 - p_T(blank)) * KL over the labels alone, so with `drop_blank_class` both parts have
    weights of their own.

    Raises:
        UserError: on call, where teacher and student lengths differ and `rate_matching` cannot match them.

    Source:
        Zhao et al. 2022, "Decoupled Knowledge Distillation" (2203.08679), section 3.1, with the blank as the target
        class.

    Example::

        loss = BlankMass(LossSettings(blank_mass_weight=0.5), LossContext(blank_id=0))
        loss(output, signal, batch, temperature=2.0)  # [B]
    """

    name = "blank_mass"
    weight_option = "blank_mass_weight"

    def __call__(
        self, output: CTCOutput, signal: TeacherSignal | None, batch: Batch, temperature: float = 1.0
    ) -> torch.Tensor:
        signal = given(signal, "signal")
        pairs = self._pairs(output, signal, batch, temperature)
        met, rows, teacher_rows = pairs.beside(pairs.valid)
        student = self._two_classes(pairs.student[rows], temperature)
        if isinstance(pairs.teacher, SparseTargets):
            target = pairs.teacher.map(lambda part: part[rows]).one_or_other(self.context.blank_id, temperature)
        else:
            target = self._two_classes(pairs.teacher[teacher_rows], temperature)
        divergence = row_kl(student, target) * temperature**2  # [N]
        return mean_per_utterance(divergence, rows, met) * signal.weight.to(divergence.dtype)

    def _two_classes(self, scores: torch.Tensor, temperature: float) -> torch.Tensor:
        """Softened scores of the blank and of all labels together: [N, 2] of [N, V]."""
        scores, blank = at_least_float32(scores) / temperature, self.context.blank_id
        labels = torch.cat([scores[:, :blank], scores[:, blank + 1 :]], dim=-1)  # [N, V-1]
        return torch.stack([scores[:, blank], labels.logsumexp(-1)], dim=-1)
