"""Curves that are kept up to date while a run trains."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_runs import do_run
from transformers import TrainerControl, TrainerState

from kd_asr_slr.arguments import DistillationArguments
from kd_asr_slr.training.callbacks import CurvesCallback


def evaluated(callback: CurvesCallback, folder: Path, epochs: int, main: bool = True) -> None:
    log = [{"eval_wer": 1.0 / epoch, "epoch": float(epoch)} for epoch in range(1, epochs + 1)]
    state = TrainerState(log_history=log, is_world_process_zero=main)
    callback.on_evaluate(SimpleNamespace(output_dir=str(folder)), state, TrainerControl())


def started(**options: float) -> CurvesCallback:
    callback = CurvesCallback(**options)
    callback.on_train_begin(SimpleNamespace(), TrainerState(), TrainerControl())
    return callback


def test_the_log_follows_every_evaluation_and_the_page_only_where_it_is_due(tmp_path: Path) -> None:
    callback = started(pause=3600.0)
    for epochs in (1, 2):
        evaluated(callback, tmp_path, epochs)
        assert [record["epoch"] for record in json.loads((tmp_path / "history.json").read_text())] == [1.0, 2.0][
            :epochs
        ]
    assert not (tmp_path / "training_curves.png").exists()


def test_the_page_is_drawn_again_when_drawing_is_a_small_share_of_the_time(tmp_path: Path) -> None:
    callback = started(pause=0.0, share=1e-9)
    evaluated(callback, tmp_path, 1)
    first = (tmp_path / "training_curves.png").read_bytes()
    evaluated(callback, tmp_path, 2)  # drawing took longer than its share of the time since
    assert (tmp_path / "training_curves.png").read_bytes() == first
    often = started(pause=0.0, share=1e9)
    for epochs in (1, 2):
        evaluated(often, tmp_path, epochs)
    assert (tmp_path / "training_curves.png").read_bytes() != first


def test_only_the_main_process_writes(tmp_path: Path) -> None:
    evaluated(started(pause=0.0), tmp_path, 1, main=False)
    assert list(tmp_path.iterdir()) == []


def test_a_run_ends_with_its_whole_log(speech: Path, tmp_path: Path) -> None:
    options = {"data_dir": speech, "output_dir": tmp_path / "run", "num_train_epochs": 2}
    do_run(**options, target_wer=0.2, save_strategy="no", load_best_model_at_end=False)
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [record["epoch"] for record in history if "eval_wer" in record] == [1.0, 2.0]
    assert "train_runtime" in history[-1]


@pytest.mark.parametrize("value", [25.0, -0.1])
def test_a_target_in_percent_is_refused(value: float, tmp_path: Path) -> None:
    problems = DistillationArguments(output_dir=str(tmp_path), target_wer=value, use_cpu=True).problems()
    assert [problem for problem in problems if problem.startswith(f"target_wer is {value}; expected a fraction")]
