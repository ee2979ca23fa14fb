"""Runs `<row>-<fold>-seed<N>` read for a table over folds: joined by utterance, refused where they do not compare."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.reporting.scored_runs import counted
from kd_asr_slr.reporting.tables import aggregation_of, scores_of
from kd_asr_slr.scoring.predictions import listed
from kd_asr_slr.scoring.significance import Outcomes, joined, stacked

NAME = re.compile(r"^(?P<row>.+)-(?P<fold>[^-]+)-seed(?P<seed>\d+)$")
METRICS = ("wra", "wer")

Errors = dict[str, tuple[int, int]]  # id -> (errors, what they are divided by)


@dataclass(frozen=True)
class FoldRun:
    """One run: its place in the table, its results, and its errors on every utterance.

    Args:
        path: the run folder.
        row, fold, seed: as the folder's name says.
        results: its results.json.
        score: the entry of `scores` that is compared.
        aggregation: of its teachers, or None.
        errors: by metric, id -> (errors, weight); for "wra", the error of an inexact utterance is 1.
        units: id -> the utterance, which several recordings may share.
    """

    path: Path
    row: str
    fold: str
    seed: int
    results: dict[str, Any]
    score: dict[str, Any]
    aggregation: str | None
    errors: dict[str, Errors]
    units: dict[str, str]


@dataclass(frozen=True)
class FoldRow:
    """One line of the table: the runs of every fold, and what they did, joined with all other rows of the fold.

    Args:
        name: of the row.
        runs: fold -> runs, in the order of their seeds.
        outcomes: metric -> fold -> errors [S, N].
        chosen: fold -> the row that was best there; only for a row that `oracle` made.
    """

    name: str
    runs: dict[str, list[FoldRun]]
    outcomes: dict[str, dict[str, Outcomes]]
    chosen: dict[str, str] | None = None

    def rate(self, metric: str, fold: str) -> float:
        """The mean rate over the seeds of a fold; WRA as a share that is right."""
        rate = self.outcomes[metric][fold].rate
        return 1.0 - rate if metric == "wra" else rate


def place_of(path: str | Path) -> tuple[str, str, int] | None:
    """Row, fold and seed by a run folder's name; those of the folder above it, for runs inside of such a folder.

    Example:
        >>> place_of("runs/kd-route-theo-seed2"), place_of("runs/teachers-theo-seed1/jackson")
        (('kd-route', 'theo', 2), ('teachers/jackson', 'theo', 1))
    """
    folder = Path(path).resolve()
    if own := NAME.match(folder.name):
        return own["row"], own["fold"], int(own["seed"])
    if above := NAME.match(folder.parent.name):
        return f"{above['row']}/{folder.name}", above["fold"], int(above["seed"])
    return None


def _with_adapted(runs: Iterable[RunFolder | str | Path]) -> list[RunFolder]:
    """The run folders; for a folder of adapted teachers, the runs in it."""
    folders = []
    for run in runs:
        folder = run if isinstance(run, RunFolder) else RunFolder(run)
        inside = [] if folder.exists else sorted(path.parent for path in folder.path.glob("*/run.json"))
        folders += [RunFolder(path) for path in inside] or [folder]
    return folders


def read_rows(
    runs: Iterable[RunFolder | str | Path],
    split: str = "test",
    decoder: str = "greedy",
    protocol: str | None = None,
    oracle: str | None = None,
    metric: str = "wra",
) -> list[FoldRow]:
    """Read runs and arrange them as rows, in the order in which the rows first occur.

    Args:
        runs: run folders named `<row>-<fold>-seed<N>`, or folders of adapted teachers.
        split: the split that was scored.
        decoder: the decoder that was used.
        protocol: which protocol, where runs were scored with several.
        oracle: pattern of rows (`teacher-*`); they become one row that takes, in every fold, the one that is best on
            the test utterances themselves: a bar to beat, no system.
        metric: by which the oracle chooses.

    Raises:
        UserError: for folders without a result, names that do not fit, rows without a fold, and runs of different
            corpora, protocols, vocabularies or utterances; both sides are named.
    """
    read, problems = [], []
    for folder in _with_adapted(runs):
        try:
            read.append(_read(folder, split, decoder, protocol))
        except UserError as error:
            problems.append(str(error))
    raise_all(problems or ([] if read else ["there are no runs"]), "the table over folds")
    folds = list(dict.fromkeys(run.fold for run in read))
    by_fold = {fold: [run for run in read if run.fold == fold] for fold in folds}
    raise_all(_disagreements(read, by_fold), "these runs cannot be folded")
    rows = _arranged(by_fold)
    if oracle is not None:
        rows = _with_oracle(rows, folds, oracle, metric)
    raise_all(_holes(rows, folds), "the table over folds")
    return rows


# -- inside ----------------------------------------------------------------------------------------------------


def _read(folder: RunFolder, split: str, decoder: str, protocol: str | None) -> FoldRun:
    place = place_of(folder.path)
    if place is None:
        raise UserError(
            f"{folder.path} is no name of a run in a table over folds",
            expected="<row>-<held-out speaker>-seed<N>, such as kd-route-theo-seed1",
            fix="name the output folders so",
        )
    results = folder.read_results()
    scores = scores_of(folder, results, split, decoder, protocol)
    if len(scores) > 1:
        models = ", ".join(str(score["lm"]) for score in scores)
        raise UserError(f"{folder.path} has scores with several language models ({models})", expected="one of them")
    row, fold, seed = place
    if results["seed"] != seed:
        raise UserError(f"{folder.path} was run with seed {results['seed']}", expected=f"seed {seed} as its name says")
    predictions = folder.read_predictions(split, decoder)
    counts = counted(folder, predictions, scores[0])
    ids = [prediction["id"] for prediction in predictions]
    errors: dict[str, Errors] = {
        "wra": {name: (int(count.errors > 0), 1) for name, count in zip(ids, counts, strict=True)},
        "wer": {name: (count.errors, count.reference_tokens) for name, count in zip(ids, counts, strict=True)},
    }
    units = {prediction["id"]: str(prediction.get("utterance") or prediction["id"]) for prediction in predictions}
    aggregation = aggregation_of(results, folder.config())
    return FoldRun(folder.path, row, fold, seed, results, scores[0], aggregation, errors, units)


def _disagreements(runs: Sequence[FoldRun], by_fold: dict[str, list[FoldRun]]) -> list[str]:
    """In what runs differ so that their rates may not stand in one table; one sentence a kind, naming two of them."""
    found = _first_difference(runs, "corpus", lambda run: run.results["corpus"])
    found += _first_difference(runs, "protocol", lambda run: run.score["protocol"])
    for part in by_fold.values():
        with_labels = [run for run in part if "vocabulary" in run.results]
        found += _first_difference(with_labels, "vocabulary", lambda run: _shown(run.results["vocabulary"]))
        found += _other_utterances(part)
        places: dict[tuple[str, int], FoldRun] = {}
        for run in part:
            if (other := places.setdefault((run.row, run.seed), run)) is not run:
                found.append(f"{other.path} and {run.path} are both row {run.row}, fold {run.fold}, seed {run.seed}")
    return found


def _first_difference(runs: Sequence[FoldRun], what: str, value: Any) -> list[str]:
    other = next((run for run in runs if value(run) != value(runs[0])), None)
    if other is None:
        return []
    return [f"{runs[0].path} was scored with {what} {value(runs[0])}, {other.path} with {value(other)}"]


def _other_utterances(part: Sequence[FoldRun]) -> list[str]:
    ids = part[0].errors["wer"].keys()
    for run in part:
        if other := sorted(ids ^ run.errors["wer"].keys()):
            return [f"{part[0].path} and {run.path} were scored on different utterances: {listed(other)}"]
    return []


def _shown(vocabulary: dict[str, Any]) -> str:
    return f"{vocabulary['fingerprint']} ({vocabulary['size']} labels)"


def _arranged(by_fold: dict[str, list[FoldRun]]) -> list[FoldRow]:
    """Every row with its outcomes, in every fold joined with all other rows."""
    names = list(dict.fromkeys(run.row for part in by_fold.values() for run in part))
    rows = [FoldRow(name, {}, {metric: {} for metric in METRICS}) for name in names]
    for fold, part in by_fold.items():
        paths = [str(run.path) for run in part]
        for metric in METRICS:
            outcomes = joined([run.errors[metric] for run in part], paths, part[0].units)
            for row in rows:
                own = [(run.seed, index) for index, run in enumerate(part) if run.row == row.name]
                if own:
                    row.runs[fold] = [part[index] for _, index in sorted(own)]
                    row.outcomes[metric][fold] = stacked([outcomes[index] for _, index in sorted(own)])
    return rows


def _with_oracle(rows: list[FoldRow], folds: Sequence[str], pattern: str, metric: str) -> list[FoldRow]:
    """The rows of the pattern replaced by the best of them in every fold."""
    candidates = [row for row in rows if fnmatchcase(row.name, pattern)]
    if not candidates:
        raise UserError(f"no row is called '{pattern}'", expected=f"one of {', '.join(row.name for row in rows)}")
    chosen = {}
    for fold in folds:
        there = [row for row in candidates if fold in row.runs]
        if there:
            chosen[fold] = there[int(np.argmin([row.outcomes[metric][fold].rate for row in there]))]
    best = FoldRow(
        f"best of {pattern} (oracle)",
        {fold: row.runs[fold] for fold, row in chosen.items()},
        {name: {fold: row.outcomes[name][fold] for fold, row in chosen.items()} for name in METRICS},
        {fold: row.name for fold, row in chosen.items()},
    )
    return [best, *(row for row in rows if row not in candidates)]


def _holes(rows: Sequence[FoldRow], folds: Sequence[str]) -> list[str]:
    return [
        f"row {row.name} has no run of fold {', '.join(fold for fold in folds if fold not in row.runs)}; "
        f"expected one for each of {', '.join(folds)}"
        for row in rows
        if any(fold not in row.runs for fold in folds)
    ]
