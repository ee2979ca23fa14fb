"""The decoder's cross-entropy on the labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from kd_asr_slr.losses.base import Batch, Loss, LossContext
from kd_asr_slr.losses.masking import at_least_float32, length_mask, mean_per_utterance
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.outputs import CTCOutput, TeacherSignal, decoder_part, given


class DecoderCrossEntropy(Loss):
    """Cross-entropy of the decoder, teacher-forced, over the labels and the end of sequence.

    loss_b = 1 / (U_b + 1) * sum over u = 0..U_b of -sum over v of target[b, u, v] * log student[b, u, v]

    with target = (1 - label_smoothing) on the label and label_smoothing / V on every class; position U_b is the end of
    sequence. An utterance without labels gives 0.

    Raises:
        ValueError: if the end of sequence is not given.

    Source:
        Szegedy et al. 2016, "Rethinking the Inception Architecture" (1512.00567), section 7, for the smoothing.

    Example::

        loss = DecoderCrossEntropy(LossSettings(), LossContext(blank_id=0, eos_id=2))
        loss(output, None, batch)  # [B]
    """

    name = "cross_entropy"
    kind = "hard"
    head = "decoder"
    needs = frozenset({"decoder_logits"})

    def __init__(self, settings: LossSettings, context: LossContext) -> None:
        super().__init__(settings, context)
        if context.eos_id is None:
            raise ValueError("the decoder's cross-entropy needs LossContext.eos_id")

    def __call__(
        self, output: CTCOutput, signal: TeacherSignal | None, batch: Batch, temperature: float = 1.0
    ) -> torch.Tensor:
        targets, mask = with_end(batch["labels"], given(self.context.eos_id, "eos_id"))
        logits, _ = decoder_part(output)
        rows = mask.nonzero(as_tuple=True)
        values = F.cross_entropy(
            at_least_float32(logits[rows]),  # [N, V]
            targets[rows],
            reduction="none",
            label_smoothing=self.settings.label_smoothing,
        )  # [N]
        return mean_per_utterance(values, rows, mask)


def with_end(labels: torch.Tensor, eos_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels followed by the end of sequence, and the positions that count.

    Args:
        labels: [B, U], padded with -100.
        eos_id: index of the end of sequence.

    Returns:
        Targets [B, U+1] and a boolean mask [B, U+1], False everywhere for an utterance without labels.

    Example:
        >>> with_end(torch.tensor([[5, 6], [7, -100]]), eos_id=2)[0]
        tensor([[5, 6, 2],
                [7, 2, 2]])
    """
    counts = (labels >= 0).sum(1)  # [B]
    padded = F.pad(labels, (0, 1), value=-100)  # [B, U+1]
    targets = torch.where(padded >= 0, padded, eos_id)
    return targets, length_mask(torch.where(counts > 0, counts + 1, 0), targets.shape[1])
