"""Teachers beside a student: frozen, never saved, the same live or cached; every number under its own name."""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import assemble, cache, do_run, largest_difference, logged, weights
from transformers import Trainer

from kd_asr_slr.models.auto import load_model
from kd_asr_slr.teachers.cached import CachedTeachers
from kd_asr_slr.teachers.fingerprints import fingerprint_of_weights
from kd_asr_slr.training.target_reading import SIGNAL

HIDDEN = {"gamma": 0.2, "feature_losses": ["hidden"], "layer_map": {"0": 0}}
PARTS = ("loss", "loss_ctc", "loss_ctc_kd", "loss_hidden", "temperature", "valid_frame_ratio")


def test_teachers_stay_as_they_were_and_outside_of_every_checkpoint(
    speech: Path, specialists: list[str], generalist: Path, tmp_path: Path
) -> None:
    options = {"generalist": generalist, "unknown_speaker": "generalist", **HIDDEN}
    before = fingerprint_of_weights(load_model(str(generalist)))
    run = do_run(data_dir=speech, output_dir=tmp_path, teachers=specialists, num_train_epochs=2, **options)
    everyone = run.teachers.everyone
    assert len(everyone) == 3
    for teacher in everyone:
        assert not teacher.model.training
        assert all(value.grad is None and not value.requires_grad for value in teacher.model.parameters())
        assert fingerprint_of_weights(teacher.model) == teacher.fingerprint
    assert everyone[-1].fingerprint == before
    student = {name for name, _ in load_model(str(tmp_path)).named_parameters()}
    for folder in (tmp_path, *tmp_path.glob("checkpoint-*")):
        assert set(load_file(folder / "model.safetensors")) == student, folder
    assert not (tmp_path / "distillation_projections.safetensors").exists()
    largest = max(file.stat().st_size for file in tmp_path.rglob("*") if file.suffix == ".safetensors")
    parameters = sum(value.numel() for value in weights(tmp_path).values())
    assert largest < 4 * parameters + 4096
    optimised = {id(value) for group in run.trainer.optimizer.param_groups for value in group["params"]}
    assert not optimised & {id(value) for teacher in everyone for value in teacher.model.parameters()}


def test_projections_are_trained_and_only_kept_for_resuming(
    speech: Path, specialists: list[str], tmp_path: Path
) -> None:
    run = do_run(data_dir=speech, output_dir=tmp_path, teachers=specialists, num_train_epochs=2, **HIDDEN)
    first, second = (
        load_file(tmp_path / f"checkpoint-{step}" / "distillation_projections.safetensors") for step in (6, 12)
    )
    assert {name.split(".", 1)[0] for name in first} == {"distillation_projections"}
    assert {tuple(value.shape) for value in first.values()} == {(32, 16), (32,)}  # student 2 x 8, teacher 2 x 16
    assert largest_difference(first, second) > 1e-3
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["model"]["parameters"] == sum(value.numel() for value in weights(tmp_path).values())
    assert not any("projections" in name for name in run.student.state_dict())


@pytest.mark.parametrize("extra", [{}, HIDDEN], ids=["soft targets", "hidden states too"])
def test_cached_float32_targets_train_the_same_student_bit_for_bit(
    extra: dict[str, Any], speech: Path, specialists: list[str], tmp_path: Path
) -> None:
    """Batches of one for teacher and student: then a live teacher hears what it heard when it was cached."""
    options = {"data_dir": speech, "teachers": specialists, "num_train_epochs": 2, "per_device_eval_batch_size": 1}
    options |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, **extra}
    stored = {"cache_dtype": "float32", "cache_hidden_layers": [0] if extra else None, "cache_shard_size": 5}
    live = do_run(output_dir=tmp_path / "live", **options)
    folder = cache(tmp_path / "targets", output_dir=tmp_path / "unused", **options, **stored)
    cached = do_run(output_dir=tmp_path / "cached", teacher_cache=folder, **options, **stored)
    assert isinstance(cached.teachers, CachedTeachers) and not isinstance(live.teachers, CachedTeachers)
    assert largest_difference(weights(tmp_path / "live"), weights(tmp_path / "cached")) == 0.0
    assert not (tmp_path / "unused").exists()


