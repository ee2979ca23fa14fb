"""The tables of a comparison, for people: a line a run, a line a run and decoder, a line a group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kd_asr_slr.reporting.lines import Line
from kd_asr_slr.reporting.systems import System
from kd_asr_slr.reporting.tables import NOTHING, Table, percent, shown_p, shown_range, shown_teachers

# Groups that may have a table of their own -> its title.
GROUPS = {
    "by_speaker": "By speaker",
    "by_band": "By band",
    "by_category": "By category",
    "by_seen": "By words seen in training",
}
WORDS = {"run", "model", "teachers", "aggregation", "decoder"}  # columns of words; all others are of numbers
TESTS = ("p (bootstrap)", "p (matched pairs)", "segments")

Cells = dict[str, str]


def run_table(lines: Sequence[Line], decodings: Sequence[str], main: str) -> Table:
    """A line a run: what it is, its WER by every decoder, and WRA, errors, change and tests by the main one."""
    cells = []
    for line in lines:
        shown = _facts(line) | {f"{name} WER": _rate(line.systems.get(name)) for name in decodings}
        cells.append(shown | _outcome(line.systems.get(main), tests=True))
    return filled(cells)


def decoder_table(lines: Sequence[Line], decodings: Sequence[str]) -> Table:
    """A line a run and decoder: what the line of the run shows of the main decoder only."""
    cells = []
    for line in lines:
        for name in decodings:
            if name in line.systems:
                system = line.systems[name]
                shown = {"run": line.name, "decoder": name, "WER": _rate(system)}
                cells.append(shown | _outcome(system, tests=False))
    return filled(cells)


def group_table(systems: Sequence[System], key: str) -> Table:
    """A line a group, a column a system; all are decoded alike."""
    groups: dict[str, Any] = systems[0].runs[0].score[key]
    cells = []
    for name in sorted(groups):
        rates = {
            s.name: f"{percent(s.group(key, name, 'wer'))} ({percent(s.group(key, name, 'wra'))})" for s in systems
        }
        cells.append({key.removeprefix("by_"): name, "tokens": f"{groups[name]['reference_tokens']:,}"} | rates)
    return Table(list(cells[0]), [list(line.values()) for line in cells], [False] + [True] * (len(systems) + 1))


def filled(cells: Sequence[Cells]) -> Table:
    """A table of lines with the same columns, without those that no line fills; the first one stays."""
    first, *others = cells[0]
    header = [first, *(name for name in others if any(line[name] != NOTHING for line in cells))]
    return Table(header, [[line[name] for name in header] for line in cells], [name not in WORDS for name in header])


# -- inside ----------------------------------------------------------------------------------------------------


def _facts(line: Line) -> Cells:
    run = line.first.runs[0]
    model = run.results["model"]
    return {
        "run": line.name,
        "model": model["type"],
        "parameters": f"{model['parameters']:,}",
        "MB": f"{model['bytes'] / 1e6:.2f}",
        "teachers": shown_teachers(run.results),
        "aggregation": run.aggregation or NOTHING,
        "seeds": _seeds(line),
    }


def _seeds(line: Line) -> str:
    """How many, where any decoder has several; "2-3" where decoders differ."""
    counts = [len(system.runs) for system in line.systems.values()]
    if max(counts) == 1:
        return NOTHING
    return f"{min(counts)}-{max(counts)}" if min(counts) < max(counts) else str(counts[0])


def _rate(system: System | None) -> str:
    """ "25.69 (24.37 to 27.01)", with the spread over seeds where there is one."""
    if system is None:
        return NOTHING
    spread = system.spread("wer")
    text = percent(system.mean("wer")) + ("" if spread is None else f" +- {percent(spread)}")
    return f"{text} ({shown_range(system.interval)})" if system.interval else text


def _outcome(system: System | None, tests: bool) -> Cells:
    """WRA, errors, change, and the tests; dashes where there is no such score, or nothing was tested."""
    difference = system.difference if system else None
    relative = difference.relative if difference else None
    found = {
        "WRA": percent(system.mean("wra")) if system else NOTHING,
        "S / D / I": " / ".join(map(str, system.counts())) if system else NOTHING,
        "change %": NOTHING if relative is None else f"{100 * relative:+.1f}",
    }
    if not tests:
        return found
    shown = [NOTHING] * len(TESTS)
    if difference and difference.bootstrap and difference.matched:
        shown = [shown_p(difference.bootstrap_holm), shown_p(difference.matched_holm), str(difference.matched.segments)]
    return found | dict(zip(TESTS, shown, strict=True))
