"""What the soft losses on CTC frames share: the combined teacher at the student's frames."""

from __future__ import annotations

import torch

from kd_asr_slr.losses.base import Batch, Loss, LossContext
from kd_asr_slr.losses.masking import speaking_mask
from kd_asr_slr.losses.rates import RateMatcher
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.outputs import CTCOutput, SparseTargets, TeacherSignal


class FrameDistillation(Loss):
    """A soft loss that compares teacher and student frame by frame.

    Raises:
        UserError: on call, where teacher and student lengths differ and `rate_matching` cannot match them.
    """

    kind = "soft"
    head = "ctc"
    needs = frozenset({"log_probs"})

    def __init__(self, settings: LossSettings, context: LossContext) -> None:
        super().__init__(settings, context)
        self.rates = RateMatcher(settings, context)
        if settings.rate_matching != "equal":  # frames that are moved in time are mixed class by class
            self.needs = self.needs | {"dense_log_probs"}

    @torch.no_grad()
    def _target(
        self, output: CTCOutput, signal: TeacherSignal, batch: Batch
    ) -> tuple[torch.Tensor | SparseTargets, torch.Tensor]:
        """What the teachers say at the student's rate, and their valid frames [B, T].

        The former are log-probabilities [B, T, V], or [B, T] sparse targets where a cache holds such.
        """
        lengths = self.rates.lengths(signal, output.logit_lengths, batch)
        if signal.sparse is not None:
            return signal.sparse, speaking_mask(lengths, signal.weight, signal.sparse.ids.shape[1])
        teacher = self.rates.log_probs(signal, output.logits.shape[1])
        return teacher, speaking_mask(lengths, signal.weight, teacher.shape[1])
