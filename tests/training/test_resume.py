"""Runs that end early: killed and taken up again, cut-off checkpoints, early stopping, the best checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import do_run, largest_difference, logged, recipe, weights
from transformers import TrainerCallback

# Everything random at once: dropout, masks, shuffling, projections, momentum.
RANDOM = {
    "model_options": {"hidden_size": 6, "num_layers": 1, "stride": 4, "dropout": 0.3},
    "augmentation": ["spec_augment"],
    "gamma": 0.2,
    "feature_losses": ["hidden"],
    "layer_map": {"0": 0},
    "lr_scheduler_type": "cosine",
}


class Killed(BaseException):
    """Ends a run inside a process as abruptly as a process can: nothing catches it."""


class StopAfter(TrainerCallback):
    """Ends the run at a step, after that step's checkpoint."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Killed


def stop_after(step: int) -> Any:
    return lambda run: run.trainer.add_callback(StopAfter(step))


def same_students(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# 6 steps an epoch; "steps" goes on from step 16, in the second half of epoch 2, where rounding would say 3.
@pytest.mark.parametrize(("saving", "killed_at"), [("epoch", 11), ("steps", 17)])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    saving: str, killed_at: int, speech: Path, specialists: list[str], tmp_path: Path
) -> None:
    options = {**RANDOM, "data_dir": speech, "teachers": specialists, "num_train_epochs": 3}
    options |= {"save_strategy": saving, "eval_strategy": saving, "gradient_accumulation_steps": 2}
    options |= {"per_device_train_batch_size": 2, "metric_for_best_model": "loss"}
    if saving == "steps":
        options |= {"save_steps": 4, "eval_steps": 4, "logging_strategy": "steps", "logging_steps": 4}
    whole = do_run(output_dir=tmp_path / "whole", **options)
    with pytest.raises(Killed):
        do_run(stop_after(killed_at), output_dir=tmp_path / "cut", **options)
    assert not (tmp_path / "cut" / "results.json").exists()
    resumed = do_run(output_dir=tmp_path / "cut", **options)
    assert resumed.trainer.state.global_step == whole.trainer.state.global_step == 18
    assert same_students(tmp_path / "whole", tmp_path / "cut")
    files = [tmp_path / name / "checkpoint-18" / "distillation_projections.safetensors" for name in ("whole", "cut")]
    projections = [load_file(file) for file in files]
    assert largest_difference(*projections) == 0.0
    for series in ("loss", "loss_ctc", "loss_ctc_kd", "loss_hidden", "eval_wer", "eval_loss"):
        assert logged(tmp_path / "cut", series) == logged(tmp_path / "whole", series), series


def test_a_checkpoint_cut_off_half_way_is_passed_over(
    speech: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"data_dir": speech, "num_train_epochs": 3, "save_total_limit": 3}
    do_run(output_dir=tmp_path / "whole", **options)
    with pytest.raises(Killed):
        do_run(stop_after(13), output_dir=tmp_path / "cut", **options)
    (tmp_path / "cut" / "checkpoint-12" / "trainer_state.json").unlink()
    (tmp_path / "cut" / "checkpoint-12" / "model.safetensors").write_bytes(b"half of it")
    with caplog.at_level("INFO"):
        do_run(output_dir=tmp_path / "cut", **options)
    assert "taking up the run again from" in caplog.text and "checkpoint-6" in caplog.text
    assert same_students(tmp_path / "whole", tmp_path / "cut")


def test_a_run_killed_between_training_and_results_is_finished(speech: Path, tmp_path: Path) -> None:
    options = {"data_dir": speech, "num_train_epochs": 2, "output_dir": tmp_path}
    whole = do_run(**options)
    saved, results = weights(tmp_path), json.loads((tmp_path / "results.json").read_text())
    assert whole.trainer.state.global_step == 12
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**record, "status": "running"}))
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "results.json").unlink()
    do_run(**options)
    assert largest_difference(saved, weights(tmp_path)) == 0.0
    again = json.loads((tmp_path / "results.json").read_text())
    assert results["training"].pop("seconds") > 0
    assert again["training"].pop("seconds") is None  # nobody timed the part before the kill
    assert again == results
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "finished"


