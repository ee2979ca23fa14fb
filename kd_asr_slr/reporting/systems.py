"""Systems of a comparison, a line each: a run (or its seeds) with one decoder, and how far it is from the baseline."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import Any

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.reporting.scored_runs import ScoredRun
from kd_asr_slr.scoring.matched_pairs import MatchedPairs, matched_pairs, segments_of
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
        bootstrap: the difference of WER by the paired bootstrap; None without predictions.
        matched: the matched-pairs test; None without predictions, and for systems of several runs.
        bootstrap_holm, matched_holm: the p-values, corrected for the number of comparisons in the table.
    """

    relative: float | None
    bootstrap: Estimate | None = None
    matched: MatchedPairs | None = None
    bootstrap_holm: float | None = None
    matched_holm: float | None = None


@dataclass(frozen=True)
class System:
    """One line of a comparison.

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
    groups: dict[tuple[str, tuple[str, str | None]], list[ScoredRun]] = {}
    for run in runs:
        name = SEED_SUFFIX.sub("", run.results["name"]) if seeds else run.label
        groups.setdefault((name, run.decoding), []).append(run)
    problems = []
    for (name, decoding), members in groups.items():
        found = [run.results["seed"] for run in members]
        if len(set(found)) < len(found):
            problems.append(f"{name} ({decoding[0]}) has the seeds {found}; expected each once")
    raise_all(problems, "these runs cannot be folded")
    return [System(name, tuple(members), _interval(members)) for (name, _), members in groups.items()]


def compared(systems: Sequence[System], baseline: str) -> list[System]:
    """The systems with their differences from the baseline's line of the same decoder, and corrected p-values.

    Args:
        systems: all lines of the table.
        baseline: the name of one, or its run folder.

    Raises:
        UserError: where no system is called so.
    """
    name = _named(systems, baseline)
    bases = {system.runs[0].decoding: system for system in systems if system.name == name}
    lines = []
    for system in systems:
        base = bases.get(system.runs[0].decoding)
        if base is None or system is base:
            lines.append(system)
        else:
            lines.append(replace(system, difference=_difference(system, base)))
    return _corrected(lines)


# -- inside ----------------------------------------------------------------------------------------------------


def _named(systems: Sequence[System], baseline: str) -> str:
    for system in systems:
        if baseline in (system.name, *(str(run.folder.path) for run in system.runs), system.runs[0].results["name"]):
            return system.name
    names = ", ".join(dict.fromkeys(system.name for system in systems))
    raise UserError(f"no run is called '{baseline}'", expected=f"one of {names}", fix="name one of them as --baseline")


def _interval(runs: Sequence[ScoredRun]) -> tuple[float, float] | None:
    if len(runs) == 1:
        low, high = runs[0].score["wer_ci95"]
        return low, high
    if any(run.rows is None for run in runs):
        return None
    low, high = rate_of_system([stacked(_outcomes(runs))]).interval
    return max(0.0, low), high


def _difference(system: System, base: System) -> Difference:
    ours, theirs = system.mean("wer"), base.mean("wer")
    relative = (ours - theirs) / theirs if theirs else None
    runs = [*system.runs, *base.runs]
    if any(run.rows is None for run in runs):
        return Difference(relative)
    outcomes = _outcomes(runs)
    size = len(system.runs)
    bootstrap = compare_systems([(stacked(outcomes[:size]), stacked(outcomes[size:]))])
    return Difference(relative, bootstrap, _matched(*runs) if len(runs) == 2 else None)


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


def _matched(ours: ScoredRun, theirs: ScoredRun) -> MatchedPairs:
    protocol = get_protocol(ours.score["protocol"])
    other = {row["id"]: row["hypothesis"] for row in theirs.rows or []}
    segments = []
    for row in ours.rows or []:
        first, second = (protocol.hypothesis_tokens(text) for text in (row["hypothesis"], other[row["id"]]))
        segments += segments_of(protocol.reference_tokens(row["reference"]), first, second, costs=protocol.costs)
    return matched_pairs(segments)


def _corrected(systems: list[System]) -> list[System]:
    """The same with Holm's p-values, over all lines that have the test."""
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
