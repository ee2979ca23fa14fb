"""Several live teachers behind one `signal(batch)`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.outputs import TeacherSignal
from kd_asr_slr.teachers.aggregation import AGGREGATIONS, AggregationSettings, Shares, share_out
from kd_asr_slr.teachers.combination import Combination
from kd_asr_slr.teachers.fingerprints import vocabulary_difference
from kd_asr_slr.teachers.frozen import FrozenTeacher
from kd_asr_slr.teachers.matching import Matching


class TeacherPool:
    """The live teachers of a run.

    A teacher runs only on the utterances it speaks for. An utterance for which nobody may speak (policy "skip") has
    weight 0; its length is then taken from the generalist or the first teacher, its frames are uniform.

    Args:
        teachers: the K specialists (or generalists among equals).
        settings: how they are combined.
        generalist: a teacher that knows every speaker, for `generalist_weight` and the policy "generalist".
        matching: which teachers have which utterance, where not every teacher is asked about every utterance.

    Raises:
        UserError: listing everything that keeps these teachers from becoming one target.

    Example:
        >>> pool = TeacherPool([theo, lucas], AggregationSettings("route"))  # doctest: +SKIP
        >>> pool.signal(batch).log_probs.shape  # doctest: +SKIP
        torch.Size([8, 120, 17])
    """

    def __init__(
        self,
        teachers: Sequence[FrozenTeacher],
        settings: AggregationSettings | None = None,
        generalist: FrozenTeacher | None = None,
        matching: Matching | None = None,
    ) -> None:
        self.teachers = list(teachers)
        self.settings = settings or AggregationSettings()
        self.generalist = generalist
        self.matching = matching
        raise_all(self.settings.problems() + self._roster_problems(), "the teachers")
        raise_all(self._agreement_problems(), "the teachers")
        share_out(self.teachers, (), self.settings)  # missing dev WERs come out now, not in the first batch
        self.aggregation = AGGREGATIONS[self.settings.name]
        first = self.teachers[0]
        self.tokens, self.blank_id, self.vocabulary = first.tokens, first.blank_id, first.vocabulary
        self.frame_seconds = first.frame_seconds

    @property
    def everyone(self) -> list[FrozenTeacher]:
        """The specialists, and the generalist where there is one."""
        return self.teachers + ([self.generalist] if self.generalist is not None else [])

    @property
    def device(self) -> torch.device:
        """Where the teachers stand."""
        return self.teachers[0].device

    @property
    def features(self) -> str:
        """Fingerprint of the teachers' features; several, joined by "+", where they differ."""
        return "+".join(sorted({teacher.features for teacher in self.everyone}))

    @property
    def speaks_alone(self) -> bool:
        """Whether one teacher alone speaks for each utterance."""
        if self.generalist is not None and self.settings.generalist_weight > 0:
            return False
        if len(self.teachers) == 1:
            return True
        mixes_unknown = self.settings.name == "route" and self.settings.unknown_speaker == "logprob_mean"
        return self.aggregation.alone and not mixes_unknown

    @property
    def provides(self) -> frozenset[str]:
        """What a loss may ask of the signal, see `interface.Teachers`."""
        offered = {"log_probs", "dense_log_probs"}
        if all(teacher.has_decoder for teacher in self.everyone):
            offered.add("decoder_log_probs")
        if self.speaks_alone:
            offered.add("hidden_states")
        return frozenset(offered)

    @property
    def views(self) -> dict[str, Any]:
        """Processors, by fingerprint, whose features a batch must bring beside the student's."""
        return {teacher.features: teacher.processor for teacher in self.everyone if teacher.needs_view}

    def to(self, device: torch.device | str) -> TeacherPool:
        """Move every teacher; returns itself."""
        for teacher in self.everyone:
            teacher.to(device)
        return self

    def unknown_speakers(self, speakers: Iterable[str]) -> list[str]:
        """Speakers of a corpus that no teacher is bound to, for a check before the first batch."""
        known = frozenset().union(*(teacher.speakers for teacher in self.teachers))
        return sorted(set(speakers) - known)

    def describe(self) -> dict[str, Any]:
        """A JSON-able description for results.json."""
        return {
            "kind": "live",
            "teachers": [teacher.describe() for teacher in self.teachers],
            "generalist": self.generalist.describe() if self.generalist is not None else None,
            "aggregation": self.describe_aggregation(),
            "vocabulary": self.vocabulary,
            "frame_seconds": self.frame_seconds,
        }

    def describe_aggregation(self) -> dict[str, Any]:
        """How the teachers are combined, and how many of them speak for an utterance where not all do."""
        described = self.settings.describe()
        if self.matching is not None:  # the policy then decides what an utterance that too few have is taught
            described |= {"unknown_speaker": self.settings.unknown_speaker, **self.matching.describe()}
        return described

    def shares(self, ids: Sequence[str], speakers: Sequence[str]) -> Shares:
        """Who speaks how much for some utterances, before a gate refines it.

        Raises:
            UserError: for an unknown speaker, or an utterance that too few teachers have (policy "error").
        """
        if self.matching is None:
            return share_out(self.teachers, speakers, self.settings)
        short = self.matching.short(ids) if self.settings.unknown_speaker == "error" else []
        if short:
            raise UserError(self.matching.sentence(short))
        return share_out(self.teachers, speakers, self.settings, self.matching.has(ids), self.matching.needed)

    def teachers_per_utterance(self, ids: Sequence[str], speakers: Sequence[str]) -> float:
        """Teachers that speak for an utterance, on average, the generalist included."""
        shares = self.shares(ids, speakers)
        heard = (shares.specialists > 0).sum(0) * (shares.generalist < 1) + (shares.generalist > 0)  # [N]
        return float(heard.double().mean())

    @torch.no_grad()
    def signal(self, batch: dict[str, Any], hidden_layers: Sequence[int] = (), decoder: bool = True) -> TeacherSignal:
        """What the teachers say of a batch.

        Args:
            batch: a collated batch, with `speakers` (and `labels`, for `gate` and for teachers with a decoder).
            hidden_layers: teacher layers whose hidden states are wanted: those of the one teacher that speaks for
                the utterance (aggregations `route` and `best`, or a single teacher).
            decoder: whether teachers with a decoder run it.

        Raises:
            UserError: for an unknown speaker (policy "error"), hidden states of several teachers at once, or teachers
                whose outputs differ in length.
        """
        if hidden_layers and not self.speaks_alone:
            raise UserError(
                f"hidden states were asked of {len(self.everyone)} teachers combined by '{self.settings.name}'",
                expected="one teacher that speaks alone for each utterance",
                fix="use aggregation route or best without a generalist share, or leave the feature losses out",
            )
        shares = self.shares(batch["ids"], batch["speakers"])
        combined = Combination(self, batch, hidden_layers, decoder)
        for k, teacher in enumerate(self.teachers):
            combined.listen(teacher, shares.specialists[k])
        if self.generalist is not None:
            combined.mix(self.generalist, shares.generalist)
        combined.measure(self.generalist if self.generalist is not None else self.teachers[0], shares.silent)
        return combined.signal(shares)

    def _roster_problems(self) -> list[str]:
        if not self.teachers:
            return ["there is no teacher; give at least one"]
        found = []
        if self.generalist is None and self.settings.generalist_weight > 0:
            found.append(f"generalist_weight is {self.settings.generalist_weight} but there is no generalist")
        if self.settings.name == "route":
            found += self._route_problems()
        if self.matching is not None and self.matching.needed > len(self.teachers):
            found.append(f"min_teachers is {self.matching.needed} and there are {len(self.teachers)} teachers")
        return found

    def _route_problems(self) -> list[str]:
        found = []
        owners: dict[str, str] = {}
        for teacher in self.teachers:
            if not teacher.speakers:
                found.append(f"aggregation 'route' needs the speaker of every teacher; {teacher.name} has none")
            for speaker in sorted(teacher.speakers):
                if speaker in owners:
                    found.append(f"speaker '{speaker}' is bound to two teachers, {owners[speaker]} and {teacher.name}")
                owners.setdefault(speaker, teacher.name)
        if self.settings.unknown_speaker == "generalist" and self.generalist is None:
            found.append("unknown_speaker is 'generalist' but there is no generalist")
        return found

    def _agreement_problems(self) -> list[str]:
        first, found = self.teachers[0], []
        for other in self.everyone[1:]:
            names = (f"teacher {first.name}", f"teacher {other.name}")
            difference = vocabulary_difference(
                first.tokens, first.blank_id, other.tokens, other.blank_id, names[0], names[1]
            )
            if difference:
                found.append(difference)
            if abs(other.frame_seconds - first.frame_seconds) > 1e-9:
                found.append(
                    f"{names[0]} has a frame every {first.frame_seconds:g} s and {names[1]} every"
                    f" {other.frame_seconds:g} s; expected one frame rate"
                )
        return found
