"""The curriculum: who is drawn when, what is difficult, and that runs with it can be taken up again."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from test_resume import Killed, same_students, stop_after
from tiny_runs import TRAINED, assemble, cache, do_run, largest_difference, recipe, weights

from kd_asr_slr.arguments import DistillationArguments
from kd_asr_slr.errors import UserError
from kd_asr_slr.outputs import TeacherSignal
from kd_asr_slr.training.curriculum import CurriculumSampler, competence, difficulty_of, mean_entropy, wers_of

LINEAR = {"curriculum": "linear", "curriculum_epochs": 2, "curriculum_start": 0.25}


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("linear", [0.3, 0.475, 0.65, 0.825, 1.0, 1.0]),
        ("sqrt", [0.3, math.sqrt(0.3175), math.sqrt(0.545), math.sqrt(0.7725), 1.0, 1.0]),
        ("step", [0.3, 0.3, 0.3, 0.3, 1.0, 1.0]),
    ],
)
def test_competence_grows_to_one(name: str, shares: list[float]) -> None:
    assert [competence(name, epoch, 4, 0.3) for epoch in range(6)] == pytest.approx(shares)


def test_the_easiest_are_drawn_evenly_until_the_epoch_is_full() -> None:
    difficulty = [0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 0.6, 0.4, 0.8, 0.0]
    sampler = CurriculumSampler(difficulty, lambda epoch: 0.3 if epoch == 0 else 1.0, seed=5)
    drawn = list(sampler)
    assert Counter(drawn).keys() == {9, 1, 5} and set(Counter(drawn).values()) == {3, 4}
    assert len(sampler) == len(drawn) == 10
    again = CurriculumSampler(difficulty, lambda epoch: 0.3 if epoch == 0 else 1.0, seed=5)
    assert list(again) == drawn == list(sampler)
    orders = []
    for epoch in (1, 2):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10)) and orders[0] != orders[1]
    assert list(CurriculumSampler(difficulty, lambda epoch: 1e-6, seed=5)) == [9] * 10


def test_difficulty_by_hand() -> None:
    """WERs 0.2 to 0.6 and entropies 1 to 3 become 0 to 1."""
    assert difficulty_of([0.2, 0.4, 0.6], [3.0, 1.0, 2.0]) == pytest.approx([0.4, 0.3, 0.8])
    assert difficulty_of([0.5, 0.5], [1.0, 2.0]) == pytest.approx([0.0, 0.4])


def test_entropy_is_the_mean_over_valid_frames() -> None:
    probabilities = torch.tensor([[[0.25] * 4, [1.0, 0, 0, 0], [0.5, 0.5, 0, 0]], [[0.5, 0.5, 0, 0]] * 3])
    signal = TeacherSignal(
        log_probs=probabilities.log(), lengths=torch.tensor([2, 3]), vocabulary="v", frame_seconds=0.02, weight=None
    )
    assert mean_entropy(signal).tolist() == pytest.approx([math.log(4) / 2, math.log(2)])


def told(*teachers: tuple[Path, list[str]]) -> Any:
    described = [{"name": str(name), "speakers": speakers} for name, speakers in teachers]
    return SimpleNamespace(describe=lambda: {"teachers": described, "generalist": None})


def with_dev(folder: Path, **wers: float) -> Path:
    """A run folder that says nothing but the dev WER of its speakers."""
    folder.mkdir()
    by_speaker = {f"c/{name}": {"wer": wer, "wra": 0.5, "reference_tokens": 10} for name, wer in wers.items()}
    zeros = dict.fromkeys(("substitutions", "deletions", "insertions", "wer", "wra"), 0)
    score = {"split": "dev", "decoder": "greedy", "lm": None, "protocol": "words", "reference_tokens": 10 * len(wers)}
    score |= {**zeros, "utterances": 10 * len(wers), "wer_ci95": [0.0, 1.0], "by_speaker": by_speaker}
    results = {"schema": 1, "name": "a", "recipe": "train", "corpus": "c", "teachers": [], "seed": 0}
    results |= {"model": {"type": "bilstm", "parameters": 1, "bytes": 1}, "scores": [score]}
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def test_the_wer_of_a_speaker_is_that_of_the_own_teacher_first(tmp_path: Path) -> None:
    own, general = with_dev(tmp_path / "own", ann=0.1), with_dev(tmp_path / "all", ann=0.5, bob=0.3)
    baseline = with_dev(tmp_path / "baseline", ann=0.9, bob=0.9, cy=0.8)
    names = ["c/ann", "c/bob", "c/cy", "c/dee"]
    rows = Dataset.from_dict({"speaker": names, "untranscribed": [False, False, False, True]})
    teachers = told((own, ["c/ann"]), (general, []))
    wers = wers_of(rows, teachers, str(baseline))
    assert wers == pytest.approx({"c/ann": 0.1, "c/bob": 0.3, "c/cy": 0.8, "c/dee": 0.4})  # the mean of the others
    with pytest.raises(UserError, match="no WER on dev of c/cy") as caught:
        wers_of(rows, teachers, None)
    assert "--baseline_run" in str(caught.value) and "c/dee" not in str(caught.value)


def drawn_in(run: SimpleNamespace) -> list[list[str]]:
    """The ids that each epoch of a training draws."""
    epochs: list[list[str]] = []
    sampler, draw = run.trainer.sampler, type(run.trainer.sampler).__iter__

    class Watched(type(sampler)):
        def __iter__(self) -> Any:
            indices = list(draw(self))
            epochs.append([run.trainer.train_dataset.rows[index]["id"] for index in indices])
            return iter(indices)

    sampler.__class__ = Watched
    run.trainer.train()
    return epochs


def test_live_and_cached_teachers_draw_the_same_easy_utterances(
    speech: Path, specialists: list[str], tmp_path: Path
) -> None:
    options = {"data_dir": speech, "teachers": specialists, "num_train_epochs": 3, "cache_dtype": "float32", **LINEAR}
    live = assemble(output_dir=tmp_path / "live", **options)
    cache(tmp_path / "targets", output_dir=tmp_path / "cached", **options)
    cached = assemble(output_dir=tmp_path / "cached", teacher_cache=tmp_path / "targets", **options)
    assert live.trainer.sampler.difficulty == pytest.approx(cached.trainer.sampler.difficulty, abs=1e-5)
    first, second, third = drawn_in(live)
    assert live.trainer.state.global_step == 3 * TRAINED // 4  # as without a curriculum
    ids = live.trainer.train_dataset.rows["id"]
    easiest = sorted(range(TRAINED), key=live.trainer.sampler.difficulty.__getitem__)
    assert set(first) == {ids[index] for index in easiest[: TRAINED // 4]}
    assert set(Counter(first).values()) == {4}
    assert set(second) == {ids[index] for index in easiest[: math.ceil(0.625 * TRAINED)]}
    assert sorted(third) == sorted(ids)


@pytest.mark.parametrize("killed_at", [3, 9])
def test_a_run_taken_up_draws_on(killed_at: int, speech: Path, specialists: list[str], tmp_path: Path) -> None:
    options = {"data_dir": speech, "teachers": specialists, "num_train_epochs": 3, **LINEAR}
    options |= {"save_strategy": "steps", "eval_strategy": "steps", "save_steps": 2, "eval_steps": 2}
    do_run(output_dir=tmp_path / "whole", **options)
    with pytest.raises(Killed):
        do_run(stop_after(killed_at), output_dir=tmp_path / "cut", **options)
    do_run(output_dir=tmp_path / "cut", **options)
    assert same_students(tmp_path / "whole", tmp_path / "cut")
    last = [weights(tmp_path / name / "checkpoint-18") for name in ("whole", "cut")]
    assert largest_difference(*last) == 0.0


def test_what_a_curriculum_lacks_is_named(speech: Path, generalist: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="curriculum is 'linear' and nobody teaches"):
        assemble(data_dir=speech, output_dir=tmp_path / "labels", **LINEAR)
    silent = tmp_path / "silent"
    shutil.copytree(generalist, silent, ignore=shutil.ignore_patterns("results.json", "checkpoint-*"))
    options = {"data_dir": speech, "output_dir": tmp_path / "run", "teachers": [str(silent)], **LINEAR}
    with pytest.raises(UserError, match="the curriculum has no WER on dev of"):
        assemble(**options)
    assert assemble(**options, baseline_run=generalist).trainer.sampler is not None


def test_values_that_cannot_be_used(tmp_path: Path) -> None:
    arguments = DistillationArguments(
        output_dir=str(tmp_path),
        report_to="none",
        curriculum="square",
        curriculum_epochs=0,
        curriculum_start=0.0,
        train_sampling_strategy="group_by_length",
    )
    text = " ".join(arguments.problems())
    for part in ("curriculum is 'square'", "curriculum_epochs is 0", "curriculum_start is 0.0", "needs random"):
        assert part in text


@pytest.mark.slow
def test_two_processes_draw_as_one(speech: Path, specialists: list[str], tmp_path: Path) -> None:
    plain = {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0, "data_dir": speech, "num_train_epochs": 2}
    plain |= {"teachers": specialists, **LINEAR}
    one = do_run(output_dir=tmp_path / "one", per_device_train_batch_size=8, **plain)
    two = recipe("distill", processes=2, output_dir=tmp_path / "two", per_device_train_batch_size=4, **plain)
    assert two.returncode == 0, two.stderr[-3000:]
    last = [weights(tmp_path / name / f"checkpoint-{one.trainer.state.global_step}") for name in ("one", "two")]
    assert largest_difference(*last) < 1e-5
