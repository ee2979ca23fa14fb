"""Systems of a comparison: a run (or its seeds) with one decoder, and how far it is from the baseline."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import Any

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.reporting.scored_runs import ScoredRun
from kd_asr_slr.scoring.matched_pairs import MatchedPairs, matched_pairs, segments_of_runs
from kd_asr_slr.scoring.protocols import get_protocol
from kd_asr_slr.scoring.score import count_rows
from kd_asr_slr.scoring.significance import Estimate, Outcomes, compare_systems, holm, joined, rate_of_system, stacked

SEED_SUFFIX = re.compile(r"-seed\d+$")
COUNTS = ("substitutions", "deletions", "insertions")


@dataclass(frozen=True)
class Difference:
    """How far a system is from the baseline, decoded alike.

    Args:
        relative: (WER - the baseline's) / the baseline's; None where that is 0.
        bootstrap: the difference of WER by the paired bootstrap, of utterances and of seeds where there are several;
            None without predictions, and with a decoder that is not tested.
        matched: the matched-pairs test, of the runs as they are; None where `bootstrap` is.
        bootstrap_holm, matched_holm: the p-values, corrected for the number of tests that are made.
    """

    relative: float | None
    bootstrap: Estimate | None = None
    matched: MatchedPairs | None = None
    bootstrap_holm: float | None = None
    matched_holm: float | None = None


@dataclass(frozen=True)
class System:
    """A run, or the seeds of one, with one decoder.

    Args:
        name: of the run; without its seed where seeds are folded.
        runs: one, or one a seed; all with the same decoder.
        interval: of the WER, 95 %; None where seeds are folded and a run has no predictions.
        difference: from the baseline; None for the baseline itself, and where it was not decoded so.
    """

    name: str
    runs: tuple[ScoredRun, ...]
    interval: tuple[float, float] | None
    difference: Difference | None = None

    @property
    def decoding(self) -> str:
        """What it was decoded with, as its column is called."""
        return self.runs[0].decoding

    def mean(self, figure: str) -> float:
        """Mean over the runs of "wer" or "wra", a fraction."""
        return mean(run.score[figure] for run in self.runs)

    def spread(self, figure: str) -> float | None:
        """Standard deviation over the runs (n - 1); None for a single one."""
        return stdev(run.score[figure] for run in self.runs) if len(self.runs) > 1 else None

    def counts(self) -> tuple[int, ...]:
        """Substitutions, deletions, insertions, summed over the runs."""
        return tuple(sum(run.score[kind] for run in self.runs) for kind in COUNTS)

    def group(self, grouping: str, name: str, figure: str) -> float:
        """Mean over the runs of a rate of a group, such as ("by_speaker", "fsdd/theo", "wer")."""
        return mean(run.score[grouping][name][figure] for run in self.runs)


def systems_of(runs: Sequence[ScoredRun], seeds: bool = False) -> list[System]:
    """Arrange runs as systems, in the order in which they first occur.

    Args:
        runs: of one comparison.
        seeds: fold runs `<name>-seed<N>`.

    Raises:
        UserError: where two runs of a system have the same seed.
    """
    groups: dict[tuple[str, str], list[ScoredRun]] = {}
    for run in runs:
        name = SEED_SUFFIX.sub("", run.results["name"]) if seeds else run.label
        groups.setdefault((name, run.decoding), []).append(run)
    problems = []
    for (name, decoding), members in groups.items():
        found = [run.results["seed"] for run in members]
        if len(set(found)) < len(found):
            problems.append(f"{name} ({decoding}) has the seeds {found}; expected each once")
    raise_all(problems, "these runs cannot be folded")
    return [System(name, tuple(members), _interval(members)) for (name, _), members in groups.items()]


def compared(systems: Sequence[System], name: str, tested: str) -> list[System]:
    """The systems with their differences from the baseline's system of the same decoder.

    Args:
        systems: all of the table.
        name: of the baseline, see `baseline_name`.
        tested: the decoding whose systems are tested: tests of every decoder would be as many more chances to find
            something, and their correction would hide what there is.
    """
    bases = {system.decoding: system for system in systems if system.name == name}
    found = []
    for system in systems:
        base = bases.get(system.decoding)
        if base is None or system is base:
            found.append(system)
        else:
            found.append(replace(system, difference=_difference(system, base, system.decoding == tested)))
    return _corrected(found)


def baseline_name(systems: Sequence[System], baseline: str) -> str:
    """The name of the systems that a user calls by it, by a run's name, or by a run folder.

    Raises:
        UserError: where no system is called so.
    """
    for system in systems:
        if baseline in (system.name, *(str(run.folder.path) for run in system.runs), system.runs[0].results["name"]):
            return system.name
    names = ", ".join(dict.fromkeys(system.name for system in systems))
    raise UserError(f"no run is called '{baseline}'", expected=f"one of {names}", fix="name one of them as --baseline")


# -- inside ----------------------------------------------------------------------------------------------------


def _interval(runs: Sequence[ScoredRun]) -> tuple[float, float] | None:
    if len(runs) == 1:
        low, high = runs[0].score["wer_ci95"]
        return low, high
    if any(run.rows is None for run in runs):
        return None
    low, high = rate_of_system([stacked(_outcomes(runs))]).interval
    return max(0.0, low), high


def _difference(system: System, base: System, tested: bool) -> Difference:
    ours, theirs = system.mean("wer"), base.mean("wer")
    relative = (ours - theirs) / theirs if theirs else None
    runs = [*system.runs, *base.runs]
    if not tested or any(run.rows is None for run in runs):
        return Difference(relative)
    outcomes = _outcomes(runs)
    size = len(system.runs)
    bootstrap = compare_systems([(stacked(outcomes[:size]), stacked(outcomes[size:]))])
    return Difference(relative, bootstrap, _matched(system.runs, base.runs))


def _outcomes(runs: Sequence[ScoredRun]) -> list[Outcomes]:
    """Word errors of every run on the same utterances; recordings of one utterance are added up."""
    tables = []
    for run in runs:
        rows = run.rows or []
        counts = count_rows(rows, get_protocol(run.score["protocol"]), run.score["split"])
        ids = [row["id"] for row in rows]
        tables.append({name: (count.errors, count.reference_tokens) for name, count in zip(ids, counts, strict=True)})
    units = {row["id"]: str(row.get("utterance") or row["id"]) for row in runs[0].rows or []}
    return joined(tables, [run.label for run in runs], units)


def _matched(ours: Sequence[ScoredRun], theirs: Sequence[ScoredRun]) -> MatchedPairs:
    first = ours[0]
    protocol = get_protocol(first.score["protocol"])
    texts = [[{row["id"]: row["hypothesis"] for row in run.rows or []} for run in side] for side in (ours, theirs)]
    segments = []
    for row in first.rows or []:
        one, other = ([protocol.hypothesis_tokens(run[row["id"]]) for run in side] for side in texts)
        segments += segments_of_runs(protocol.reference_tokens(row["reference"]), one, other, costs=protocol.costs)
    return matched_pairs(segments)


def _corrected(systems: list[System]) -> list[System]:
    """The same with Holm's p-values, over all systems that have the test."""
    for test, corrected in (("bootstrap", "bootstrap_holm"), ("matched", "matched_holm")):
        found = [(place, _p_value(system, test)) for place, system in enumerate(systems)]
        known = [(place, value) for place, value in found if value is not None]
        for (place, _), value in zip(known, holm([value for _, value in known]), strict=True):
            difference: Any = systems[place].difference
            systems[place] = replace(systems[place], difference=replace(difference, **{corrected: value}))
    return systems


def _p_value(system: System, test: str) -> float | None:
    outcome = getattr(system.difference, test, None)
    return None if outcome is None else outcome.p_value
