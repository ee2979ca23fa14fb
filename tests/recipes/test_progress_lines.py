"""Every long step of a recipe has its live line on a terminal, and none off it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from recipe_runs import CORPUS, LEARNER, SPEECH, TRAINING, done, run, run_watched
from terminal import Screen

WATCHED = {"disable_tqdm": False}
PARTS = r" *\d+% \|.{16}\| \d+/\d+, *[\d.?]+ \S+.*/s, [\d:?]+ left"


def lines_of(screen: Screen, what: str) -> list[str]:
    """The states of the line of one step; each has its parts."""
    shape = re.compile(re.escape(what) + PARTS)
    found = [line for line in screen.drawn if shape.match(line)]
    assert found, f"no line of '{what}' in: {sorted({line[:60] for line in screen.drawn})}"
    assert not any(map(shape.match, screen.left)), "\n".join(["a live line was left behind:", *screen.left])
    return found


def training(manifest: Path, output: Path, **options: Any) -> dict[str, Any]:
    """A tiny training."""
    return {"manifest": manifest, "output_dir": output, **SPEECH, **TRAINING, **WATCHED, **options}


def test_training_shows_steps_losses_and_wer(speech: Path, tmp_path: Path) -> None:
    screen = run_watched("train", **training(speech, tmp_path / "run", num_train_epochs=3))
    last = lines_of(screen, "training")[-1]
    steps = re.search(r"step (\d+)/(\d+)  loss_ctc [\d.]+  dev WER [\d.]+ %, best [\d.]+ %$", last)
    assert steps and steps[2] == "9", last  # 24 utterances, 8 a batch, 3 epochs
    assert "/72, " in last and " utt/s, " in last
    lines_of(screen, "checking files"), lines_of(screen, "checking labels"), lines_of(screen, "dev")
    assert re.search(r"WER so far [\d.]+ %$", lines_of(screen, "scoring test")[-1])
    assert sum(line.startswith("epoch ") for line in screen.left) == 6  # the log lines stay whole


def test_caching_and_scoring(speech: Path, speech_run: Path, tmp_path: Path) -> None:
    options = training(speech, tmp_path / "unused", teachers=[speech_run], vocabulary=speech_run)
    screen = run_watched("cache_teachers", teacher_cache=tmp_path / "cache", **options)
    assert "/24, " in lines_of(screen, "soft targets")[-1]
    scored = run_watched("score", run=speech_run, split="dev", decoder="greedy")
    assert lines_of(scored, "scoring dev")[-1].endswith(final_wer(scored))


def final_wer(screen: Screen) -> str:
    """The WER that the line must have ended on: the one of the result, with a digit less."""
    rate = re.search(r"greedy  WER ([\d.]+) %", screen.text)
    assert rate
    return f"WER so far {float(rate[1]):.1f} %"


def test_preparing_and_language_models(speech: Path, speech_run: Path, tmp_path: Path) -> None:
    lines_of(run_watched("prepare_data", corpus="manifest", manifest=speech), "reading files")
    screen = run_watched("estimate_lm", run=speech_run, order=2, output=tmp_path / "lm.arpa")
    for what in ("counting n-grams", "smoothing", "perplexity"):
        lines_of(screen, what)


@pytest.mark.slow
def test_adapting_and_overfitting(speech: Path, speech_run: Path, tmp_path: Path) -> None:
    options = {"manifest": speech, "corpus_name": CORPUS, **TRAINING, **WATCHED, "num_train_epochs": 1}
    screen = run_watched("adapt_teachers", model=speech_run, output_dir=tmp_path / "teachers", **options)
    for what in ("teachers", "training", "who scores what", "anna"):
        lines_of(screen, what)
    options = {**LEARNER, **WATCHED, "manifest": speech, "utterances": 2, "epochs": 60, "output_dir": "unused"}
    del options["num_train_epochs"]
    assert "dev WER" in lines_of(run_watched("overfit", **options), "training")[-1]


@pytest.mark.slow
def test_a_table_of_runs(speech: Path, tmp_path: Path) -> None:
    rows = {"baseline": {"recipe": "train", "options": {}}}
    common = {"manifest": str(speech), **SPEECH, **TRAINING, "num_train_epochs": 1, "learning_rate": 0.02}
    plan = {"runs": str(tmp_path / "runs"), "folds": ["all"], "seeds": [1, 2], "common": common, "rows": rows}
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(plan))
    screen = run_watched("experiment", tmp_path / "table.yaml")
    assert " 1/2, " in lines_of(screen, "runs")[-1] or " 2/2, " in lines_of(screen, "runs")[-1]
    assert sum(line.endswith("  done") for line in screen.left) == 2


def test_off_a_terminal_there_is_no_line_of_anybody(speech: Path, speech_run: Path, tmp_path: Path) -> None:
    results = []
    for name, options in (
        ("prepare_data", {"corpus": "manifest", "manifest": speech, "normaliser": "words"}),
        ("estimate_lm", {"run": speech_run, "order": 2, "output": tmp_path / "lm.arpa"}),
        ("score", {"run": speech_run, "split": "dev"}),
        ("train", training(speech, tmp_path / "run", num_train_epochs=1, normaliser="words")),
    ):
        datasets.enable_progress_bars()  # as in a new process
        results.append(done(run(name, **options)))
    written = "".join(result.out + result.err for result in results)
    assert "\r" not in written and "it/s" not in written and "%|" not in written, written
