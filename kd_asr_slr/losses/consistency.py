"""Consistency of the student's CTC outputs for two differently masked views of one utterance."""

from __future__ import annotations

import torch

from kd_asr_slr.losses.base import Batch, Loss
from kd_asr_slr.losses.kl import selected_kl
from kd_asr_slr.losses.masking import length_mask, mean_per_utterance
from kd_asr_slr.outputs import CTCOutput, TeacherSignal, given


class ViewConsistency(Loss):
    """The divergence of one view's CTC output from the other view's, weighed by `consistency_weight`.

    loss_b = 1 / U_b * sum over t of KL(other view[b, t] || this view[b, t])

    A row of the batch is one view. The other view's output is detached: it teaches and does not follow. Both views of
    an utterance are rows and the trainer takes their mean, which makes the divergence symmetric: each side is pulled
    to the other, with half the weight, as in the paper. The temperature is 1, and no teacher is needed.

    The paper's weight of 0.2 stands beside CTC losses of whole utterances. The CTC losses here are divided by the
    labels U_b, so this one is too, and 0.2 means what it means there. An utterance without labels is divided by its
    frames instead, so that it never counts more than a transcribed one.

    Source:
        Yao et al. 2024, "CR-CTC: Consistency regularization on CTC for improved speech recognition" (2410.05101),
        section 3: two views by independent SpecAugment with 2.5 times the usual time masks, weight 0.2.

    Example::

        loss = ViewConsistency(LossSettings(consistency_weight=0.2), LossContext(blank_id=0))
        loss(output, None, batch)  # [2B], both views of B utterances
    """

    name = "consistency"
    kind = "self"
    head = "ctc"
    needs = frozenset({"other_view_logits"})
    weight_option = "consistency_weight"

    def __call__(
        self, output: CTCOutput, signal: TeacherSignal | None, batch: Batch, temperature: float = 1.0
    ) -> torch.Tensor:
        valid = length_mask(output.logit_lengths, output.logits.shape[1])  # [B, T]
        rows = valid.nonzero(as_tuple=True)
        other = given(output.other_view_logits, "other_view_logits")
        divergence = selected_kl(output.logits, other, rows)  # [N]
        frames = valid.sum(1)  # [B]
        labels = (batch["labels"] >= 0).sum(1)  # [B]
        divisor = torch.where(labels > 0, labels, frames).clamp(min=1)
        return mean_per_utterance(divergence, rows, valid) * frames / divisor
