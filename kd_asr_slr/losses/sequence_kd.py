"""The CTC loss on the label sequence that the teachers hear."""

from __future__ import annotations

import dataclasses

import torch

from kd_asr_slr.losses.base import Batch, Loss, LossContext
from kd_asr_slr.losses.ctc import LabelCTC, frames_needed
from kd_asr_slr.losses.masking import speaking_mask
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.outputs import CTCOutput, TeacherSignal, given
from kd_asr_slr.processing.collator import IGNORED_LABEL


class SequenceDistillation(Loss):
    """Sequence-level KD: CTC on the combined teacher's greedy labels, weighed by `sequence_kd_weight`.

    loss_b = weight_b * -log student[b](labels heard) / number of labels heard

    The labels are the best path at temperature 1, collapsed. They are found at the teachers' own frame rate, so neither
    rates nor the timing of spikes need to agree. It serves recordings without a transcript; where there is one, the
    label loss says more.

    An utterance gives 0 where the teachers hear nothing, where the student has fewer frames than the labels need, and
    where exp(mean over the frames of the best path's log-probability) is below `sequence_confidence`.

    Source:
        Kim & Rush 2016, "Sequence-Level Knowledge Distillation" (1606.07947), section 3.2; Takashima et al. 2018, "An
        investigation of a knowledge distillation method for CTC acoustic models" (ICASSP), for CTC, there with an
        N-best list.

    Example::

        loss = SequenceDistillation(LossSettings(sequence_kd_weight=0.5), LossContext(blank_id=0))
        loss(output, signal, batch)  # [B]
    """

    name = "sequence_kd"
    kind = "soft"
    head = "ctc"
    needs = frozenset({"log_probs"})
    weight_option = "sequence_kd_weight"

    def __init__(self, settings: LossSettings, context: LossContext) -> None:
        super().__init__(settings, context)
        self.ctc = LabelCTC(dataclasses.replace(settings, ctc_label_smoothing=0.0), context)

    def __call__(
        self, output: CTCOutput, signal: TeacherSignal | None, batch: Batch, temperature: float = 1.0
    ) -> torch.Tensor:
        signal = given(signal, "signal")
        values = self.ctc(output, None, {**batch, "labels": self._labels(output, signal)})
        return values * signal.weight.to(values.dtype)

    def diagnostics(self, output: CTCOutput, signal: TeacherSignal | None, batch: Batch) -> dict[str, float]:
        """`sequence_ratio`: utterances that are taught, of all for which a teacher speaks."""
        signal = given(signal, "signal")
        taught, total = (self._labels(output, signal) >= 0).any(1), int((signal.weight > 0).sum())
        return {"sequence_ratio": int(taught.sum()) / total if total else 0.0}

    @torch.no_grad()
    def _labels(self, output: CTCOutput, signal: TeacherSignal) -> torch.Tensor:
        """What the teachers hear, [B, T] padded with -100; nothing where it is not to be learnt."""
        scores, best = signal.sparse.best() if signal.sparse is not None else signal.log_probs.max(-1)  # [B, T]
        valid = speaking_mask(signal.lengths, signal.weight, best.shape[1])
        labels = collapsed(best, valid, self.context.blank_id)
        confidence = (torch.where(valid, scores, 0.0).sum(1) / valid.sum(1).clamp(min=1)).exp()  # [B]
        fits = frames_needed(labels) <= output.logit_lengths
        return labels.masked_fill(~(fits & (confidence >= self.settings.sequence_confidence))[:, None], IGNORED_LABEL)


def collapsed(paths: torch.Tensor, valid: torch.Tensor, blank_id: int) -> torch.Tensor:
    """Paths with repeated classes merged and blanks dropped, on the device they are on.

    Args:
        paths: [B, T], a class per frame.
        valid: [B, T], boolean; valid frames stand at the start.
        blank_id: index of the blank.

    Returns:
        [B, T], padded with -100.

    Example:
        >>> collapsed(torch.tensor([[1, 1, 0, 1, 2]]), torch.ones(1, 5, dtype=torch.bool), blank_id=0)
        tensor([[   1,    1,    2, -100, -100]])
    """
    starts = torch.ones_like(valid)
    starts[:, 1:] = paths[:, 1:] != paths[:, :-1]
    kept = valid & starts & (paths != blank_id)
    row, _ = rows = kept.nonzero(as_tuple=True)
    labels = torch.full_like(paths, IGNORED_LABEL)
    labels[row, (kept.cumsum(1) - 1)[rows]] = paths[rows]
    return labels
