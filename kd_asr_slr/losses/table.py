"""The table of losses by name, and the losses of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.losses.auxiliary_ctc import AuxiliaryCTC
from kd_asr_slr.losses.auxiliary_kd import AuxiliaryDistillation
from kd_asr_slr.losses.base import Loss, LossContext, WeightedLoss
from kd_asr_slr.losses.blank_mass import BlankMass
from kd_asr_slr.losses.consistency import ViewConsistency
from kd_asr_slr.losses.cross_entropy import DecoderCrossEntropy
from kd_asr_slr.losses.ctc import LabelCTC
from kd_asr_slr.losses.ctc_kd import CTCDistillation
from kd_asr_slr.losses.decoder_kd import DecoderDistillation
from kd_asr_slr.losses.hidden import HiddenStateMatching
from kd_asr_slr.losses.pseudo_labels import PseudoLabels
from kd_asr_slr.losses.sequence_kd import SequenceDistillation
from kd_asr_slr.losses.settings import LossSettings

if TYPE_CHECKING:
    from kd_asr_slr.losses.hidden import HiddenProjections

LOSSES: dict[str, type[Loss]] = {
    loss.name: loss
    for loss in (
        *(CTCDistillation, DecoderDistillation, HiddenStateMatching),
        *(BlankMass, PseudoLabels, SequenceDistillation),
        *(LabelCTC, DecoderCrossEntropy, AuxiliaryCTC, AuxiliaryDistillation),
        ViewConsistency,
    )
}


def build_losses(
    settings: LossSettings,
    blank_id: int,
    eos_id: int | None = None,
    frame_seconds: float | None = None,
    projections: HiddenProjections | None = None,
) -> list[WeightedLoss]:
    """The losses of a run with their weights; a loss of weight 0 is left out.

    Args:
        settings: what the user chose.
        blank_id: index of the blank in the vocabulary.
        eos_id: index of the end of sequence, for students with a decoder.
        frame_seconds: of the student's output frames, for `rate_matching="resample"`.
        projections: for hidden-state matching of layers of different widths.

    Raises:
        UserError: listing every problem of the settings; if the decoder's label loss is asked for and the tokenizer
            has no end of sequence.

    Example:
        >>> [(part.name, part.weight) for part in build_losses(LossSettings(alpha=0.7, beta=0.3), blank_id=0)]
        [('ctc_kd', 0.7), ('ctc', 0.3)]
    """
    raise_all(settings.problems(), "the losses")
    weights = loss_weights(settings)
    if "cross_entropy" in weights and eos_id is None:
        raise UserError(
            "hard_losses has 'cross_entropy' and the tokenizer has no end of sequence",
            expected="a tokenizer with </s>, as a student with a decoder needs",
            fix="use a model with a decoder, or take 'cross_entropy' out of hard_losses",
        )
    context = LossContext(blank_id, eos_id, frame_seconds, projections)
    return [WeightedLoss(LOSSES[name](settings, context), weight) for name, weight in weights.items()]


def loss_weights(settings: LossSettings) -> dict[str, float]:
    """Name -> weight of every loss whose weight is above 0."""
    weights: dict[str, float] = {}
    for names, weight in settings.names_and_weights().values():
        weights |= {name: weight * share for name, share in _shares(names, settings.ctc_share).items()}
    own = {name: loss.weight_option for name, loss in LOSSES.items() if loss.weight_option is not None}
    weights |= {name: getattr(settings, option) for name, option in own.items()}
    return {name: weight for name, weight in weights.items() if weight > 0}


def _shares(names: Sequence[str], ctc_share: float) -> dict[str, float]:
    """Each loss's share of its kind's weight; they sum to 1."""
    decoder = [name for name in names if LOSSES[name].head == "decoder"]
    others = [name for name in names if name not in decoder]
    if not (decoder and others):
        return {name: 1 / len(names) for name in names}
    return {name: (1 - ctc_share) / len(decoder) if name in decoder else ctc_share / len(others) for name in names}
