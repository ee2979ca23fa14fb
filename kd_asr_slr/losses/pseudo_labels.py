"""Cross-entropy on what the teachers are sure of, frame by frame."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from kd_asr_slr.losses.base import Batch
from kd_asr_slr.losses.ctc_target import FrameDistillation, LastCall
from kd_asr_slr.losses.masking import at_least_float32, mean_per_utterance
from kd_asr_slr.outputs import CTCOutput, SparseTargets, TeacherSignal, given


class PseudoLabels(FrameDistillation):
    """The student's cross-entropy on the combined teacher's best class, weighed by `pseudo_label_weight`.

    loss_b = weight_b / |M_b| * sum over t in M_b of -log student[b, t, best class of teacher[b, t]]

    with M_b the valid frames whose best class, blank included, has at least the probability `pseudo_label_confidence`
    in the combined teacher. Both sides are at temperature 1: a hard label has no softness. An utterance without such a
    frame gives 0.

    Raises:
        UserError: on call, where teacher and student lengths differ and `rate_matching` cannot match them.

    Source:
        Lee 2013, "Pseudo-Label" (ICML workshop), with the confidence threshold of Sohn et al. 2020, "FixMatch"
        (2001.07685), section 2.

    Example::

        loss = PseudoLabels(LossSettings(pseudo_label_weight=0.5), LossContext(blank_id=0))
        loss(output, signal, batch)  # [B]
    """

    name = "pseudo_labels"
    weight_option = "pseudo_label_weight"

    def __call__(
        self, output: CTCOutput, signal: TeacherSignal | None, batch: Batch, temperature: float = 1.0
    ) -> torch.Tensor:
        signal = given(signal, "signal")
        pairs = self._pairs(output, signal, batch)
        best, sure = self._confident(pairs.teacher, pairs.valid)
        self._last = LastCall(output, signal, valid=pairs.valid, sure=sure)
        used, rows, teacher_rows = pairs.beside(sure)
        values = F.cross_entropy(at_least_float32(pairs.student[rows]), best[teacher_rows], reduction="none")  # [N]
        return mean_per_utterance(values, rows, used) * signal.weight.to(values.dtype)

    def diagnostics(self, output: CTCOutput, signal: TeacherSignal | None, batch: Batch) -> dict[str, float]:
        """`pseudo_label_ratio`: frames that are used, of all frames for which a teacher speaks."""
        last = self._found(output, given(signal, "signal"), batch)
        total = int(last["valid"].sum())
        return {"pseudo_label_ratio": int(last["sure"].sum()) / total if total else 0.0}

    @torch.no_grad()
    def _confident(
        self, teacher: torch.Tensor | SparseTargets, valid: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The best class of every frame, and the valid frames that are sure enough of it: [B, T] each."""
        scores, best = teacher.best() if isinstance(teacher, SparseTargets) else teacher.max(-1)
        return best, valid & (scores.exp() >= self.settings.pseudo_label_confidence)