def test_float16_targets_and_other_batches_train_nearly_the_same_student(
    speech: Path, specialists: list[str], tmp_path: Path
) -> None:
    options = {"data_dir": speech, "num_train_epochs": 3, "optim": "sgd", "learning_rate": 0.05}
    stored = {"cache_dtype": "float16", "cache_shard_size": 10}
    live = do_run(output_dir=tmp_path / "live", teachers=specialists, **options)
    start = dict(live.student.state_dict())
    folder = cache(tmp_path / "targets", output_dir=tmp_path / "unused", teachers=specialists, **options, **stored)
    # Without the teachers' folders: the store alone is enough.
    cached = do_run(output_dir=tmp_path / "cached", teacher_cache=folder, **options)
    assert start and cached.teachers.reader.manifest.dtype == "float16"
    difference = largest_difference(weights(tmp_path / "live"), weights(tmp_path / "cached"))
    assert 0.0 < difference < 1e-3
    losses = [logged(tmp_path / name, "loss_ctc_kd") for name in ("live", "cached")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    named = json.loads((tmp_path / "cached" / "results.json").read_text())
    assert [teacher["name"] for teacher in named["teachers"]] == [entry.split("=")[1] for entry in specialists]


def test_every_part_is_logged_and_milestones_change_the_temperature(
    speech: Path, specialists: list[str], tmp_path: Path
) -> None:
    seen: list[tuple[float, float]] = []

    def listen(run: Any) -> None:
        loss = next(item.loss for item in run.trainer.losses if item.name == "ctc_kd")
        original = type(loss).__call__

        class Heard(type(loss)):
            def __call__(self, output: Any, signal: Any, batch: Any, temperature: float = 1.0) -> torch.Tensor:
                seen.append((run.trainer.state.epoch or 0.0, temperature))
                return original(self, output, signal, batch, temperature)

        loss.__class__ = Heard

    do_run(
        listen,
        data_dir=speech,
        output_dir=tmp_path,
        teachers=specialists,
        num_train_epochs=4,
        temperature=4.0,
        temperature_milestones={"1": 3.5, "3": 2.5},
        alpha=0.5,
        beta=0.3,
        frame_selection="threshold",
        blank_threshold=0.9,
        report_to="tensorboard",
        **HIDDEN,
    )
    assert [temperature for _, temperature in seen] == [4.0] * 6 + [3.5] * 12 + [2.5] * 6
    assert [epoch for epoch, _ in seen[::6]] == [0, 1, 2, 3]
    assert logged(tmp_path, "temperature") == [4.0, 3.5, 3.5, 2.5]
    series = {name: logged(tmp_path, name) for name in PARTS}
    assert all(len(values) == 4 for values in series.values()), series
    for loss, ctc, soft, hidden in zip(*(series[name] for name in PARTS[:4]), strict=True):
        assert loss == pytest.approx(0.3 * ctc + 0.5 * soft + 0.2 * hidden, rel=1e-4)
    assert all(0 < ratio < 1 for ratio in series["valid_frame_ratio"])
    assert logged(tmp_path, "eval_wer") and logged(tmp_path, "eval_wra")

    (events,) = (tmp_path / "tensorboard").glob("events.out.tfevents.*")
    board = EventAccumulator(str(events)).Reload()
    for name, values in series.items():
        found = [event.value for event in board.Scalars(f"train/{name}")]
        assert found == pytest.approx(values), name
    assert [event.step for event in board.Scalars("train/temperature")] == [6, 12, 18, 24]
    assert {"eval/wer", "eval/wra", "eval/loss"} <= set(board.Tags()["scalars"])


def test_logged_parts_are_means_over_utterances_not_over_batches(speech: Path, tmp_path: Path) -> None:
    """24 utterances in batches of 10, 10 and 4, with weights that do not move."""
    run = do_run(data_dir=speech, output_dir=tmp_path, per_device_train_batch_size=10, learning_rate=0.0)
    (logged_ctc,) = logged(tmp_path, "loss_ctc")
    items, collate = run.trainer.train_dataset, run.trainer.data_collator
    model = load_model(str(tmp_path))
    losses = []
    for index in range(len(items)):
        batch = collate([items[index]])
        output = model(batch["input_features"], attention_mask=batch["attention_mask"], labels=batch["labels"])
        losses.append(output.loss.item())
    assert logged_ctc == pytest.approx(sum(losses) / 24, rel=1e-5)


def test_a_pure_kd_run_announces_itself(
    speech: Path, specialists: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        do_run(data_dir=speech, output_dir=tmp_path / "both", teachers=specialists)
        assert "PURE KD" not in caplog.text
        do_run(data_dir=speech, output_dir=tmp_path / "pure", teachers=specialists, alpha=1.0, beta=0.0)
    (warning,) = (record for record in caplog.records if "PURE KD" in record.getMessage())
    assert warning.levelno == logging.WARNING
    assert "the student learns nothing that its teachers do not say" in warning.getMessage()
    assert logged(tmp_path / "pure", "loss_ctc") == []
    assert logged(tmp_path / "pure", "eval_loss"), "dev is scored against the labels even so"


def test_workers_read_the_cached_targets_that_the_step_would_read(
    speech: Path, specialists: list[str], tmp_path: Path
) -> None:
    """With loader workers, without, and asked for in the step: one training."""
    options = {"data_dir": speech, "teachers": specialists, "num_train_epochs": 2, "cache_hidden_layers": [0], **HIDDEN}
    options |= {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    targets = cache(tmp_path / "targets", output_dir=tmp_path / "cached", **options)
    states = []
    for workers, in_step in ((0, False), (2, False), (0, True)):
        folder = tmp_path / f"{workers}{in_step}"
        run = assemble(output_dir=folder, teacher_cache=targets, dataloader_num_workers=workers, **options)
        batch = next(iter(run.trainer.get_train_dataloader()))
        assert set(batch[SIGNAL].hidden_states) == {0} and batch[SIGNAL].log_probs.shape[0] == len(batch["ids"])
        if in_step:
            run.trainer.get_train_dataloader = partial(Trainer.get_train_dataloader, run.trainer)
        run.trainer.train()
        states.append(dict(run.trainer.model.state_dict()))
    assert largest_difference(states[0], states[1]) == largest_difference(states[0], states[2]) == 0.0
