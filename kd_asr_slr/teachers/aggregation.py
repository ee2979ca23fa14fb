"""Which teachers speak for an utterance, and how much.

An aggregation is two things: the shares of the teachers, [K, B], and the kind of mean they enter (`streaming_mean`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from kd_asr_slr.errors import UserError
from kd_asr_slr.teachers.matching import RULES, matched
from kd_asr_slr.teachers.streaming_mean import StreamingMean

__all__ = [
    "AGGREGATIONS",
    "UNKNOWN_SPEAKER_POLICIES",
    "Aggregation",
    "AggregationSettings",
    "Shares",
    "StreamingMean",
    "share_out",
]

UNKNOWN_SPEAKER_POLICIES = ("error", "generalist", "logprob_mean", "skip")


class Speaking(Protocol):
    """What an aggregation has to know of a teacher."""

    name: str
    speakers: frozenset[str]
    dev_wer: float | None


@dataclass(frozen=True)
class AggregationSettings:
    """How the teachers become one target.

    Attributes:
        name: a key of `AGGREGATIONS`.
        unknown_speaker: what `route` does with a speaker that no teacher is bound to: "error", "generalist" (it speaks
            alone), "logprob_mean" (of all teachers) or "skip" (the utterance has no teacher, its weight is 0).
        generalist_weight: g in (1 - g) * specialists + g * generalist. It is a mixture in the domain of the mean: of
            probabilities for `prob_mean`, log-linear (and renormalised) for every other aggregation.
        weighting_temperature: `weighted` has shares softmax(-dev WER / this); WER as a fraction, so that at 0.1 WERs of
            0.10, 0.11 and 0.12 give 0.37, 0.33 and 0.30.
        gate_temperature: tau of `gate`, in nats a frame.
        matching: which teachers are asked about an utterance, "all", "partial" or "strict" (see `matching.Matching`);
            `route` and `best` ask one teacher, whatever it says.
        min_teachers: of "partial".
    """

    name: str = "route"
    unknown_speaker: str = "error"
    generalist_weight: float = 0.0
    weighting_temperature: float = 0.1
    gate_temperature: float = 0.1
    matching: str = "all"
    min_teachers: int = 1

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        found = []
        if self.name not in AGGREGATIONS:
            found.append(f"aggregation is '{self.name}'; expected one of {', '.join(AGGREGATIONS)}")
        if self.unknown_speaker not in UNKNOWN_SPEAKER_POLICIES:
            allowed = ", ".join(UNKNOWN_SPEAKER_POLICIES)
            found.append(f"unknown_speaker is '{self.unknown_speaker}'; expected one of {allowed}")
        if not 0 <= self.generalist_weight <= 1:
            found.append(f"generalist_weight is {self.generalist_weight}; expected 0 to 1")
        if self.matching not in RULES:
            found.append(f"teacher_matching is '{self.matching}'; expected one of {', '.join(RULES)}")
        if self.min_teachers < 1:
            found.append(f"min_teachers is {self.min_teachers}; expected 1 or more")
        for name in ("weighting_temperature", "gate_temperature"):
            if not getattr(self, name) > 0:
                found.append(f"{name} is {getattr(self, name)}; expected more than 0")
        return found

    def describe(self) -> dict[str, Any]:
        """The settings that change the target, for a manifest or results.json."""
        described = {"name": self.name, "generalist_weight": self.generalist_weight}
        for name in AGGREGATIONS[self.name].uses:
            described[name] = getattr(self, name)
        return described


@dataclass(frozen=True)
class Shares:
    """Who speaks how much for each utterance, before a gate refines it.

    Attributes:
        specialists: [K, B], float64 on the CPU; each column sums to 1, or to 0 where no specialist speaks.
        generalist: [B], share of the generalist in the target; the specialists have the rest.
    """

    specialists: torch.Tensor
    generalist: torch.Tensor

    @property
    def silent(self) -> torch.Tensor:
        """[B], true where nobody speaks for the utterance."""
        return (self.specialists.sum(0) == 0) & (self.generalist == 0)


ShareFunction = Callable[[Sequence[Speaking], Sequence[str], AggregationSettings], torch.Tensor]


@dataclass(frozen=True)
class Aggregation:
    """One row of `AGGREGATIONS`.

    Attributes:
        shares: (teachers, speakers of the batch, settings) -> [K, B].
        mean: "log" (weighted mean of log-probabilities, renormalised) or "probability".
        alone: whether one teacher alone speaks for each utterance (it may then hand over hidden states).
        scored: whether the shares are refined by each teacher's transcript loss (training only).
        uses: the settings it depends on.
    """

    shares: ShareFunction
    mean: str = "log"
    alone: bool = False
    scored: bool = False
    uses: tuple[str, ...] = ()


def route(teachers: Sequence[Speaking], speakers: Sequence[str], settings: AggregationSettings) -> torch.Tensor:
    """Every utterance to the teacher bound to its speaker; [K, B]. Unknown speakers by `settings.unknown_speaker`.

    Raises:
        UserError: for a speaker without a teacher, where `unknown_speaker` is "error".
    """
    owner = {speaker: k for k, teacher in enumerate(teachers) for speaker in teacher.speakers}
    shares = torch.zeros(len(teachers), len(speakers), dtype=torch.float64)  # [K, B]
    for b, speaker in enumerate(speakers):
        if speaker in owner:
            shares[owner[speaker], b] = 1.0
        elif settings.unknown_speaker == "logprob_mean":
            shares[:, b] = 1.0 / len(teachers)
        elif settings.unknown_speaker == "error":
            raise UserError(
                f"no teacher is bound to speaker '{speaker}'",
                expected=f"one of the speakers with a teacher: {', '.join(sorted(owner))}",
                fix="bind a teacher to the speaker, leave the speaker out of the training data, or set unknown_speaker"
                " to generalist, logprob_mean or skip",
            )
    return shares


def uniform(teachers: Sequence[Speaking], speakers: Sequence[str], settings: AggregationSettings) -> torch.Tensor:
    """1/K for everyone; [K, B]."""
    return torch.full((len(teachers), len(speakers)), 1.0 / len(teachers), dtype=torch.float64)


def best(teachers: Sequence[Speaking], speakers: Sequence[str], settings: AggregationSettings) -> torch.Tensor:
    """Everything to the teacher with the lowest dev WER (the first of equals); [K, B]."""
    rates = _dev_wers(teachers, settings.name)
    shares = torch.zeros(len(teachers), len(speakers), dtype=torch.float64)
    shares[int(rates.argmin())] = 1.0
    return shares


def weighted(teachers: Sequence[Speaking], speakers: Sequence[str], settings: AggregationSettings) -> torch.Tensor:
    """softmax(-dev WER / temperature) over teachers, the same for every utterance; [K, B].

    Source: the "weighted" teachers of Gao et al. 2021 (arXiv 2005.09310), whose softmax over percentages is the
    temperature 0.01 of this one and in practice picks the best teacher; hence the stated temperature.
    """
    shares = torch.softmax(-_dev_wers(teachers, settings.name) / settings.weighting_temperature, dim=0)  # [K]
    return shares[:, None].repeat(1, len(speakers))  # [K, B]


def _dev_wers(teachers: Sequence[Speaking], aggregation: str) -> torch.Tensor:
    unscored = [teacher.name for teacher in teachers if teacher.dev_wer is None]
    if unscored:
        raise UserError(
            f"aggregation '{aggregation}' needs every teacher's dev WER; without one: {', '.join(unscored)}",
            expected="a dev score in the results.json of each teacher's run folder",
            fix="score the teachers with recipes/score.py --split dev, or choose another aggregation",
        )
    return torch.tensor([teacher.dev_wer for teacher in teachers], dtype=torch.float64)


AGGREGATIONS: dict[str, Aggregation] = {
    "route": Aggregation(route, alone=True, uses=("unknown_speaker",)),
    "gate": Aggregation(uniform, scored=True, uses=("gate_temperature",)),
    "logprob_mean": Aggregation(uniform),
    "prob_mean": Aggregation(uniform, mean="probability"),
    # log_softmax takes any constant of a frame away, so the mean of logits and of log-probabilities are one target.
    "logit_mean": Aggregation(uniform),
    "best": Aggregation(best, alone=True),
    "weighted": Aggregation(weighted, uses=("weighting_temperature",)),
}


def share_out(
    teachers: Sequence[Speaking],
    speakers: Sequence[str],
    settings: AggregationSettings,
    has: torch.Tensor | None = None,
    needed: int = 0,
) -> Shares:
    """The shares of the teachers and of the generalist for one batch.

    Args:
        teachers: the K specialists.
        speakers: the B speakers of the batch.
        settings: how they are combined.
        has: [K, B], which teachers have which utterance; None asks all of them.
        needed: teachers that must have an utterance; one that fewer have follows `unknown_speaker`, too.

    Raises:
        UserError: for an unknown speaker (policy "error") or a dev WER that is needed and missing.
    """
    specialists = AGGREGATIONS[settings.name].shares(teachers, speakers, settings)
    if has is not None:
        everyone, specialists = specialists, matched(specialists, has, needed)
        if settings.unknown_speaker == "logprob_mean":
            specialists = torch.where(specialists.sum(0) > 0, specialists, everyone)
    generalist = torch.full((len(speakers),), settings.generalist_weight, dtype=torch.float64)
    unknown = specialists.sum(0) == 0
    generalist[unknown] = 1.0 if settings.unknown_speaker == "generalist" else 0.0
    return Shares(specialists, generalist)
