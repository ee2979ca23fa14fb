"""The CTC loss on the labels."""

from __future__ import annotations

import math

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

    With `ctc_label_smoothing` e the loss is (1 - e) * loss_b + e * mean over t of KL(uniform || student[b, t]): CTC has
    no one label per frame to smooth, so its frames are drawn towards the uniform distribution instead.

    An utterance without labels, or without frames, gives 0. One whose labels no path can spell (fewer frames than
    labels plus repeats) has an infinite loss, which is refused and not zeroed: a run checks for it before it starts.

    Raises:
        UserError: on call, naming the utterances whose loss is infinite.

    Source:
        Graves et al. 2006, "Connectionist Temporal Classification", equations 3 and 12. The smoothing follows Kim et
        al. 2018, "Improved training for online end-to-end speech recognition systems" (1711.02212), section 3.3.

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
        log_probs = self._log_probs(output)  # [B, T, V]
        values = F.ctc_loss(
            log_probs.transpose(0, 1),
            labels.clamp(min=0),
            # What is not scored is given a trivial problem: one frame, no labels.
            torch.where(scored, output.logit_lengths, 1),
            torch.where(scored, counts, 0),
            blank=self.context.blank_id,
            reduction="none",
        )  # [B]
        self._check(values, output, labels, batch)
        values = torch.where(scored, values / counts.clamp(min=1), 0.0)
        share = self.settings.ctc_label_smoothing
        if share == 0:
            return values
        return (1 - share) * values + share * self._distance_from_uniform(log_probs, output, scored)

    def _distance_from_uniform(self, log_probs: torch.Tensor, output: CTCOutput, scored: torch.Tensor) -> torch.Tensor:
        """Mean over the valid frames of KL(uniform || student), [B]."""
        valid = length_mask(output.logit_lengths, log_probs.shape[1]) & scored[:, None]  # [B, T]
        distances = -log_probs.mean(-1) - math.log(log_probs.shape[-1])  # [B, T]
        return torch.where(valid, distances, 0.0).sum(1) / valid.sum(1).clamp(min=1)

    def _log_probs(self, output: CTCOutput) -> torch.Tensor:
        """[B, T, V]; padding is replaced before the softmax, through whose gradient a NaN would spread."""
        logits = self._logits(output)
        valid = length_mask(output.logit_lengths, logits.shape[1]).unsqueeze(-1)
        return F.log_softmax(torch.where(valid, at_least_float32(logits), 0.0), dim=-1)

    def _logits(self, output: CTCOutput) -> torch.Tensor:
        """The frames that are trained, [B, T, V]."""
        return output.logits

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


def frames_needed(labels: torch.Tensor) -> torch.Tensor:
    """The least number of frames that can spell the labels: one each, and a blank between equal neighbours.

    Args:
        labels: [..., U], padded with -100 at the end.

    Returns:
        [...].
    """
    known = labels >= 0
    repeats = (labels[..., 1:] == labels[..., :-1]) & known[..., 1:]
    return known.sum(-1) + repeats.sum(-1)
