"""Stages as a configuration declares them, and the learning rates they mean."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import get_scheduler

from kd_asr_slr.arguments import DistillationArguments
from kd_asr_slr.command_line import parse, resolved
from kd_asr_slr.errors import UserError
from kd_asr_slr.stages import Stage, describe_stage

TWO = """
stages:
  - {epochs: 5, freeze: [encoder], learning_rate: 3e-4, lr_scheduler_type: constant}
  - {epochs: 35, learning_rate: 2e-4, lr_scheduler_type: noam, warmup_steps: 2000}
"""


def read(folder: Path, text: str, *words: str) -> DistillationArguments:
    path = folder / "config.yaml"
    path.write_text(f"output_dir: {folder / 'run'}\nreport_to: none\nuse_cpu: true\n{text}")
    (arguments,) = parse([DistillationArguments], ["--config", str(path), *words])
    return arguments


def test_stages_are_read_from_yaml(tmp_path: Path) -> None:
    arguments = read(tmp_path, TWO)
    assert arguments.declared_stages == [
        Stage(5, 3e-4, ("encoder",), "constant"),
        Stage(35, 2e-4, (), "noam", 2000),
    ]
    assert arguments.num_train_epochs == 40 and arguments.ddp_find_unused_parameters is True
    config = resolved(arguments)
    assert config["stages"][0] == {
        "epochs": 5,
        "freeze": ["encoder"],
        "learning_rate": 3e-4,
        "lr_scheduler_type": "constant",
    }
    again = DistillationArguments(**{name: config[name] for name in ("output_dir", "stages", "num_train_epochs")})
    assert again.declared_stages == arguments.declared_stages and not again.problems()
    assert describe_stage(config["stages"][1]) == "35 epochs at 0.0002 (noam; 2000 warm-up steps)"


def test_a_stage_takes_the_rest_from_the_run(tmp_path: Path) -> None:
    text = "learning_rate: 1e-3\nlr_scheduler_type: cosine\nstages: [{epochs: 2}, {epochs: 1, learning_rate: 1e-4}]\n"
    arguments = read(tmp_path, text)
    assert arguments.declared_stages == [Stage(2, 1e-3, (), "cosine"), Stage(1, 1e-4, (), "cosine")]
    assert read(tmp_path, "").num_train_epochs == 3 and read(tmp_path, "").ddp_find_unused_parameters is None


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("stages: [{epoch: 5}]", ["stage 1: unknown key 'epoch'", "stage 1: epochs is missing"]),
        ("stages: [{epochs: 1.5}]", ["stage 1: epochs is 1.5; expected a whole number"]),
        ("stages: [{epochs: 1}, {epochs: 0}]", ["stage 2: epochs is 0"]),
        ("stages: [{epochs: 1, learning_rate: 0}]", ["learning_rate is 0; expected a number above 0"]),
        ("stages: [{epochs: 1, lr_scheduler_type: noam}]", ["warmup_steps is 0", "1 or more for 'noam'"]),
        ("stages: [{epochs: 1, lr_scheduler_type: polynomial}]", ["expected one of constant, linear, cosine, noam"]),
        ("stages: [{epochs: 1, freeze: 3}]", ["freeze is 3; expected names of modules"]),
        ("stages: [5, 35]", ["'stages' is not a JSON object: 5"]),
        (TWO + "num_train_epochs: 20", ["num_train_epochs is 20 and the stages have 40 epochs"]),
        (TWO + "max_steps: 20", ["max_steps is 20 and there are stages"]),
        (TWO + "warmup_steps: 20", ["warmup_steps is 20 and there are stages; set it in a stage"]),
        (TWO + "ddp_find_unused_parameters: false", ["ddp_find_unused_parameters is false"]),
        ("label_names: [a, {b: 1}]", ["'label_names' has a mapping; expected one value an item"]),
    ],
)
def test_stages_that_cannot_be_used(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text + "\n")
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("warmup", [0, 7])
@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_schedules_are_those_of_transformers(name: str, warmup: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    theirs = "constant_with_warmup" if name == "constant" else name
    scheduler = get_scheduler(theirs, optimizer, num_warmup_steps=warmup, num_training_steps=40)
    stage = Stage(1, 0.3, schedule=name, warmup_steps=warmup)
    for step in range(40):
        assert stage.learning_rate_at(step, 40) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_noam_peaks_at_the_end_of_the_warm_up() -> None:
    """Vaswani et al., equation 3, with the factor that makes the peak the learning rate of the stage."""
    stage = Stage(1, 2e-4, schedule="noam", warmup_steps=2000)
    rates = [stage.learning_rate_at(step, 9000) for step in range(9000)]
    assert max(range(9000), key=rates.__getitem__) == 1999 and rates[1999] == pytest.approx(2e-4)
    assert rates[999] == pytest.approx(1e-4) and rates[7999] == pytest.approx(1e-4)  # n = w / 2 and n = 4 w
    for number in (1, 500, 3333, 9000):
        expected = 2e-4 * math.sqrt(2000) * min(number**-0.5, number * 2000**-1.5)
        assert rates[number - 1] == pytest.approx(expected)


def test_mappings_in_a_list_and_json_mean_the_same(tmp_path: Path) -> None:
    words: list[Any] = ["--stages", '{"epochs": 2, "learning_rate": 1e-3}', '{"epochs": 1}']
    from_line = read(tmp_path, "", *words)
    from_yaml = read(tmp_path, "stages:\n  - epochs: 2\n    learning_rate: 1e-3\n  - {epochs: 1}\n")
    assert from_line.declared_stages == from_yaml.declared_stages and len(from_line.declared_stages) == 2
