"""Runs that differ in their seed only, folded into one line: mean, spread, and every single value."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.reporting.tables import NOTHING, markdown_table, percent

SEED_SUFFIX = re.compile(r"-seed\d+$")
HEADER = ["run", "decoder", "parameters", "seeds", "WER", "+-", "single runs", "WRA", "S / D / I", "tokens"]
NUMERIC = [False, False, True, True, True, True, False, True, True, True]


def seed_table(runs: Iterable[RunFolder | str | Path], split: str = "test") -> str:
    """One line for every group of runs `<name>-seed<N>` and decoder, in the order of the runs.

    Args:
        runs: run folders; a folder without the suffix is a group of one.
        split: the split that was scored.

    Returns:
        Markdown: the mean WER in percent, its standard deviation over seeds, the single values, the mean WRA, and the
        errors summed over seeds.

    Raises:
        UserError: where a folder has no score of the split, two runs of a group share a seed, or the runs were scored
            on different corpora or by different protocols.

    Example:
        >>> print(seed_table(["runs/student-seed1", "runs/student-seed2", "runs/student-seed3"]))
    """
    groups: dict[tuple[str, str], list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    problems = []
    for run in runs:
        folder = run if isinstance(run, RunFolder) else RunFolder(run)
        results = folder.read_results()
        scores = [score for score in results["scores"] if score["split"] == split]
        if not scores:
            problems.append(f"{folder.path} has no score of split {split}")
        for score in scores:
            groups.setdefault((SEED_SUFFIX.sub("", results["name"]), _decoder(score)), []).append((results, score))
    raise_all(problems + _disagreements(groups), "these runs cannot be folded")
    if not groups:
        raise UserError("there are no runs to fold", expected="run folders", fix="name them")
    return markdown_table(HEADER, [_line(*key, members) for key, members in groups.items()], NUMERIC)


def _decoder(score: dict[str, Any]) -> str:
    return score["decoder"] + (f" + {Path(score['lm']).name}" if score["lm"] else "")


def _disagreements(groups: dict[tuple[str, str], list[tuple[dict[str, Any], dict[str, Any]]]]) -> list[str]:
    found = []
    everything = [member for members in groups.values() for member in members]
    for what, values in (
        ("corpora", {results["corpus"] for results, _ in everything}),
        ("protocols", {score["protocol"] for _, score in everything}),
        ("numbers of reference tokens", {score["reference_tokens"] for _, score in everything}),
    ):
        if len(values) > 1:
            found.append(f"they have different {what}: {', '.join(map(str, sorted(values)))}")
    for (name, decoder), members in groups.items():
        seeds = [results["seed"] for results, _ in members]
        if len(set(seeds)) < len(seeds):
            found.append(f"{name} ({decoder}) has the seeds {seeds}; expected each once")
    return found


def _line(name: str, decoder: str, members: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[str]:
    rates = [score["wer"] for _, score in members]
    errors = [sum(score[kind] for _, score in members) for kind in ("substitutions", "deletions", "insertions")]
    return [
        *(name, decoder, f"{members[0][0]['model']['parameters']:,}", str(len(members))),
        *(percent(mean(rates)), percent(stdev(rates)) if len(rates) > 1 else NOTHING),
        " ".join(percent(rate) for rate in rates),
        percent(mean(score["wra"] for _, score in members)),
        *(" / ".join(map(str, errors)), f"{members[0][1]['reference_tokens']:,}"),
    ]
