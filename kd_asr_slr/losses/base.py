"""What every loss has: a name, a kind, what it needs, and a call that returns one value per utterance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.outputs import CTCOutput, TeacherSignal

if TYPE_CHECKING:
    from kd_asr_slr.losses.hidden import HiddenProjections

Batch = Mapping[str, Any]


@dataclass(frozen=True)
class LossContext:
    """What the losses must know of the student and its tokenizer, beside the settings.

    Attributes:
        blank_id: index of the blank in the vocabulary.
        eos_id: index of the end of sequence; needed by the decoder's label loss only.
        frame_seconds: seconds between two output frames of the student, in the unit of
            `TeacherSignal.frame_seconds`; needed for `rate_matching` "resample" and "shift".
        projections: from the student's widths to the teacher's, for hidden-state matching; None where all
            widths agree.
    """

    blank_id: int
    eos_id: int | None = None
    frame_seconds: float | None = None
    projections: HiddenProjections | None = None


class Loss(ABC):
    """One loss term; a function of (student output, teacher signal, batch), never of a model.

    Attributes:
        name: the name in `table.LOSSES`, in configs and in logs.
        kind: "soft" (teacher distributions), "hard" (labels), "feature" (hidden states) or "self" (the student's own
            output). Only "soft" and "feature" losses ask teachers.
        head: the output it trains, "ctc" or "decoder"; None where it is neither. `ctc_share` splits by it.
        needs: what must be there: "log_probs" (in any form), "dense_log_probs" (all classes, also where a cache holds
            only some), "decoder_log_probs", "hidden_states" of the teachers, "decoder_logits", "auxiliary_logits",
            "other_view_logits" of the student. An instance may need more than its class.
        weight_option: the field of `LossSettings` that weighs this loss alone and switches it on; None where it is
            named in `soft_losses`, `hard_losses` or `feature_losses` and shares the weight of its kind.
    """

    name: ClassVar[str]
    kind: ClassVar[Literal["soft", "hard", "feature", "self"]]
    head: ClassVar[Literal["ctc", "decoder"] | None] = None
    needs: frozenset[str] = frozenset()
    weight_option: ClassVar[str | None] = None

    def __init__(self, settings: LossSettings, context: LossContext) -> None:
        self.settings = settings
        self.context = context

    @abstractmethod
    def __call__(
        self, output: CTCOutput, signal: TeacherSignal | None, batch: Batch, temperature: float = 1.0
    ) -> torch.Tensor:
        """The loss of each utterance, [B], divided by its own valid frames or labels.

        Args:
            output: the student's output.
            signal: what the teachers say; label losses do not read it.
            batch: the collated batch: `labels` [B, U] padded with -100, `ids`.
            temperature: softens both sides of a soft loss; the other kinds ignore it.
        """

    def diagnostics(self, output: CTCOutput, signal: TeacherSignal | None, batch: Batch) -> dict[str, float]:
        """Numbers worth logging beside the loss, by name; none unless a loss says otherwise."""
        return {}


@dataclass(frozen=True)
class WeightedLoss:
    """A loss and its weight in the total: total = sum of weight * mean over B of loss.

    Attributes:
        loss: the loss.
        weight: its share of alpha, beta or gamma; positive.
    """

    loss: Loss
    weight: float

    @property
    def name(self) -> str:
        """The loss's name in the table."""
        return self.loss.name


def utterance_names(batch: Batch, count: int) -> list[str]:
    """The ids of a batch for a message; row numbers where it has none."""
    return [str(name) for name in batch.get("ids") or [f"row {row}" for row in range(count)]]
