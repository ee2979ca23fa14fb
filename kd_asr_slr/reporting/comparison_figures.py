"""The figures of a comparison, for programs: unrounded, a line of CSV a run, and JSON with all that they came from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from kd_asr_slr.reporting.comparison_tables import GROUPS
from kd_asr_slr.reporting.lines import Line
from kd_asr_slr.reporting.systems import COUNTS, System
from kd_asr_slr.reporting.tables import teacher_names


def record(line: Line, decodings: Sequence[str]) -> dict[str, Any]:
    """One line of the CSV file: rates as fractions; a decoder's columns start with its name, as "beam/wer"."""
    run = line.first.runs[0]
    model, score = run.results["model"], run.score
    found: dict[str, Any] = {
        "run": line.name, "recipe": run.results["recipe"], "corpus": run.results["corpus"],
        "seeds": " ".join(str(member.results["seed"]) for member in line.first.runs), "model": model["type"],
        "parameters": model["parameters"], "bytes": model["bytes"],
        "teachers": " ".join(teacher_names(run.results)), "aggregation": run.aggregation or "",
        "split": score["split"], "protocol": score["protocol"], "reference_tokens": score["reference_tokens"],
        "utterances": score["utterances"],
    }  # fmt: skip
    for name in decodings:
        if name in line.systems:
            found |= {f"{name}/{key}": value for key, value in _rates(line.systems[name]).items()}
    return found


def contents(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Every figure of every line, and the entries of results.json that they were made of, as they stand there."""
    return [
        {"name": line.name, "decoders": {name: _content(system) for name, system in line.systems.items()}}
        for line in lines
    ]


# -- inside ----------------------------------------------------------------------------------------------------


def _rates(system: System) -> dict[str, Any]:
    low, high = system.interval or (None, None)
    found: dict[str, Any] = {
        "runs": len(system.runs), "lm": system.runs[0].score["lm"] or "",
        "wer": system.mean("wer"), "wer_seed_sd": system.spread("wer"), "wer_ci95_low": low, "wer_ci95_high": high,
        "wra": system.mean("wra"), "wra_seed_sd": system.spread("wra"),
        **dict(zip(COUNTS, system.counts(), strict=True)),
    }  # fmt: skip
    found |= _tests(system)
    for key in GROUPS:
        for name in sorted(set.intersection(*(set(member.score.get(key) or ()) for member in system.runs))):
            found |= {f"{key}/{name}/{rate}": system.group(key, name, rate) for rate in ("wer", "wra")}
    return found


def _tests(system: System) -> dict[str, Any]:
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


def _content(system: System) -> dict[str, Any]:
    return {
        "wer": {"mean": system.mean("wer"), "sd": system.spread("wer"), "ci95": system.interval},
        "wra": {"mean": system.mean("wra"), "sd": system.spread("wra")},
        "difference": _finite(asdict(system.difference)) if system.difference else None,
        "runs": [
            {"folder": str(run.folder.path), "name": run.results["name"], "seed": run.results["seed"],
             "model": run.results["model"], "teachers": run.results["teachers"], "score": run.score}
            for run in system.runs
        ],
    }  # fmt: skip


def _finite(figures: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity (the degrees of freedom where nothing varies): null stands for it."""
    found = {key: _finite(value) if isinstance(value, dict) else value for key, value in figures.items()}
    return {key: None if value in (math.inf, -math.inf) else value for key, value in found.items()}
