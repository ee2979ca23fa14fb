"""One gradient, however the batch is cut: into micro-batches, over processes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import GRADIENT_DESCENT, TRAINED, assemble, do_run, largest_difference, recipe, weights

PROJECTIONS = "distillation_projections.safetensors"
NO_CHECKPOINTS = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
NARROW = {"hidden_size": 6, "num_layers": 1, "stride": 4, "dropout": 0.0}
HIDDEN = {"gamma": 0.2, "feature_losses": ["hidden"], "layer_map": {"0": 0}, "model_options": NARROW}


def trained(folder: Path, **options: Any) -> SimpleNamespace:
    """A run trained by plain gradient descent, without checkpoints."""
    run = assemble(output_dir=folder, **{**GRADIENT_DESCENT, **NO_CHECKPOINTS, **options})
    run.before = {name: value.clone() for name, value in run.trainer.model.state_dict().items()}
    run.trainer.train()
    run.after = dict(run.trainer.model.state_dict())
    return run


@pytest.mark.parametrize("losses", ["labels", "labels, soft targets and hidden states"])
@pytest.mark.parametrize(("batch", "micro", "steps"), [(4, 1, 4), (10, 2, 5), (9, 3, 3)])
def test_accumulated_micro_batches_give_the_weights_of_whole_batches(
    losses: str, batch: int, micro: int, steps: int, speech: Path, specialists: list[str], tmp_path: Path
) -> None:
    extra = {} if losses == "labels" else {"teachers": specialists, **HIDDEN}
    whole = trained(tmp_path / "whole", data_dir=speech, per_device_train_batch_size=batch, **extra)
    cut = trained(
        tmp_path / "cut",
        data_dir=speech,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=steps,
        **extra,
    )
    expected = -(-TRAINED // batch)  # for 10 and 9 the last batch is incomplete: 4 and 6 utterances
    assert whole.trainer.state.global_step == cut.trainer.state.global_step == expected
    assert largest_difference(whole.before, whole.after) > 1e-2
    assert largest_difference(whole.after, cut.after) < 1e-5
    assert any("projections" in name for name in cut.after) == bool(extra)


@pytest.mark.parametrize("steps", [1, 4])
def test_one_step_is_the_mean_gradient_of_its_utterances(steps: int, speech: Path, tmp_path: Path) -> None:
    options = {"data_dir": speech, "max_steps": 1, "per_device_train_batch_size": 4 // steps}
    run = assemble(
        output_dir=tmp_path, gradient_accumulation_steps=steps, **options, **GRADIENT_DESCENT, **NO_CHECKPOINTS
    )
    seen: list[dict[str, Any]] = []
    collate = run.trainer.data_collator
    run.trainer.data_collator = lambda items: seen.extend(items) or collate(items)
    twin = assemble(output_dir=tmp_path, **options, **GRADIENT_DESCENT, **NO_CHECKPOINTS).student.train()
    run.trainer.train()
    for item in seen[:4]:  # the loader fetches one batch ahead
        batch = collate([item])
        output = twin(batch["input_features"], attention_mask=batch["attention_mask"], labels=batch["labels"])
        (output.loss / 4).backward()
    for name, value in twin.named_parameters():
        stepped = value - GRADIENT_DESCENT["learning_rate"] * value.grad
        torch.testing.assert_close(run.student.state_dict()[name], stepped.detach(), atol=1e-6, rtol=1e-5)


def test_a_clipped_norm_is_that_of_the_whole_batch(speech: Path, tmp_path: Path) -> None:
    clipped = {"data_dir": speech, "max_grad_norm": 0.05, "max_steps": 1}
    whole = trained(tmp_path / "whole", per_device_train_batch_size=4, **clipped)
    cut = trained(tmp_path / "cut", per_device_train_batch_size=1, gradient_accumulation_steps=4, **clipped)
    moved = torch.cat([(whole.after[name] - whole.before[name]).flatten() for name in whole.after])
    assert float(moved.norm()) == pytest.approx(0.1 * 0.05, rel=1e-3)
    assert largest_difference(whole.after, cut.after) < 1e-7


@pytest.mark.slow
@pytest.mark.parametrize("speakers", [["s01", "s02"], ["s01"]], ids=["even", "odd"])
def test_two_processes_train_the_student_of_one(
    speakers: list[str], speech: Path, specialists: list[str], tmp_path: Path
) -> None:
    """Two gloo processes as a user starts them; hidden-state projections are trained on both.

    "odd": 12 utterances in batches of 5 leave 2, one process's last batch. accelerate repeats utterances of the epoch's
    start to fill the batches of both processes up; those must not count.
    """
    size = 4 if len(speakers) == 2 else 5
    options = {**GRADIENT_DESCENT, "num_train_epochs": 2, "teachers": specialists, **HIDDEN, "save_strategy": "epoch"}
    options |= {"train_speakers": speakers, "data_dir": speech, "augmentation": ["spec_augment"]}
    one = do_run(output_dir=tmp_path / "one", per_device_train_batch_size=2 * size, **options)
    two = recipe(
        "distill",
        processes=2,
        output_dir=tmp_path / "two",
        per_device_train_batch_size=size,
        expected_processes=2,
        **options,
    )
    assert two.returncode == 0, two.stderr[-3000:]
    steps = one.trainer.state.global_step
    assert largest_difference(weights(tmp_path / "one"), weights(tmp_path / "two")) < 1e-5
    projections = [load_file(tmp_path / name / f"checkpoint-{steps}" / PROJECTIONS) for name in ("one", "two")]
    assert largest_difference(*projections) < 1e-5
    assert "taking up" not in two.stderr and (tmp_path / "two" / "results.json").is_file()
