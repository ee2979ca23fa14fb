"""Token-wise distillation of decoder outputs, teacher-forced on the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from kd_asr_slr.errors import UserError
from kd_asr_slr.losses.base import Batch, Loss, utterance_names
from kd_asr_slr.losses.kl import selected_kl
from kd_asr_slr.losses.masking import mean_per_utterance, speaking_mask
from kd_asr_slr.losses.sparse_kl import selected_sparse_kl
from kd_asr_slr.outputs import CTCOutput, TeacherSignal, decoder_part, given


class DecoderDistillation(Loss):
    """Decoder-KD: the divergence at each position of the reference, the end of sequence included.

    loss_b = weight_b / (U_b + 1) * sum over u = 0..U_b of KL(teacher_T[b, u] || student_T[b, u]) * T^2

    Both decoders are fed the same reference, so position u means the same on both sides. An utterance without
    labels has no reference and gives 0.

    Raises:
        UserError: on call, where the teachers' positions are not the student's.

    Source:
        Hinton et al. 2015 (1503.02531), per token as in Kim & Rush 2016, "Sequence-Level Knowledge Distillation"
        (1606.07947), section 3.1 (word-level distillation).

    Example::

        loss = DecoderDistillation(LossSettings(), LossContext(blank_id=0))
        loss(output, signal, batch, temperature=2.0)  # [B]
    """

    name = "decoder_kd"
    kind = "soft"
    head = "decoder"
    needs = frozenset({"decoder_log_probs", "decoder_logits"})

    def __call__(
        self, output: CTCOutput, signal: TeacherSignal | None, batch: Batch, temperature: float = 1.0
    ) -> torch.Tensor:
        signal = given(signal, "signal")
        logits, lengths = decoder_part(output)
        self._check_lengths(lengths, signal, batch)
        sparse = signal.decoder_sparse
        teacher: Any = signal.decoder_log_probs if sparse is None else sparse  # [B, U+1, V], or [B, U+1] sparse targets
        positions = teacher.shape[1] if sparse is None else sparse.ids.shape[1]
        mask = speaking_mask(lengths, signal.weight, positions)
        mask = mask & (batch["labels"] >= 0).any(1, keepdim=True)  # [B, U+1]
        rows = mask.nonzero(as_tuple=True)
        divergence_of: Callable[..., torch.Tensor] = selected_kl if sparse is None else selected_sparse_kl
        divergence = divergence_of(logits, teacher, rows, temperature)  # [N]
        return mean_per_utterance(divergence, rows, mask) * signal.weight.to(divergence.dtype)

    def _check_lengths(self, lengths: torch.Tensor, signal: TeacherSignal, batch: Batch) -> None:
        heard = given(signal.decoder_lengths, "decoder_lengths")
        wrong = (lengths != heard) & (signal.weight > 0)
        if not wrong.any():
            return
        names = utterance_names(batch, len(wrong))
        row = int(wrong.nonzero()[0])
        raise UserError(
            f"{names[row]!r} has {int(lengths[row])} decoder positions in the student and "
            f"{int(heard[row])} in the teachers",
            expected="both decoders fed the same reference",
            fix="make the cache of soft targets again with the student's tokenizer and transcripts",
        )
