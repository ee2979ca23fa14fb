"""The CTC loss of the auxiliary classifier on the labels."""

from __future__ import annotations

import torch

from kd_asr_slr.losses.ctc import LabelCTC
from kd_asr_slr.outputs import CTCOutput, given


class AuxiliaryCTC(LabelCTC):
    """`LabelCTC` of the classifier on the temporal convolutions, or within the encoder, weighed by
    `auxiliary_ctc_weight`.

    Lower layers learn little through upper ones that have found their labels; here they are told directly.

    Raises:
        UserError: on call, naming the utterances whose loss is infinite.

    Source:
        Min et al. 2021, "Visual Alignment Constraint for Continuous Sign Language Recognition" (2104.02330), the
        visual enhancement loss; weight 1. Kim et al. 2024 (2406.07909) for layers of an encoder.

    Example::

        loss = AuxiliaryCTC(LossSettings(auxiliary_ctc_weight=1.0), LossContext(blank_id=0))
        loss(output, None, batch)  # [B]
    """

    name = "auxiliary_ctc"
    needs = frozenset({"auxiliary_logits"})
    weight_option = "auxiliary_ctc_weight"

    def _logits(self, output: CTCOutput) -> torch.Tensor:
        return given(output.auxiliary_logits, "auxiliary_logits")
