"""The table over any runs: rates with their intervals, groups, and tests against a baseline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.reporting.scored_runs import read_scored
from kd_asr_slr.reporting.systems import COUNTS, System, compared, systems_of
from kd_asr_slr.reporting.tables import (
    NOTHING,
    Page,
    Table,
    percent,
    shown_p,
    shown_range,
    shown_teachers,
    teacher_names,
)
from kd_asr_slr.scoring.matched_pairs import FEW_SEGMENTS
from kd_asr_slr.scoring.protocols import PROTOCOLS

# Groups that may have a table of their own -> its title.
GROUPS = {
    "by_speaker": "By speaker",
    "by_band": "By band",
    "by_category": "By category",
    "by_seen": "By words seen in training",
}


def comparison(
    runs: Iterable[RunFolder | str | Path],
    split: str = "test",
    decoder: str | None = None,
    protocol: str | None = None,
    *,
    baseline: str | None = None,
    seeds: bool = False,
) -> Page:
    """Compare runs on one split: a line for every run and decoder, then tables of the groups.

    Args:
        runs: run folders.
        split: the split that was scored.
        decoder: one decoder; None: all that the runs were scored with.
        protocol: which protocol, where runs were scored with several.
        baseline: the run (its name, or its folder) that every other one is tested against, decoder by decoder.
        seeds: fold runs `<name>-seed<N>` into one line.

    Raises:
        UserError: where the runs cannot stand in one table (see `scored_runs.read_scored`), or no run is the baseline.

    Example:
        >>> print(comparison(["runs/baseline", "runs/student"], baseline="baseline").markdown())
    """
    systems = systems_of(read_scored(runs, split, decoder, protocol), seeds)
    if baseline is not None:
        systems = compared(systems, baseline)
    caption = _caption(systems, baseline)
    tables = [("", _run_table(systems, tested=baseline is not None))]
    tables += [(f"{title}, WER % (WRA %)", _group_table(systems, key)) for key, title in _groups(systems).items()]
    records = tuple(_record(system) for system in systems)
    return Page(caption, tuple(tables), records, {"schema": 1, "caption": caption, "systems": _content(systems)})


# -- what the figures are ----------------------------------------------------------------------------------------


def _caption(systems: Sequence[System], baseline: str | None) -> str:
    first = systems[0].runs[0]
    score, several = first.score, any(len(system.runs) > 1 for system in systems)
    signature = PROTOCOLS[score["protocol"]].signature if score["protocol"] in PROTOCOLS else score["protocol"]
    text = (
        f"Corpus {first.results['corpus']}, split {score['split']}, protocol {score['protocol']} ({signature}): "
        f"{score['utterances']:,} utterances, {score['reference_tokens']:,} reference tokens. Rates in %; the interval "
        "of the WER is that of 95 % "
    )
    text += "(seeds and utterances drawn anew)." if several else "(utterances drawn anew)."
    if several:
        text += " Of several seeds: means, +- the standard deviation over them, errors summed."
    text += _about_tests(systems, baseline) if baseline is not None else ""
    if any(len(system.runs) == 1 for system in systems):
        text += " A single seed a run: the chance of the seed is not in these intervals" + (
            " and p-values." if baseline is not None else "."
        )
    return text


def _about_tests(systems: Sequence[System], baseline: str) -> str:
    differences = [system.difference for system in systems if system.difference]
    matched = [difference.matched for difference in differences if difference.matched]
    count = sum(difference.bootstrap is not None for difference in differences)
    text = (
        f" Changes and tests are against {baseline}, decoded alike: change of the WER relative to the baseline's; "
        "p (bootstrap) by the paired bootstrap of utterances (5,000 draws, Student's t); p (matched pairs) by MAPSSWE "
        f"over segments (normal distribution); both two-sided and Holm's, for {count} "
        f"comparison{'' if count == 1 else 's'}."
    )
    if any(test.segments < FEW_SEGMENTS for test in matched):
        text += f" With fewer than {FEW_SEGMENTS} segments the normal distribution is rough."
    if any(difference.bootstrap is None for difference in differences):
        text += " Without a test: lines whose predictions are not there."
    if any(difference.matched is None and difference.bootstrap for difference in differences):
        text += " Matched pairs are of single runs, not of several seeds."
    return text


# -- tables for people -----------------------------------------------------------------------------------------


def _run_table(systems: Sequence[System], tested: bool) -> Table:
    several, with_lm = any(len(s.runs) > 1 for s in systems), any(s.runs[0].score["lm"] for s in systems)
    header = ["run", "model", "parameters", "MB", "teachers", "aggregation", "decoder"]
    header += ["LM"] * with_lm + ["seeds"] * several + ["WER"] + ["+-"] * several
    header += ["95 % interval", "WRA", "S / D / I"]
    header += ["change %", "p (bootstrap)", "p (matched pairs)", "segments"] * tested
    words = {"run", "model", "teachers", "aggregation", "decoder", "LM"}
    cells = [_cells(system, several, with_lm, tested) for system in systems]
    return Table(header, cells, [name not in words for name in header])


def _cells(system: System, several: bool, with_lm: bool, tested: bool) -> list[str]:
    run = system.runs[0]
    model, spread = run.results["model"], system.spread("wer")
    cells = [system.name, model["type"], f"{model['parameters']:,}", f"{model['bytes'] / 1e6:.2f}"]
    cells += [shown_teachers(run.results), run.aggregation or NOTHING, run.score["decoder"]]
    cells += [run.decoding[1] or NOTHING] * with_lm + [str(len(system.runs))] * several + [percent(system.mean("wer"))]
    cells += [NOTHING if spread is None else percent(spread)] * several
    cells += [shown_range(system.interval) if system.interval else NOTHING, percent(system.mean("wra"))]
    cells.append(" / ".join(map(str, system.counts())))
    return cells + (_test_cells(system) if tested else [])


def _test_cells(system: System) -> list[str]:
    found = system.difference
    if found is None:
        return [NOTHING] * 4
    change = NOTHING if found.relative is None else f"{100 * found.relative:+.1f}"
    segments = str(found.matched.segments) if found.matched else NOTHING
    return [change, shown_p(found.bootstrap_holm), shown_p(found.matched_holm), segments]


def _groups(systems: Sequence[System]) -> dict[str, str]:
    """The groupings that every run knows, with the same groups."""
    found = {}
    for key, title in GROUPS.items():
        names = [set(run.score.get(key) or ()) for system in systems for run in system.runs]
        if names[0] and all(other == names[0] for other in names):
            found[key] = title
    return found


def _group_table(systems: Sequence[System], key: str) -> Table:
    """A line a group, a column a system."""
    groups: dict[str, Any] = systems[0].runs[0].score[key]
    cells = []
    for name in sorted(groups):
        rates = [(system.group(key, name, "wer"), system.group(key, name, "wra")) for system in systems]
        shown = [f"{percent(wer)} ({percent(wra)})" for wer, wra in rates]
        cells.append([name, f"{groups[name]['reference_tokens']:,}", *shown])
    header = [key.removeprefix("by_"), "tokens", *(column_name(system, systems) for system in systems)]
    return Table(header, cells, [False] + [True] * (len(systems) + 1))


def column_name(system: System, systems: Sequence[System]) -> str:
    """A system's name, with its decoder where the systems have several."""
    decoder, lm = system.runs[0].decoding
    several = len({other.runs[0].decoding for other in systems}) > 1
    return f"{system.name}{f', {decoder}' if several else ''}{f' + {lm}' if lm else ''}"


