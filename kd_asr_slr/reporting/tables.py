"""Comparison tables of runs, made from run folders only: Markdown that aligns in a terminal, and CSV."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.reporting.run_folder import RunFolder

NOTHING = "-"
MAX_TEACHERS = 3


@dataclass(frozen=True)
class Row:
    """One line of a comparison: a run and one of its scores."""

    label: str
    results: dict[str, Any]
    score: dict[str, Any]
    aggregation: str


def comparison_table(
    runs: Iterable[RunFolder | str | Path],
    split: str = "test",
    decoder: str = "greedy",
    protocol: str | None = None,
) -> str:
    """Compare runs on one split: a table of the runs, then one of the speakers, as Markdown.

    Args:
        runs: run folders; a run with several language models has a line for each.
        split: the split that was scored.
        decoder: the decoder that was used.
        protocol: which protocol, where runs were scored with several.

    Returns:
        Markdown whose columns align in a terminal. Rates are in percent, rounded to two decimals.

    Raises:
        UserError: where there is no run, a run has no such score, or runs were scored on different corpora,
            with different protocols, or on different utterances; both sides are named.

    Example:
        >>> print(comparison_table(["runs/baseline", "runs/student"], split="test"))
    """
    rows = _rows(runs, split, decoder, protocol)
    first = rows[0]
    caption = (
        f"Corpus {first.results['corpus']}, split {split}, decoder {decoder}, protocol {first.score['protocol']}: "
        f"{first.score['utterances']:,} utterances, {first.score['reference_tokens']:,} reference tokens. "
        "Rates in %, WER with its 95 % interval."
    )
    blocks = [caption, markdown_table(*run_columns(rows))]
    if any(row.score["by_speaker"] for row in rows):
        blocks += ["By speaker, WER % (WRA %):", markdown_table(*speaker_columns(rows))]
    return "\n\n".join(blocks) + "\n"


def comparison_csv(
    runs: Iterable[RunFolder | str | Path],
    split: str = "test",
    decoder: str = "greedy",
    protocol: str | None = None,
) -> str:
    """The table of the runs as CSV, one line a score, rates as fractions and unrounded; see `comparison_table`."""
    keys = ("wer", "wra", "substitutions", "deletions", "insertions", "reference_tokens", "utterances")
    lines = []
    for row in _rows(runs, split, decoder, protocol):
        results, score = row.results, row.score
        low, high = score["wer_ci95"]
        lines.append({
            "run": row.label, "recipe": results["recipe"], "corpus": results["corpus"], "seed": results["seed"],
            "model": results["model"]["type"], "parameters": results["model"]["parameters"],
            "bytes": results["model"]["bytes"], "teachers": " ".join(teacher_names(results)),
            "aggregation": row.aggregation if row.aggregation != NOTHING else "",
            "split": split, "decoder": decoder, "lm": score["lm"] or "", "protocol": score["protocol"],
            **{key: score[key] for key in keys}, "wer_ci95_low": low, "wer_ci95_high": high,
        })  # fmt: skip
    return csv_text(lines)


def speakers_csv(
    runs: Iterable[RunFolder | str | Path],
    split: str = "test",
    decoder: str = "greedy",
    protocol: str | None = None,
) -> str:
    """The table of the speakers as CSV, one line a run and speaker, unrounded; see `comparison_table`."""
    lines = [
        {"run": row.label, "lm": row.score["lm"] or "", "speaker": speaker, **{key: rates[key] for key in rates}}
        for row in _rows(runs, split, decoder, protocol)
        for speaker, rates in sorted(row.score["by_speaker"].items())
    ]
    return csv_text(lines)


def run_columns(rows: Sequence[Row]) -> tuple[list[str], list[list[str]], list[bool]]:
    """Header, cells and which columns are numbers, of the table of the runs."""
    with_lm = any(row.score["lm"] for row in rows)
    header = ["run", "model", "parameters", "MB", "teachers", "aggregation"]
    header += ["LM"] * with_lm + ["WER", "95 % interval", "WRA", "S / D / I"]
    numeric = [False, False, True, True, False, False] + [False] * with_lm + [True] * 4
    cells = []
    for row in rows:
        model, score = row.results["model"], row.score
        cells.append(
            [row.label, model["type"], f"{model['parameters']:,}", f"{model['bytes'] / 1e6:.2f}"]
            + [shown_teachers(row.results), row.aggregation]
            + [Path(score["lm"]).name if score["lm"] else NOTHING] * with_lm
            + [percent(score["wer"]), shown_interval(score), percent(score["wra"]), shown_counts(score)]
        )
    return header, cells, numeric


def speaker_columns(rows: Sequence[Row]) -> tuple[list[str], list[list[str]], list[bool]]:
    """Header, cells and which columns are numbers, of the table of the speakers: a line each, a column a run."""
    header = ["speaker", "tokens"] + [_with_lm(row) for row in rows]
    cells = []
    for speaker in sorted(rows[0].score["by_speaker"]):
        line = [speaker, f"{rows[0].score['by_speaker'][speaker]['reference_tokens']:,}"]
        for row in rows:
            rates = row.score["by_speaker"][speaker]
            line.append(f"{percent(rates['wer'])} ({percent(rates['wra'])})")
        cells.append(line)
    return header, cells, [False] + [True] * (len(rows) + 1)


def markdown_table(header: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    """A Markdown table, padded so that its columns align in a terminal too.

    Args:
        header: the columns' names.
        cells: one sequence of texts a line.
        numeric: which columns are right-aligned.
    """
    lines = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in [header, *cells]]
    widths = [max(3, *(_width(line[column]) for line in lines)) for column in range(len(header))]
    rule = ["-" * (width - 1) + ":" if right else "-" * width for width, right in zip(widths, numeric, strict=True)]
    padded = [[_pad(cell, *form) for cell, *form in zip(line, widths, numeric, strict=True)] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in [padded[0], rule, *padded[1:]])


def percent(rate: float) -> str:
    """0.48413 -> "48.41"."""
    return f"{100 * rate:.2f}"


def shown_interval(score: dict[str, Any]) -> str:
    """The 95 % interval of the WER: "46.90 to 49.82"."""
    low, high = score["wer_ci95"]
    return f"{percent(low)} to {percent(high)}"


def shown_counts(score: dict[str, Any]) -> str:
    """Substitutions, deletions, insertions: "710 / 538 / 175"."""
    return f"{score['substitutions']} / {score['deletions']} / {score['insertions']}"


def teacher_names(results: dict[str, Any]) -> list[str]:
    """The names of a run's teachers."""
    return [teacher if isinstance(teacher, str) else teacher["name"] for teacher in results["teachers"]]


