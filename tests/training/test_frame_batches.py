"""Batches by frames: the budget and the padding, on real lengths; runs with them over processes, and after a kill."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_resume import RANDOM, Killed, same_students, stop_after
from tiny_runs import GRADIENT_DESCENT, assemble, do_run, largest_difference, logged, parsed, recipe, weights

from kd_asr_slr.errors import UserError
from kd_asr_slr.training.frame_batches import FrameBatchSampler, build_frame_batches

BUDGET = 120  # of the tiny corpus, whose utterances have 23 to 31 frames: 6 batches


@pytest.fixture(scope="session")
def phoenix_lengths(shared_data: Path) -> np.ndarray:
    with (shared_data / "phoenix2014" / "train.num_frames.csv").open(encoding="utf-8") as file:
        return np.array([int(row["num_frames"]) for row in csv.DictReader(file)])


def test_padding_of_phoenix_at_about_24_utterances(phoenix_lengths: np.ndarray) -> None:
    """The bar is 15 %; the same budget in random batches of 24 pads 38 %."""
    budget = int(24 * phoenix_lengths.mean())
    sampler = FrameBatchSampler(phoenix_lengths, budget, seed=1)
    sizes, real, padded = [], 0, 0
    for batch in sampler:
        longest = max(phoenix_lengths[index] for index in batch)
        assert len(batch) * longest <= budget
        sizes.append(len(batch))
        real, padded = real + sum(phoenix_lengths[batch]), padded + len(batch) * longest
    assert 22 < np.mean(sizes) <= 25 and len(sizes) == len(sampler)
    assert 1 - real / padded == pytest.approx(sampler.padding)
    assert sampler.padding < 0.05
    shuffled = np.random.default_rng(0).permutation(len(phoenix_lengths))[: 24 * 236].reshape(-1, 24)
    lengths = phoenix_lengths[shuffled]
    assert 1 - lengths.sum() / (24 * lengths.max(1)).sum() > 0.35


def test_batches_of_phoenix_change_from_epoch_to_epoch(phoenix_lengths: np.ndarray) -> None:
    sampler = FrameBatchSampler(phoenix_lengths, 3400, seed=1)
    first, again = list(sampler), list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert first == again != second and len(first) == len(second) == len(sampler)
    assert not set(map(frozenset, first)) & set(map(frozenset, second))
    longest = [max(phoenix_lengths[batch]) for batch in first]
    assert abs(np.corrcoef(longest[1:], longest[:-1])[0, 1]) < 0.2  # long and short ones come in no order
    assert list(FrameBatchSampler(phoenix_lengths, 3400, seed=2)) != first


@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=60), st.integers(0, 800), st.integers(0, 3), st.integers(0, 3)
)
def test_every_utterance_once_within_the_budget(lengths: list[int], more: int, seed: int, epoch: int) -> None:
    budget = max(1, *lengths) + more
    sampler = FrameBatchSampler(lengths, budget, seed)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert len(batches) == len(sampler)
    assert all(batch and len(batch) * max(1, *(lengths[index] for index in batch)) <= budget for batch in batches)
    assert 0 <= sampler.padding < 1


@pytest.mark.filterwarnings("error")
def test_utterances_without_frames_are_left_to_preflight() -> None:
    """It names all of them (see `test_preflight`); here they take a frame of the budget each."""
    sampler = build_frame_batches([0, 9, 0, 0, 8], list("abcde"), 9, seed=0)
    assert sorted(map(sorted, sampler)) == [[0, 2, 3], [1], [4]] and sampler.padding == 0
    assert len(FrameBatchSampler([0] * 5, 2, seed=0)) == 3


def test_an_utterance_longer_than_the_budget_is_named() -> None:
    with pytest.raises(UserError, match="utterance 'b' has 31 frames.*--batch_frames 31"):
        build_frame_batches([10, 31], ["a", "b"], 30, seed=0)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("curriculum", "linear"),
        ("dataloader_drop_last", True),
        ("train_sampling_strategy", "sequential"),
        ("train_sampling_strategy", "group_by_length"),
    ],
)
def test_what_does_not_go_with_it_is_refused(option: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batch_frames"):
        parsed(output_dir=tmp_path, data_dir=tmp_path, batch_frames=BUDGET, **{option: value})
    with pytest.raises(UserError, match="batch_frames is -1"):
        parsed(output_dir=tmp_path, data_dir=tmp_path, batch_frames=-1)


@pytest.mark.parametrize("killed_at", [5, 9])
def test_a_run_taken_up_goes_on_with_the_same_batches(
    killed_at: int, speech: Path, specialists: list[str], tmp_path: Path
) -> None:
    options = {**RANDOM, "data_dir": speech, "teachers": specialists, "num_train_epochs": 3, "batch_frames": BUDGET}
    options |= {"save_strategy": "steps", "eval_strategy": "steps", "save_steps": 2, "eval_steps": 2}
    options |= {"logging_strategy": "steps", "logging_steps": 2}
    whole = do_run(output_dir=tmp_path / "whole", **options)
    assert whole.trainer.state.global_step == 3 * len(whole.trainer.sampler) > killed_at
    with pytest.raises(Killed):
        do_run(stop_after(killed_at), output_dir=tmp_path / "cut", **options)
    do_run(output_dir=tmp_path / "cut", **options)
    assert same_students(tmp_path / "whole", tmp_path / "cut")
    assert logged(tmp_path / "whole", "loss") == logged(tmp_path / "cut", "loss")


def test_accumulated_batches_weigh_every_utterance_alike(speech: Path, tmp_path: Path) -> None:
    """One step over all batches of an epoch is the step of one batch of everything."""
    options = {**GRADIENT_DESCENT, "data_dir": speech, "max_steps": 1, "eval_strategy": "no", "save_strategy": "no"}
    options |= {"load_best_model_at_end": False}
    cut = assemble(output_dir=tmp_path / "cut", batch_frames=BUDGET, gradient_accumulation_steps=99, **options)
    assert len({len(batch) for batch in cut.trainer.sampler}) > 1
    whole = assemble(output_dir=tmp_path / "whole", per_device_train_batch_size=99, **options)
    for run in (cut, whole):
        run.trainer.train()
    states = [dict(run.trainer.model.state_dict()) for run in (cut, whole)]
    assert largest_difference(*states) < 1e-5


@pytest.mark.slow
def test_two_processes_train_as_one_that_accumulates_two(speech: Path, tmp_path: Path) -> None:
    """Of 5 batches the last step has one; the other process gets one that has been, and does not count it."""
    options = {**GRADIENT_DESCENT, "data_dir": speech, "batch_frames": 140, "num_train_epochs": 2}
    one = do_run(output_dir=tmp_path / "one", gradient_accumulation_steps=2, **options)
    assert len(one.trainer.sampler) == 5
    two = recipe("train", processes=2, output_dir=tmp_path / "two", **options)
    assert two.returncode == 0, two.stderr[-3000:]
    assert largest_difference(weights(tmp_path / "one"), weights(tmp_path / "two")) < 1e-5
