"""`recipes/compare.py --folds` on run folders, as a user types it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from recipe_runs import run

from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.scoring.score import score_predictions


@pytest.fixture()
def folders(tmp_path: Path) -> list[Path]:
    """Two rows, two folds, two seeds; every run of `better` has 6 of 8 words right, every other one 3."""
    found = []
    for row, right in (("plain", 3), ("better", 6)):
        for fold in ("anna", "bert"):
            for seed in (1, 2):
                folder = RunFolder(tmp_path / f"{row}-{fold}-seed{seed}")
                folder.claim({"corpus": "tones"}, recipe="train")
                folder.write_results(
                    model_type="bilstm_ctc", parameters=10, bytes=40, corpus="tones", teachers=[], seed=seed
                )
                rows = [
                    {"id": f"{fold}-{n}", "speaker": fold, "reference": "ONE", "hypothesis": "ONE" if n < right else ""}
                    for n in range(8)
                ]
                folder.write_predictions("test", rows)
                folder.add_scores(score_predictions(rows, "test", "greedy", resamples=20))
                folder.finish()
                found.append(folder.path)
    return found


def test_markdown_and_csv(folders: list[Path], tmp_path: Path) -> None:
    result = run("compare", *folders, "--folds", "--baseline", "plain", "--output", tmp_path / "tables" / "folds.md")
    assert result.code == 0
    assert (tmp_path / "tables" / "folds.md").read_text() + "\n" == result.out
    assert "| better |" in result.out and "+37.50" in result.out
    assert run("compare", *folders, "--folds", "--metric", "wer", "--output", tmp_path / "folds.csv").code == 0
    with (tmp_path / "folds.csv").open(newline="") as file:
        lines = {line["row"]: line for line in csv.DictReader(file)}
    assert float(lines["better"]["wra_anna"]) == 0.75 and float(lines["plain"]["wer"]) == 0.625


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--baseline", "plain", "--overview"), "--baseline does not go with --overview"),
        (("--seeds", "--folds"), "give one of them"),
        (("--folds", "--output", "table.docx"), "expected a file that ends in .md, .tex, .csv, .json"),
        (("--oracle", "plain"), "--oracle goes with --folds"),
        (("--folds", "--baseline", "labels"), "no row is called 'labels'; expected one of plain, better"),
    ],
)
def test_mistakes(folders: list[Path], words: tuple[str, ...], message: str) -> None:
    result = run("compare", *folders, *words)
    assert result.code == 2 and message in result.err and "Traceback" not in result.err