def aggregation_of(results: dict[str, Any], config: dict[str, Any]) -> str | None:
    """The name of the aggregation of a run's teachers: as its results say, else its config; None without teachers."""
    if not results["teachers"]:
        return None
    aggregation = results.get("aggregation") or config.get("aggregation")
    return aggregation["name"] if isinstance(aggregation, dict) else aggregation


def shown_teachers(results: dict[str, Any]) -> str:
    """The teachers' names, or their number and the first of them where they are many."""
    names = teacher_names(results)
    if len(names) > MAX_TEACHERS:
        return f"{len(names)} ({names[0]}, ...)"
    return ", ".join(names) or NOTHING


# -- inside ----------------------------------------------------------------------------------------------------


def _rows(runs: Iterable[RunFolder | str | Path], split: str, decoder: str, protocol: str | None) -> list[Row]:
    folders = [run if isinstance(run, RunFolder) else RunFolder(run) for run in runs]
    if not folders:
        raise UserError("there are no runs to compare", expected="at least one run folder", fix="name the run folders")
    read, problems = [], []
    for folder in folders:  # every broken folder is named, not only the first
        try:
            results = folder.read_results()
            aggregation = aggregation_of(results, folder.config()) or NOTHING
            read.append((folder, results, scores_of(folder, results, split, decoder, protocol), aggregation))
        except UserError as error:
            problems.append(str(error))
    raise_all(problems, "the comparison")
    labels = _labels([(folder, results["name"]) for folder, results, _, _ in read])
    rows = [
        Row(label, results, score, aggregation)
        for label, (_, results, scores, aggregation) in zip(labels, read, strict=True)
        for score in scores
    ]
    raise_all(_incomparable(rows), "these runs cannot be compared")
    return rows


def scores_of(
    folder: RunFolder, results: dict[str, Any], split: str, decoder: str, protocol: str | None
) -> list[dict[str, Any]]:
    """The scores asked for; several only where they differ in their language model."""
    found = [score for score in results["scores"] if (score["split"], score["decoder"]) == (split, decoder)]
    protocols = list(dict.fromkeys(score["protocol"] for score in found))
    if len(protocols) > 1 and protocol is None:
        raise UserError(f"{folder.path} has scores by {' and '.join(protocols)}", "one protocol", "name one of them")
    found = [score for score in found if protocol in (None, score["protocol"])]
    if not found:
        asked = f"split {split}, decoder {decoder}" + (f", protocol {protocol}" if protocol else "")
        there = "; ".join(f"{s['split']}, {s['decoder']}, {s['protocol']}" for s in results["scores"])
        raise UserError(
            f"{folder.path} has no score for {asked} (it has: {there or 'none'})",
            fix=f"score it: recipes/score.py --run {folder.path} --split {split} --decoder {decoder}",
        )
    return found


def _labels(folders: Sequence[tuple[RunFolder, str]]) -> list[str]:
    """The runs' names; with the folder where two runs share one."""
    names = [name for _, name in folders]
    return [name if names.count(name) == 1 else f"{name} ({folder.path})" for folder, name in folders]


def _incomparable(rows: Sequence[Row]) -> list[str]:
    """In what a run differs from the first one so that their rates may not stand in one table."""
    first = rows[0]
    problems = []
    for row in rows[1:]:
        for what, theirs, ours in (
            ("corpus", first.results["corpus"], row.results["corpus"]),
            ("protocol", first.score["protocol"], row.score["protocol"]),
            ("number of utterances", first.score["utterances"], row.score["utterances"]),
            ("number of reference tokens", first.score["reference_tokens"], row.score["reference_tokens"]),
            ("speakers", _speakers(first), _speakers(row)),
        ):
            if theirs != ours:
                problems.append(f"{first.label} was scored with {what} {theirs}, {row.label} with {ours}")
                break  # what follows from the first difference is not worth a line
    return problems


def _speakers(row: Row) -> str:
    rates = row.score["by_speaker"].items()
    return ", ".join(f"{name} ({values['reference_tokens']})" for name, values in sorted(rates))


def _with_lm(row: Row) -> str:
    return f"{row.label} + {Path(row.score['lm']).name}" if row.score["lm"] else row.label


def csv_text(lines: Sequence[dict[str, Any]]) -> str:
    """Lines with the same or other columns as CSV; what a line lacks, and None, is empty."""
    stream = io.StringIO()
    names = list(dict.fromkeys(name for line in lines for name in line))
    writer = csv.DictWriter(stream, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue()


def _width(text: str) -> int:
    """Columns a text takes in a terminal: wide characters take two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space
