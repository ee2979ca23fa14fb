"""What there is: every score of a split in any runs, side by side without a comparison between them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.reporting.tables import (
    NOTHING,
    aggregation_of,
    markdown_table,
    percent,
    shown_counts,
    shown_interval,
    teacher_names,
)

HEADER = ["corpus", "run", "teachers", "aggregation", "decoder", "parameters"]
HEADER += ["WER", "95 % interval", "WRA", "S / D / I", "tokens"]
NUMERIC = [False] * 5 + [True] * 6


def overview_table(runs: Iterable[RunFolder | str | Path], split: str = "test") -> str:
    """One line a score, of runs on any corpora; rates of different corpora stand apart, nothing is computed across.

    Args:
        runs: run folders.
        split: the split that was scored.

    Returns:
        Markdown whose columns align in a terminal. Rates are in percent.

    Raises:
        UserError: where a folder is no run folder or has no score of the split; all of them at once.

    Example:
        >>> print(overview_table(["runs/speech-student", "runs/sign-student"]))
    """
    cells, problems = [], []
    for run in runs:
        folder = run if isinstance(run, RunFolder) else RunFolder(run)
        try:
            results = folder.read_results()
            scores = [score for score in results["scores"] if score["split"] == split]
            if not scores:
                raise UserError(
                    f"{folder.path} has no score of split {split}", fix=f"recipes/score.py --run {folder.path}"
                )
            cells += [_line(results, score, aggregation_of(results, folder.config())) for score in scores]
        except UserError as error:
            problems.append(str(error))
    raise_all(problems, "the overview")
    return markdown_table(HEADER, cells, NUMERIC)


def _line(results: dict[str, Any], score: dict[str, Any], aggregation: str | None) -> list[str]:
    decoder = score["decoder"] + (f" + {Path(score['lm']).name}" if score["lm"] else "")
    teachers = len(teacher_names(results))
    return [
        *(results["corpus"], results["name"], str(teachers) if teachers else NOTHING, aggregation or NOTHING, decoder),
        *(f"{results['model']['parameters']:,}", percent(score["wer"]), shown_interval(score), percent(score["wra"])),
        *(shown_counts(score), f"{score['reference_tokens']:,}"),
    ]
