"""Runs as a comparison reads them: scores, predictions, and what keeps two of them from standing in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.reporting.results_schema import RATE_TOLERANCE
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.reporting.tables import aggregation_of, scores_of
from kd_asr_slr.scoring.alignment import UtteranceCounts
from kd_asr_slr.scoring.predictions import Prediction, listed
from kd_asr_slr.scoring.protocols import PROTOCOLS, get_protocol
from kd_asr_slr.scoring.rates import wer
from kd_asr_slr.scoring.score import count_rows

Rows = list[Prediction]


@dataclass(frozen=True)
class ScoredRun:
    """A run and one of its scores.

    Args:
        folder: the run folder.
        label: the run's name; with its folder where two runs share one.
        results: its results.json.
        score: the entry of `scores`.
        aggregation: of its teachers, or None.
        rows: its predictions; None where there are none that belong to this score.
    """

    folder: RunFolder
    label: str
    results: dict[str, Any]
    score: dict[str, Any]
    aggregation: str | None
    rows: Rows | None

    @property
    def decoding(self) -> str:
        """What it was decoded with, the language model by its file's name: "greedy", "beam + 4gram.arpa"."""
        return self.score["decoder"] + (f" + {Path(self.score['lm']).name}" if self.score["lm"] else "")


def read_scored(
    runs: Iterable[RunFolder | str | Path], split: str, decoder: str | None = None, protocol: str | None = None
) -> list[ScoredRun]:
    """Read runs that may stand in one table.

    Args:
        runs: run folders.
        split: the split that was scored.
        decoder: the decoder that was used; None: every one.
        protocol: which protocol, where runs were scored with several.

    Raises:
        UserError: where there is no run, a run has no such score, its predictions have another WER than its results, or
            runs were scored on different corpora, utterances or vocabularies, or with different protocols; both sides
            are named.
    """
    folders = [run if isinstance(run, RunFolder) else RunFolder(run) for run in runs]
    if not folders:
        raise UserError("there are no runs to compare", expected="at least one run folder", fix="name the run folders")
    places = [folder.path.resolve() for folder in folders]
    read: list[tuple[Any, ...]] = []
    problems = [f"{place} is named twice" for place in dict.fromkeys(places) if places.count(place) > 1]
    for folder in folders:  # every broken folder is named, not only the first
        try:
            results = folder.read_results()
            scores = scores_of(folder, results, split, decoder, protocol)
            rows = [predictions_of(folder, results, score) for score in scores]
            read.append((folder, results, aggregation_of(results, folder.config()), scores, rows))
        except UserError as error:
            problems.append(str(error))
    raise_all(problems, "the comparison")
    names = [results["name"] for _, results, *_ in read]
    found = [
        ScoredRun(folder, _label(folder, results["name"], names), results, score, aggregation, predictions)
        for folder, results, aggregation, scores, rows in read
        for score, predictions in zip(scores, rows, strict=True)
    ]
    raise_all(incomparable(found), "these runs cannot be compared")
    return found


def predictions_of(folder: RunFolder, results: dict[str, Any], score: dict[str, Any]) -> Rows | None:
    """The predictions that a score was counted on; None where there are none, or they are of another language model.

    Raises:
        UserError: where they are there, of this score alone, and have another WER.
    """
    if not folder.predictions_path(score["split"], score["decoder"]).is_file():
        return None
    rows = folder.read_predictions(score["split"], score["decoder"])
    if score["protocol"] not in PROTOCOLS:
        return None
    decoded = [entry for entry in results["scores"] if all(entry[key] == score[key] for key in ("split", "decoder"))]
    try:
        counted(folder, rows, score)
    except UserError:
        if len({entry["lm"] for entry in decoded}) > 1:  # the file is of the language model that was scored last
            return None
        raise
    return rows


def counted(folder: RunFolder, rows: Sequence[Mapping[str, Any]], score: Mapping[str, Any]) -> list[UtteranceCounts]:
    """The errors of predictions by the protocol of a score that says what they must sum to.

    Raises:
        UserError: where they have another WER, or are not as many.
    """
    counts = count_rows(rows, get_protocol(score["protocol"]), score["split"])
    if abs(wer(counts) - score["wer"]) <= RATE_TOLERANCE and len(rows) == score["utterances"]:
        return counts
    raise UserError(
        f"{folder.path}: its predictions ({len(rows)} utterances) have a WER of {wer(counts):.4f}, its results.json "
        f"({score['utterances']}) {score['wer']:.4f}",
        expected="the same",
        fix=f"score it again: recipes/score.py --run {folder.path} --split {score['split']} "
        f"--decoder {score['decoder']}",
    )


def incomparable(runs: Sequence[ScoredRun]) -> list[str]:
    """In what a run differs from the first one so that their rates may not stand in one table."""
    first, problems = runs[0], []
    with_labels = [run for run in runs if "vocabulary" in run.results]
    for run in runs[1:]:
        for what, value in _CONDITIONS:
            theirs, ours = value(first), value(run)
            if theirs != ours:
                problems.append(f"{first.label} was scored with {what} {theirs}, {run.label} with {ours}")
                break  # what follows from the first difference is not worth a line
        else:
            problems += _other_labels(with_labels[0], run) if run in with_labels else []
            problems += _other_utterances(first, run)
    return list(dict.fromkeys(problems))


# -- inside ----------------------------------------------------------------------------------------------------


def _speakers(run: ScoredRun) -> str:
    rates = run.score["by_speaker"].items()
    return ", ".join(f"{name} ({values['reference_tokens']})" for name, values in sorted(rates))


_CONDITIONS: tuple[tuple[str, Callable[[ScoredRun], Any]], ...] = (
    ("corpus", lambda run: run.results["corpus"]),
    ("split", lambda run: run.score["split"]),
    ("protocol", lambda run: run.score["protocol"]),
    ("number of utterances", lambda run: run.score["utterances"]),
    ("number of reference tokens", lambda run: run.score["reference_tokens"]),
    ("speakers", _speakers),
)


def _other_labels(first: ScoredRun, run: ScoredRun) -> list[str]:
    theirs, ours = (f"{r['fingerprint']} ({r['size']} labels)" for r in (_labels(first), _labels(run)))
    return [] if theirs == ours else [f"{first.label} has the vocabulary {theirs}, {run.label} {ours}"]


def _labels(run: ScoredRun) -> dict[str, Any]:
    return run.results["vocabulary"]


def _other_utterances(first: ScoredRun, run: ScoredRun) -> list[str]:
    """The same numbers of utterances may still be others, or have other references."""
    if first.rows is None or run.rows is None:
        return []
    theirs, ours = ({row["id"]: row["reference"] for row in rows} for rows in (first.rows, run.rows))
    if other := sorted(theirs.keys() ^ ours.keys()):
        return [f"{first.label} and {run.label} were scored on different utterances: {listed(other)}"]
    other = sorted(name for name, text in theirs.items() if ours[name] != text)
    return [f"{first.label} and {run.label} have different references of: {listed(other)}"] if other else []


def _label(folder: RunFolder, name: str, names: Sequence[str]) -> str:
    return name if names.count(name) == 1 else f"{name} ({folder.path})"