def test_a_finished_run_is_not_trained_again(speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    do_run(data_dir=speech, output_dir=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert do_run(data_dir=speech, output_dir=tmp_path) is None
    assert "finished; nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_student_is_the_best_checkpoint_not_the_last(speech: Path, tmp_path: Path) -> None:
    """The learning rate is so high after a good start that the last epochs destroy what was learnt."""
    worse = Worsen(at_step=12)
    run = do_run(
        lambda run: run.trainer.add_callback(worse),
        data_dir=speech,
        output_dir=tmp_path,
        num_train_epochs=4,
        metric_for_best_model="loss",
    )
    losses = logged(tmp_path, "eval_loss")
    assert min(losses) == losses[1] < losses[3]
    state = run.trainer.state
    assert Path(state.best_model_checkpoint).name == "checkpoint-12"
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-12", "checkpoint-24"}
    assert largest_difference(weights(tmp_path), weights(tmp_path / "checkpoint-12")) == 0.0
    assert largest_difference(weights(tmp_path), weights(tmp_path / "checkpoint-24")) > 0.0
    evaluated = run.trainer.evaluate()  # the student in memory is the best one as well
    assert evaluated["eval_loss"] == pytest.approx(losses[1], abs=1e-6)


class Worsen(TrainerCallback):
    """From a step on, adds noise to the weights after every step."""

    def __init__(self, at_step: int) -> None:
        self.at_step = at_step

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step > self.at_step:
            generator = torch.Generator().manual_seed(state.global_step)
            with torch.no_grad():
                for value in model.parameters():
                    value.add_(torch.randn(value.shape, generator=generator))


def test_wra_is_maximised(speech: Path, generalist: Path, tmp_path: Path) -> None:
    """A good network that is destroyed: its first epoch is the best, and what dev is scored with."""
    start = {"model": generalist, "model_options": None, "feature_options": None, "learning_rate": 1e-4}
    run = do_run(
        lambda run: run.trainer.add_callback(Worsen(at_step=6)),
        data_dir=speech,
        output_dir=tmp_path,
        num_train_epochs=2,
        metric_for_best_model="wra",
        **start,
    )
    first, second = logged(tmp_path, "eval_wra")
    assert first > second
    assert Path(run.trainer.state.best_model_checkpoint).name == "checkpoint-6"
    dev = next(item for item in run_scores(tmp_path) if item["split"] == "dev")
    assert dev["wra"] == pytest.approx(first) and dev["wer"] == pytest.approx(logged(tmp_path, "eval_wer")[0])


def run_scores(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "results.json").read_text())["scores"]


def test_early_stopping_counts_on_after_a_kill(speech: Path, tmp_path: Path) -> None:
    """Destroyed from epoch 1 on, so nothing improves: patience 3 ends the run after epoch 4, killed or not."""
    options = {"data_dir": speech, "num_train_epochs": 9, "early_stopping_patience": 3, "metric_for_best_model": "loss"}

    def worsening(run: SimpleNamespace) -> None:
        run.trainer.add_callback(Worsen(at_step=6))

    def killed(run: SimpleNamespace) -> None:
        worsening(run)
        run.trainer.add_callback(StopAfter(21))

    whole = do_run(worsening, output_dir=tmp_path / "whole", **options)
    assert whole.trainer.state.global_step == 24
    with pytest.raises(Killed):
        do_run(killed, output_dir=tmp_path / "cut", **options)
    resumed = do_run(worsening, output_dir=tmp_path / "cut", **options)
    assert resumed.trainer.state.global_step == 24
    assert same_students(tmp_path / "whole", tmp_path / "cut")


def test_a_run_killed_after_it_stopped_early_does_not_train_on(speech: Path, tmp_path: Path) -> None:
    options = {"data_dir": speech, "num_train_epochs": 9, "early_stopping_patience": 1, "metric_for_best_model": "loss"}

    def worsening(run: SimpleNamespace) -> None:
        run.trainer.add_callback(Worsen(at_step=6))

    do_run(worsening, output_dir=tmp_path / "run", **options)
    saved = weights(tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**record, "status": "running"}))
    again = do_run(output_dir=tmp_path / "run", **options)  # without the noise an epoch more would be an improvement
    assert again.trainer.state.global_step == 12
    assert largest_difference(saved, weights(tmp_path / "run")) == 0.0


@pytest.mark.slow
def test_kill_9_in_the_middle_and_the_same_command_again(speech: Path, specialists: list[str], tmp_path: Path) -> None:
    options = {**RANDOM, "data_dir": speech, "teachers": specialists, "num_train_epochs": 10}
    options |= {"per_device_train_batch_size": 2, "report_to": "tensorboard"}
    whole = do_run(output_dir=tmp_path / "whole", **options)
    assert whole.trainer.state.global_step == 120
    started = recipe("distill", wait=False, output_dir=tmp_path / "cut", **options)
    kill_in_epoch(started, tmp_path / "cut", after=36)
    reached = max(int(path.name.split("-")[1]) for path in (tmp_path / "cut").glob("checkpoint-*"))
    assert 36 <= reached < 120 and not (tmp_path / "cut" / "results.json").exists()
    again = recipe("distill", output_dir=tmp_path / "cut", **options)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "taking up the run again from" in again.stderr
    assert same_students(tmp_path / "whole", tmp_path / "cut")
    assert run_scores(tmp_path / "whole") == run_scores(tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut")


def kill_in_epoch(process: subprocess.Popen[str], folder: Path, after: int) -> None:
    """kill -9 once the checkpoint of step `after`, or a later one, is complete, a moment into the next epoch."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        complete = [int(path.parent.name.split("-")[1]) for path in folder.glob("checkpoint-*/trainer_state.json")]
        if complete and max(complete) >= after:
            time.sleep(0.05)
            os.kill(process.pid, signal.SIGKILL)
            process.wait(timeout=30)
            assert process.returncode == -signal.SIGKILL
            return
        time.sleep(0.01)
    process.kill()
    pytest.fail(f"no checkpoint {after} was seen: {process.communicate()[1][-2000:]}")
