"""The CTC loss on the labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from kd_asr_slr.errors import UserError
from kd_asr_slr.losses.base import Batch, Loss, utterance_names
from kd_asr_slr.losses.masking import at_least_float32, length_mask
from kd_asr_slr.outputs import CTCOutput, TeacherSignal

MAX_LISTED = 10


class LabelCTC(Loss):
    """CTC loss of each utterance over its number of labels.

    loss_b = -log(sum over paths that collapse to the labels of product over t of student[b, t, path_t]) / U_b

    An utterance without labels, or without frames, gives 0. One whose labels no path can spell (fewer frames than
    labels plus repeats) has an infinite loss, which is refused and not zeroed: a run checks for it before it starts.

    Raises:
        UserError: on call, naming the utterances whose loss is infinite.

    Source:
        Graves et al. 2006, "Connectionist Temporal Classification", equations 3 and 12.

    Example::

        loss = LabelCTC(LossSettings(), LossContext(blank_id=0))
        loss(output, None, batch)  # [B]
    """

    name = "ctc"
    kind = "hard"
    head = "ctc"

    def __call__(
        self, output: CTCOutput, signal: TeacherSignal | None, batch: Batch, temperature: float = 1.0
    ) -> torch.Tensor:
        labels = batch["labels"]
        counts = (labels >= 0).sum(1)  # [B]
        scored = (counts > 0) & (output.logit_lengths > 0)
        values = F.ctc_loss(
            self._log_probs(output).transpose(0, 1),  # [T, B, V]
            labels.clamp(min=0),
            # What is not scored is given a trivial problem: one frame, no labels.
            torch.where(scored, output.logit_lengths, 1),
            torch.where(scored, counts, 0),
            blank=self.context.blank_id,
            reduction="none",
        )  # [B]
        self._check(values, output, labels, batch)
        return torch.where(scored, values / counts.clamp(min=1), 0.0)

    def _log_probs(self, output: CTCOutput) -> torch.Tensor:
        """[B, T, V]; padding is replaced before the softmax, through whose gradient a NaN would spread."""
        valid = length_mask(output.logit_lengths, output.logits.shape[1]).unsqueeze(-1)
        return F.log_softmax(torch.where(valid, at_least_float32(output.logits), 0.0), dim=-1)

    def _check(self, values: torch.Tensor, output: CTCOutput, labels: torch.Tensor, batch: Batch) -> None:
        infinite = torch.isinf(values)
        if not infinite.any():
            return
        names = utterance_names(batch, len(values))
        rows = infinite.nonzero().flatten().tolist()
        found = [
            f"{names[row]!r} ({int(output.logit_lengths[row])} frames, {frames_needed(labels[row])} needed)"
            for row in rows[:MAX_LISTED]
        ]
        more = f" and {len(rows) - MAX_LISTED} more" if len(rows) > MAX_LISTED else ""
        raise UserError(
            "the CTC loss is infinite for " + ", ".join(found) + more,
            expected="at least as many frames as labels plus repeated labels, and no label of probability 0",
            fix="take these utterances out of the training split, or use a model with less subsampling",
        )


def frames_needed(labels: torch.Tensor) -> int:
    """The least number of frames that can spell the labels: one each, and a blank between equal neighbours.

    Args:
        labels: [U], padded with -100.
    """
    labels = labels[labels >= 0]
    return len(labels) + int((labels[1:] == labels[:-1]).sum())
