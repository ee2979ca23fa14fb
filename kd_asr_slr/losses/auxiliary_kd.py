"""Self-distillation from the student's last layer to the layers, or the convolutions, below it."""

from __future__ import annotations

import torch

from kd_asr_slr.losses.base import Batch, Loss
from kd_asr_slr.losses.kl import selected_kl
from kd_asr_slr.losses.masking import length_mask, mean_per_utterance
from kd_asr_slr.outputs import CTCOutput, TeacherSignal, given


class AuxiliaryDistillation(Loss):
    """The divergence between the student's own output and its auxiliary classifier, weighed by `auxiliary_kd_weight`.

    loss_b = 1 / U_b * 1 / T_b * sum over t of KL(student_T[b, t] || auxiliary_T[b, t]) * T^2

    with T = `auxiliary_temperature`, the blank left out on both sides and the labels renormalised. The student's output
    is detached: it teaches and does not follow. No teacher is needed, and the temperature of the soft losses is not
    this one.

    The literature's weight of 25 stands beside CTC losses of whole sentences. The CTC losses here are divided by the
    labels U_b, so this one is too (by at least 1), and the weights 1 / 1 / 25 mean what they mean there.

    Source:
        Min et al. 2021 (2104.02330), the visual alignment loss, as the public code of the authors has it: weight 25,
        T 8, without the blank, mean over frames. Kim et al. 2024 (2406.07909) for layers of an encoder; the public code
        has T 1 and keeps the blank.

    Example::

        loss = AuxiliaryDistillation(LossSettings(auxiliary_kd_weight=25.0), LossContext(blank_id=0))
        loss(output, None, batch)  # [B]
    """

    name = "auxiliary_kd"
    kind = "self"
    head = "ctc"
    needs = frozenset({"auxiliary_logits"})
    weight_option = "auxiliary_kd_weight"

    def __call__(
        self, output: CTCOutput, signal: TeacherSignal | None, batch: Batch, temperature: float = 1.0
    ) -> torch.Tensor:
        valid = length_mask(output.logit_lengths, output.logits.shape[1])  # [B, T]
        rows = valid.nonzero(as_tuple=True)
        divergence = selected_kl(
            given(output.auxiliary_logits, "auxiliary_logits"),
            output.logits.detach(),  # log-probabilities up to a constant, which the softmax takes out
            rows,
            self.settings.auxiliary_temperature,
            drop_class=self.context.blank_id,
        )  # [N]
        labels = (batch["labels"] >= 0).sum(1).clamp(min=1)  # [B]
        return mean_per_utterance(divergence, rows, valid) / labels
