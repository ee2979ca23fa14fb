"""The CTC probability of every word of a list, against torch, enumeration and the numbers of others."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
import torch
from torch.nn import functional

from kd_asr_slr.decoding.closed import LabelSequences
from kd_asr_slr.errors import UserError


def by_torch(log_probs: np.ndarray, sequences: list[list[int]], blank: int) -> np.ndarray:
    """The same log-probabilities by torch's CTC loss, one sequence after the other."""
    frames = torch.tensor(log_probs)[:, None]  # [T, 1, V]
    losses = [
        functional.ctc_loss(
            frames, torch.tensor([labels], dtype=torch.long), [len(frames)], [len(labels)], blank, reduction="sum"
        )
        for labels in sequences
    ]
    return -torch.stack(losses).numpy()


def some_sequences(seed: int, count: int, tokens: int, blank: int, longest: int) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    labels = [index for index in range(tokens) if index != blank]
    return [generator.choice(labels, generator.integers(1, longest + 1)).tolist() for _ in range(count)]


@pytest.mark.parametrize(
    ("seed", "frames", "tokens", "blank"), [(0, 1, 3, 0), (1, 7, 4, 3), (2, 25, 6, 2), (3, 60, 30, 0)]
)
def test_every_sequence_has_the_probability_that_torch_gives_it(
    random_log_probs, seed: int, frames: int, tokens: int, blank: int
) -> None:
    log_probs = random_log_probs(seed, frames, tokens)
    sequences = some_sequences(seed, 40, tokens, blank, longest=9)
    found = LabelSequences(sequences, blank, tokens).log_probs(log_probs)
    wanted = by_torch(log_probs, sequences, blank)
    assert np.array_equal(np.isneginf(found), np.isneginf(wanted))
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    if frames == 7:
        assert np.isneginf(found).any() and np.isfinite(found).any()  # repeats and length that do not fit, and others


def test_all_sequences_together_are_certain(random_log_probs) -> None:
    log_probs = random_log_probs(5, 4, 3)
    everything = [list(labels) for length in range(5) for labels in itertools.product([0, 2], repeat=length)]
    assert np.exp(LabelSequences(everything, 1, 3).log_probs(log_probs)).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("sharpness", [30.0, 300.0])
def test_a_network_that_is_very_sure(random_log_probs, sharpness: float) -> None:
    """Probabilities far below the smallest number of float64 keep their order."""
    log_probs = random_log_probs(6, 60, 30, sharpness)
    sequences = some_sequences(6, 50, 30, 0, longest=12)
    found = LabelSequences(sequences, 0, 30).log_probs(log_probs)
    assert found.min() < -1500
    np.testing.assert_allclose(found, by_torch(log_probs, sequences, 0), rtol=1e-9)


def test_impossible_frames(random_log_probs) -> None:
    with np.errstate(divide="ignore"):
        log_probs = np.log([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert np.exp(LabelSequences([[1], [2], [1, 2], []], 0, 3).log_probs(log_probs)).tolist() == [1.0, 0.0, 0.0, 0.0]


def test_no_frames_leave_room_for_silence_only() -> None:
    assert LabelSequences([[], [1]], 0, 2).log_probs(np.zeros((0, 2))).tolist() == [0.0, -math.inf]


def test_449_words_of_a_second_take_milliseconds(random_log_probs, shared_data) -> None:
    """60 frames, words spelled with 29 characters; the bound is ten times what one core takes."""
    lines = (shared_data / "uaspeech" / "word_table.tsv").read_text().splitlines()[1:]
    words = sorted({line.split("\t")[2] for line in lines})
    assert len(words) == 449
    letters = sorted(set("".join(words)))
    closed = LabelSequences([[1 + letters.index(letter) for letter in word] for word in words], 0, 1 + len(letters))
    log_probs = random_log_probs(7, 60, 1 + len(letters))
    start = time.perf_counter()
    closed.log_probs(log_probs)
    assert time.perf_counter() - start < 0.25


def test_what_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="no label sequences"):
        LabelSequences([], 0, 3)
    with pytest.raises(ValueError, match="label 3; expected labels of 0 to 2 without the blank 0"):
        LabelSequences([[1], [3]], 0, 3)
    with pytest.raises(ValueError, match="label 0"):
        LabelSequences([[1, 0]], 0, 3)
    closed = LabelSequences([[1]], 0, 3)
    with pytest.raises(ValueError, match="sum to 1"):
        closed.log_probs([[1.0, 2.0, 3.0]])
    with pytest.raises(UserError, match="NaN"):
        closed.log_probs([[np.nan, 0.0, 0.0]])
