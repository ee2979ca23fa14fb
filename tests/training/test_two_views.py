"""Training on two masked views: what the student and the teachers hear, and one gradient however the batch is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_runs import GRADIENT_DESCENT, TRAINED, assemble, cache, do_run, largest_difference, logged, recipe, weights

from kd_asr_slr.errors import UserError
from kd_asr_slr.losses.table import build_losses
from kd_asr_slr.outputs import TeacherSignal
from kd_asr_slr.teachers.cached import CachedTeachers
from kd_asr_slr.training.settings import label_settings, loss_settings
from kd_asr_slr.training.two_views import both_views, repeated

CONSISTENCY = {"consistency_weight": 0.2, "augmentation": ["spec_augment"]}
NO_CHECKPOINTS = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}


def test_an_item_has_two_masked_views_and_its_unmasked_features(speech: Path, tmp_path: Path) -> None:
    run = assemble(data_dir=speech, output_dir=tmp_path, **CONSISTENCY)
    plain = assemble(data_dir=speech, output_dir=tmp_path).trainer.train_dataset
    masked = assemble(data_dir=speech, output_dir=tmp_path, augmentation=["spec_augment"]).trainer.train_dataset
    items, name = run.trainer.train_dataset, run.processor.fingerprint
    for index in (0, 5):
        first, second = (torch.as_tensor(items[index][key]) for key in ("input_features", "second_view"))
        clean = torch.as_tensor(items[index]["views"][name]["input_features"].copy())
        assert torch.equal(clean, torch.as_tensor(plain[index]["input_features"].copy()))
        assert torch.equal(first, torch.as_tensor(masked[index]["input_features"]))  # as without the second
        for view in (first, second):  # each is the recording, but for its own masks
            assert 0 < (view == 0).float().mean() < 0.9
            assert ((view == clean) | (view == 0)).all()
        assert not torch.equal(first, second)
        assert torch.equal(second, torch.as_tensor(items[index]["second_view"]))
        items.set_epoch(1)
        assert not torch.equal(second, torch.as_tensor(items[index]["second_view"]))
        items.set_epoch(0)
    batch = run.trainer.data_collator([items[0], items[7]])
    assert batch["second_view"].shape == batch["input_features"].shape
    assert "second_view" not in run.trainer.eval_dataset[0] and "second_view" not in plain[0]


@pytest.mark.parametrize("steps", [1, 4])
def test_one_step_by_hand(steps: int, speech: Path, tmp_path: Path) -> None:
    """The mean over utterances of (CTC + CTC') / 2 + 0.2 * (KL + KL') / 2, view by view, utterance by utterance."""
    options = {"data_dir": speech, "max_steps": 1, "per_device_train_batch_size": 4 // steps, **CONSISTENCY}
    options |= GRADIENT_DESCENT | NO_CHECKPOINTS
    run = assemble(output_dir=tmp_path, gradient_accumulation_steps=steps, **options)
    seen: list[dict[str, Any]] = []
    collate = run.trainer.data_collator
    run.trainer.data_collator = lambda items: seen.extend(items) or collate(items)
    twin = assemble(output_dir=tmp_path, **options).student.train()
    run.trainer.train()
    for item in seen[:4]:  # the loader fetches one batch ahead
        inputs = [torch.as_tensor(item[key])[None] for key in ("input_features", "second_view")]
        views = [twin(view, labels=torch.tensor([item["labels"]])) for view in inputs]
        frames = [view.logits[0].log_softmax(-1) for view in views]
        kl = sum(
            F.kl_div(frames[own], frames[1 - own].detach(), reduction="sum", log_target=True) / len(item["labels"])
            for own in (0, 1)
        )
        ((views[0].loss + views[1].loss + 0.2 * kl) / 2 / 4).backward()
    for name, value in twin.named_parameters():
        stepped = value - GRADIENT_DESCENT["learning_rate"] * value.grad
        torch.testing.assert_close(run.student.state_dict()[name], stepped.detach(), atol=1e-5, rtol=1e-5)


def test_micro_batches_give_the_weights_of_whole_batches(speech: Path, specialists: list[str], tmp_path: Path) -> None:
    """Batches of 10: the last has 4 utterances."""
    options = {"data_dir": speech, "teachers": specialists, **CONSISTENCY, **GRADIENT_DESCENT, **NO_CHECKPOINTS}
    after = []
    for size, steps in ((10, 1), (2, 5)):
        cut = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps}
        run = assemble(output_dir=tmp_path / str(size), **cut, **options)
        before = {name: value.clone() for name, value in run.student.state_dict().items()}
        run.trainer.train()
        assert run.trainer.state.global_step == -(-TRAINED // 10)
        after.append(dict(run.student.state_dict()))
    assert largest_difference(before, after[0]) > 1e-2
    assert largest_difference(*after) < 1e-5


def test_teachers_hear_each_utterance_once_and_unmasked_live_or_cached(
    speech: Path, specialists: list[str], tmp_path: Path
) -> None:
    """A cache knows the unmasked recording only: the student is the same bit for bit if a live teacher hears it too."""
    heard: list[torch.Tensor] = []

    def listen(run: Any) -> None:
        for teacher in run.teachers.teachers:
            teacher.model.register_forward_pre_hook(
                lambda _, args, kwargs: heard.append(kwargs["input_features"]), with_kwargs=True
            )

    options = {"data_dir": speech, "teachers": specialists, "per_device_eval_batch_size": 1, **CONSISTENCY}
    options |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    stored = {"cache_dtype": "float32", "cache_shard_size": 5}
    live = do_run(listen, output_dir=tmp_path / "live", **options)
    assert [len(values) for values in heard] == [1] * TRAINED
    assert all((values != 0).any(-1).all() and (values != 0).any(1).all() for values in heard)
    folder = cache(tmp_path / "targets", output_dir=tmp_path / "unused", **options, **stored)
    cached = do_run(output_dir=tmp_path / "cached", teacher_cache=folder, **options, **stored)
    assert isinstance(cached.teachers, CachedTeachers) and not isinstance(live.teachers, CachedTeachers)
    assert largest_difference(weights(tmp_path / "live"), weights(tmp_path / "cached")) == 0.0
    parts = {
        name: logged(tmp_path / "live", name)[0] for name in ("loss", "loss_ctc", "loss_ctc_kd", "loss_consistency")
    }
    total = 0.3 * parts["loss_ctc"] + 0.7 * parts["loss_ctc_kd"] + 0.2 * parts["loss_consistency"]
    assert parts["loss"] == pytest.approx(total, rel=1e-4) and parts["loss_consistency"] > 0


def test_a_doubled_batch_and_its_signal() -> None:
    batch = {
        "input_features": torch.zeros(2, 3, 1),
        "second_view": torch.ones(2, 3, 1),
        "attention_mask": torch.tensor([[1, 1, 1], [1, 0, 0]]),
        "labels": torch.tensor([[4], [5]]),
        "ids": ["a", "b"],
        "counted": torch.tensor([1, 0]),
        "views": {"teacher": {"input_features": torch.zeros(2, 9, 4)}},
    }
    states = {0: torch.arange(2.0).view(2, 1, 1)}
    signal = TeacherSignal(
        torch.arange(2.0).view(2, 1, 1), torch.tensor([3, 1]), "v", 0.04, torch.ones(2), hidden_states=states
    )
    doubled, said = both_views(batch, signal, "input_features")
    assert doubled["ids"] == ["a", "b", "a", "b"] and doubled["labels"].flatten().tolist() == [4, 5, 4, 5]
    assert doubled["input_features"][:, 0, 0].tolist() == [0, 0, 1, 1] and doubled["counted"].tolist() == [1, 0, 1, 0]
    assert doubled["attention_mask"].sum(1).tolist() == [3, 1, 3, 1] and "views" not in doubled
    assert said.log_probs.flatten().tolist() == said.hidden_states[0].flatten().tolist() == [0, 1, 0, 1]
    assert (said.lengths.tolist(), said.vocabulary, said.decoder_log_probs) == ([3, 1, 3, 1], "v", None)
    assert repeated(signal).weight.tolist() == [1.0] * 4 and signal.weight.tolist() == [1.0] * 2
    del batch["second_view"]
    assert both_views(batch, signal, "input_features") == (batch, signal)


def test_views_without_masks_are_refused(speech: Path, tmp_path: Path) -> None:
    options = {"data_dir": speech, "output_dir": tmp_path / "run", "consistency_weight": 0.2}
    words = "augmentation has no spec_augment; two views without masks are identical"
    with pytest.raises(UserError, match=words):
        do_run(**options, augmentation=["gain"])
    assert not (tmp_path / "run").exists()


def test_evaluation_hears_one_view(speech: Path, tmp_path: Path) -> None:
    settings = loss_settings(assemble(data_dir=speech, output_dir=tmp_path, **CONSISTENCY).training)
    assert settings.consistency_weight == 0.2
    assert [part.name for part in build_losses(label_settings(settings), blank_id=0)] == ["ctc"]


@pytest.mark.slow
def test_two_processes_train_the_student_of_one(speech: Path, specialists: list[str], tmp_path: Path) -> None:
    """12 utterances in batches of 5 leave 2: accelerate fills both processes' last batches up; that must not count."""
    options = {**GRADIENT_DESCENT, **CONSISTENCY, "teachers": specialists, "train_speakers": ["s01"]}
    do_run(data_dir=speech, output_dir=tmp_path / "one", per_device_train_batch_size=10, **options)
    sizes = {"per_device_train_batch_size": 5, "expected_processes": 2}
    two = recipe("distill", processes=2, data_dir=speech, output_dir=tmp_path / "two", **sizes, **options)
    assert two.returncode == 0, two.stderr[-3000:]
    assert largest_difference(weights(tmp_path / "one"), weights(tmp_path / "two")) < 1e-5