# -- figures for programs --------------------------------------------------------------------------------------


def _record(system: System) -> dict[str, Any]:
    """One line of the CSV file: rates as fractions, unrounded."""
    run, (low, high) = system.runs[0], system.interval or (None, None)
    model, score = run.results["model"], run.score
    found: dict[str, Any] = {
        "run": system.name, "recipe": run.results["recipe"], "corpus": run.results["corpus"],
        "seeds": " ".join(str(member.results["seed"]) for member in system.runs), "model": model["type"],
        "parameters": model["parameters"], "bytes": model["bytes"],
        "teachers": " ".join(teacher_names(run.results)), "aggregation": run.aggregation or "",
        "split": score["split"], "decoder": score["decoder"], "lm": score["lm"] or "", "protocol": score["protocol"],
        "wer": system.mean("wer"), "wer_seed_sd": system.spread("wer"), "wer_ci95_low": low, "wer_ci95_high": high,
        "wra": system.mean("wra"), "wra_seed_sd": system.spread("wra"),
        **dict(zip(COUNTS, system.counts(), strict=True)), "reference_tokens": score["reference_tokens"],
        "utterances": score["utterances"],
    }  # fmt: skip
    found |= _test_record(system)
    for key in GROUPS:
        for name in sorted(set.intersection(*(set(member.score.get(key) or ()) for member in system.runs))):
            found |= {f"{key}/{name}/{rate}": system.group(key, name, rate) for rate in ("wer", "wra")}
    return found


def _test_record(system: System) -> dict[str, Any]:
    difference = system.difference
    if difference is None:
        return {}
    found: dict[str, Any] = {"relative_change": difference.relative}
    if bootstrap := difference.bootstrap:
        low, high = bootstrap.interval
        found |= {"difference": bootstrap.value, "difference_ci95_low": low, "difference_ci95_high": high}
        found |= {"p_bootstrap": bootstrap.p_value, "p_bootstrap_holm": difference.bootstrap_holm}
    if matched := difference.matched:
        found |= {"segments": matched.segments, "z_matched_pairs": matched.statistic}
        found |= {"p_matched_pairs": matched.p_value, "p_matched_pairs_holm": difference.matched_holm}
    return found


def _content(systems: Sequence[System]) -> list[dict[str, Any]]:
    """Every figure of every system, and the entries of results.json that they were made of, as they stand there."""
    return [
        {
            "name": system.name,
            "decoder": system.runs[0].score["decoder"],
            "wer": {"mean": system.mean("wer"), "sd": system.spread("wer"), "ci95": system.interval},
            "wra": {"mean": system.mean("wra"), "sd": system.spread("wra")},
            "difference": _finite(asdict(system.difference)) if system.difference else None,
            "runs": [
                {"folder": str(run.folder.path), "name": run.results["name"], "seed": run.results["seed"],
                 "model": run.results["model"], "teachers": run.results["teachers"], "score": run.score}
                for run in system.runs
            ],
        }
        for system in systems
    ]  # fmt: skip


def _finite(figures: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity (the degrees of freedom where nothing varies): null stands for it."""
    found = {key: _finite(value) if isinstance(value, dict) else value for key, value in figures.items()}
    return {key: None if value in (math.inf, -math.inf) else value for key, value in found.items()}
