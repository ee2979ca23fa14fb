"""TensorBoard, Weights & Biases and trackio get the same values under the same names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import do_run

STEP = "train/global_step"  # the horizontal axis: TensorBoard has it beside each value
# What the callback of transformers calls of trackio; it writes the entries into a file.
TRACKIO = """
import json, types
__version__ = "0.30"
class Config(dict):
    def update(self, values, allow_val_change): super().update(values)
config = Config()
context_vars = types.SimpleNamespace(current_space_id=types.SimpleNamespace(get=lambda: None))
def init(**options): pass
def finish(): pass
def log(values):
    with open(FILE, "a") as stream: stream.write(json.dumps(values) + chr(10))
"""
Series = dict[str, list[tuple[int, float]]]  # name -> (step, value)


def series_of(entries: list[dict[str, float]]) -> Series:
    found: Series = {}
    for entry in entries:
        step = entry.pop(STEP)
        for name, value in entry.items():
            found.setdefault(name, []).append((int(step), value))
    return found


def read_tensorboard(folder: Path) -> Series:
    (events,) = folder.glob("events.out.tfevents.*")
    board = EventAccumulator(str(events)).Reload()
    return {name: [(event.step, event.value) for event in board.Scalars(name)] for name in board.Tags()["scalars"]}


@pytest.fixture
def weights_and_biases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, float]]]:
    """What an offline run of Weights & Biases is given to log."""
    import wandb
    from wandb.sdk.wandb_run import Run

    for name, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    entries: list[dict[str, float]] = []
    log = Run.log

    def listening(run: Run, data: dict[str, float], *rest: Any, **options: Any) -> None:
        entries.append(dict(data))
        log(run, data, *rest, **options)

    monkeypatch.setattr(Run, "log", listening)
    yield entries
    wandb.finish()


@pytest.mark.slow
def test_three_loggers_get_the_same_values_under_the_same_names(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights_and_biases: list[dict[str, float]]
) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "trackio.py").write_text(f"FILE = {str(tmp_path / 'trackio.jsonl')!r}\n{TRACKIO}")
    monkeypatch.syspath_prepend(modules)
    loggers = ["tensorboard", "wandb", "trackio"]
    do_run(data_dir=speech, output_dir=tmp_path / "run", num_train_epochs=2, report_to=loggers)

    board = read_tensorboard(tmp_path / "run" / "tensorboard")
    lines = (tmp_path / "trackio.jsonl").read_text().splitlines()
    others = {"trackio": series_of([json.loads(line) for line in lines]), "wandb": series_of(weights_and_biases)}
    assert {"train/loss", "train/loss_ctc", "eval/wer", "train/runtime", "train/mean_loss"} <= set(board)
    assert len(board["train/loss"]) == 2
    for logger, series in others.items():
        assert set(series) == set(board), logger
        for name, values in series.items():
            assert [step for step, _ in values] == [step for step, _ in board[name]], (logger, name)
            numbers = [value for _, value in values]
            assert numbers == pytest.approx([value for _, value in board[name]], rel=1e-6), (logger, name)
