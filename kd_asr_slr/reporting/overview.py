"""What there is: every score of a split in any runs, side by side without a comparison between them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.reporting.tables import (
    NOTHING,
    Page,
    Table,
    aggregation_of,
    percent,
    shown_counts,
    shown_interval,
    teacher_names,
)

HEADER = ["corpus", "run", "teachers", "aggregation", "decoder", "protocol", "parameters"]
HEADER += ["WER", "95 % interval", "WRA", "S / D / I", "tokens"]
NUMERIC = [False] * 6 + [True] * 6


def overview(runs: Iterable[RunFolder | str | Path], split: str = "test") -> Page:
    """One line a score, of runs on any corpora; rates of different corpora stand apart, nothing is computed across.

    Args:
        runs: run folders.
        split: the split that was scored.

    Returns:
        A page with one table, in percent.

    Raises:
        UserError: where a folder is no run folder or has no score of the split; all of them at once.

    Example:
        >>> print(overview(["runs/speech-student", "runs/sign-student"]).markdown())
    """
    cells, records, problems = [], [], []
    for run in runs:
        folder = run if isinstance(run, RunFolder) else RunFolder(run)
        try:
            results = folder.read_results()
            scores = [score for score in results["scores"] if score["split"] == split]
            if not scores:
                raise UserError(
                    f"{folder.path} has no score of split {split}", fix=f"recipes/score.py --run {folder.path}"
                )
            aggregation = aggregation_of(results, folder.config())
            cells += [_line(results, score, aggregation) for score in scores]
            records += [_record(results, score, aggregation) for score in scores]
        except UserError as error:
            problems.append(str(error))
    raise_all(problems, "the overview")
    return Page("", (("", Table(HEADER, cells, NUMERIC)),), tuple(records), {"schema": 1, "scores": records})


def _line(results: dict[str, Any], score: dict[str, Any], aggregation: str | None) -> list[str]:
    decoder = score["decoder"] + (f" + {Path(score['lm']).name}" if score["lm"] else "")
    teachers = len(teacher_names(results))
    return [
        *(results["corpus"], results["name"], str(teachers) if teachers else NOTHING, aggregation or NOTHING),
        *(decoder, score["protocol"]),
        *(f"{results['model']['parameters']:,}", percent(score["wer"]), shown_interval(score), percent(score["wra"])),
        *(shown_counts(score), f"{score['reference_tokens']:,}"),
    ]


def _record(results: dict[str, Any], score: dict[str, Any], aggregation: str | None) -> dict[str, Any]:
    low, high = score["wer_ci95"]
    keys = ("split", "decoder", "lm", "protocol", "wer", "wra", "substitutions", "deletions", "insertions")
    return {
        "corpus": results["corpus"], "run": results["name"], "teachers": " ".join(teacher_names(results)),
        "aggregation": aggregation, "parameters": results["model"]["parameters"], "bytes": results["model"]["bytes"],
        **{key: score[key] for key in keys}, "reference_tokens": score["reference_tokens"],
        "utterances": score["utterances"], "wer_ci95_low": low, "wer_ci95_high": high,
    }  # fmt: skip
