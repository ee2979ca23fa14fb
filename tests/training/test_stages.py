"""Training in stages: what is frozen stays, the rest learns; learning rates; runs that are taken up again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_resume import Killed, same_students, stop_after
from tiny_runs import assemble, do_run, largest_difference, logged, recipe, weights
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState

from kd_asr_slr.errors import UserError
from kd_asr_slr.stages import Stage
from kd_asr_slr.training.stages import FreezingCallback

STAGES = [
    {"epochs": 1, "freeze": ["projection", "layers"], "learning_rate": 1e-2, "lr_scheduler_type": "constant"},
    {"epochs": 2, "learning_rate": 4e-3, "lr_scheduler_type": "noam", "warmup_steps": 4},
]
OPTIONS: dict[str, Any] = {
    "stages": STAGES,
    "num_train_epochs": None,
    "learning_rate": None,
    "lr_scheduler_type": None,
    "weight_decay": 0.1,
    "model_options": {"hidden_size": 6, "num_layers": 1, "stride": 4, "dropout": 0.3},
}
FROZEN = ("projection.", "layers.")
STEPS = 6  # an epoch


class Watch(TrainerCallback):
    """Keeps the student's weights after every epoch, and the modes of its modules in the last forward pass."""

    def __init__(self, student: nn.Module) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []
        self.modes: list[dict[str, bool]] = []
        self.student = student
        student.register_forward_hook(lambda module, inputs, output: self.look() if module.training else None)

    def look(self) -> None:
        self.now = {name: module.training for name, module in self.student.named_modules()}

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append({name: value.clone() for name, value in self.student.state_dict().items()})
        self.modes.append(self.now)


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_what_is_frozen_stays_in_its_stage_only(speech: Path, tmp_path: Path) -> None:
    run = assemble(data_dir=speech, output_dir=tmp_path, **OPTIONS)
    before = {name: value.clone() for name, value in run.student.state_dict().items()}
    watch = Watch(run.student)
    run.trainer.add_callback(watch)
    run.trainer.train()
    first, second, _ = watch.seen
    held = {name for name in before if name.startswith(FROZEN)}
    assert held and moved(before, first) == set(before) - held  # nor has weight decay touched them
    assert moved(first, second) == set(before)
    assert not watch.modes[0]["projection"] and watch.modes[0]["norm"] and watch.modes[1]["projection"]
    rates = logged(tmp_path, "learning_rate")
    # of the last step of each epoch: constant; noam at n = 6 and n = 12, behind a warm-up of 4
    assert rates == pytest.approx([1e-2, 4e-3 * (4 / 6) ** 0.5, 4e-3 * (4 / 12) ** 0.5])
    assert all(value.requires_grad for value in run.student.parameters())
    assert len(run.trainer.optimizer.state) == len(list(run.student.parameters()))


@pytest.mark.parametrize("killed_at", [3, 10])
def test_a_run_taken_up_in_a_stage_ends_with_the_same_weights(killed_at: int, speech: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "data_dir": speech, "save_strategy": "steps", "eval_strategy": "steps"}
    options |= {"save_steps": 2, "eval_steps": 2, "metric_for_best_model": "loss", "augmentation": ["spec_augment"]}
    do_run(output_dir=tmp_path / "whole", **options)
    with pytest.raises(Killed):
        do_run(stop_after(killed_at), output_dir=tmp_path / "cut", **options)
    resumed = do_run(output_dir=tmp_path / "cut", **options)
    assert resumed.trainer.state.global_step == 3 * STEPS
    assert same_students(tmp_path / "whole", tmp_path / "cut")
    last = [weights(tmp_path / name / f"checkpoint-{3 * STEPS}") for name in ("whole", "cut")]
    assert largest_difference(*last) == 0.0


def test_modules_are_frozen_all_along_without_stages(speech: Path, tmp_path: Path) -> None:
    run = assemble(data_dir=speech, output_dir=tmp_path, freeze_modules=["layers", "norm.bias"])
    before = {name: value.clone() for name, value in run.student.state_dict().items()}
    run.trainer.train()
    held = {name for name in before if name.startswith("layers.")} | {"norm.bias"}
    assert moved(before, dict(run.student.state_dict())) == set(before) - held


@pytest.mark.parametrize(
    ("freeze", "parts"),
    [
        (["encoder"], ["no module or parameter 'encoder' to freeze", "it has projection, norm, ", "layers"]),
        (["recurr"], ["no module or parameter 'recurr'"]),
    ],
)
def test_unknown_modules_are_refused(freeze: list[str], parts: list[str], speech: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        assemble(data_dir=speech, output_dir=tmp_path, **{**OPTIONS, "stages": [{"epochs": 1, "freeze": freeze}]})
    for part in parts:
        assert part in str(caught.value)


def test_a_stage_with_nothing_to_train_is_refused() -> None:
    with pytest.raises(UserError, match="stage 2 freezes every parameter"):
        FreezingCallback(nn.Sequential(nn.Linear(2, 2)), [Stage(1, 1e-3), Stage(1, 1e-3, ("0",))])
    with pytest.raises(UserError, match="freeze_modules freezes every parameter"):
        FreezingCallback(nn.Sequential(nn.Linear(2, 2)), [], ["0"])


def test_statistics_of_a_frozen_batch_norm_do_not_move() -> None:
    """And a recurrent layer without dropout stays in training mode, which cuDNN wants of it."""
    network = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.BatchNorm1d(3), nn.LSTM(3, 3)))
    network[1].forward = lambda hidden: network[1][1](network[1][0](hidden))[0]
    freezing = FreezingCallback(network, [Stage(1, 1e-3, ("1",)), Stage(1, 1e-3)])
    state, control = TrainerState(), TrainerControl()
    freezing.on_train_begin(None, state, control)
    means = []
    for epoch in (0.0, 0.5, 1.0):  # 0.5: taken up again in the middle
        state.epoch = epoch
        freezing.on_epoch_begin(None, state, control)
        network.train()(torch.randn(8, 3) + 5.0).sum().backward()
        means.append(network[1][0].running_mean.clone())
        assert network[1][1].training
    assert not means[0].any() and not means[1].any() and means[2].any()
    freezing.on_train_end(None, state, control)
    assert all(value.requires_grad for value in network.parameters())


@pytest.mark.slow
def test_two_processes_freeze_as_one(speech: Path, tmp_path: Path) -> None:
    plain = {**OPTIONS, "optim": "sgd", "max_grad_norm": 0.0, "data_dir": speech, "report_to": "none"}
    plain |= {"model_options": {"hidden_size": 6, "num_layers": 1, "stride": 4, "dropout": 0.0}}
    one: SimpleNamespace = do_run(output_dir=tmp_path / "one", per_device_train_batch_size=4, **plain)
    two = recipe("train", processes=2, output_dir=tmp_path / "two", per_device_train_batch_size=2, **plain)
    assert two.returncode == 0, two.stderr[-3000:]
    steps = one.trainer.state.global_step
    last = [weights(tmp_path / name / f"checkpoint-{steps}") for name in ("one", "two")]
    assert largest_difference(*last) < 1e-5
