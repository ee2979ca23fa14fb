"""Best-path decoding against known outputs and a loop written out."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest

from kd_asr_slr.decoding.greedy import collapse, greedy_decode, greedy_decode_batch
from kd_asr_slr.errors import UserError


def best_path_by_loop(scores: np.ndarray, blank: int) -> list[int]:
    return [label for label, _ in groupby(int(row.argmax()) for row in scores) if label != blank]


@pytest.mark.parametrize("name", ["iam_line", "iam_word"])
def test_handwriting_outputs(handwriting, expected, name):
    log_probs, tokens, blank = handwriting(name)
    decoded = greedy_decode(log_probs, blank)
    assert "".join(tokens[index] for index in decoded) == expected[name]["best_path"]


def test_mini(expected):
    case = expected["mini"]
    assert greedy_decode(case["probs"], case["blank"]) == []
    assert case["best_path"] == ""


def test_parlance_sequences_as_a_batch(expected):
    case = expected["parlance"]
    scores = np.log(np.array([case["seq1"], case["seq2"]]))
    decoded = greedy_decode_batch(scores, [6, 6], case["blank"])
    assert ["".join(case["vocab"][index] for index in ids) for ids in decoded] == case["greedy"]


@pytest.mark.parametrize("seed", range(30))
def test_batch_equals_loop_whatever_the_padding(seed):
    rng = np.random.default_rng(seed)
    batch, frames, tokens = rng.integers(1, 6), rng.integers(0, 12), rng.integers(2, 5)
    blank = int(rng.integers(tokens))
    scores = rng.normal(size=(batch, frames, tokens))
    lengths = rng.integers(0, frames + 1, size=batch)
    wanted = [best_path_by_loop(row[:length], blank) for row, length in zip(scores, lengths, strict=True)]
    assert greedy_decode_batch(scores, lengths, blank) == wanted
    for row, length in zip(scores, lengths, strict=True):
        row[length:] = np.nan  # padding may hold anything
    assert greedy_decode_batch(scores, lengths, blank) == wanted


def test_logits_and_log_probs_agree(random_log_probs):
    log_probs = random_log_probs(0, 20, 6)
    shifts = np.random.default_rng(1).normal(size=(20, 1))
    assert greedy_decode(log_probs, 0) == greedy_decode(log_probs + shifts, 0)


def test_edges():
    assert greedy_decode(np.empty((0, 3)), 0) == []
    assert greedy_decode([[0.0, 1.0]], 0) == [1]
    assert greedy_decode([[1.0, 0.0]] * 5, 0) == []
    assert greedy_decode([[0.5, 0.5, 0.5]], 2) == [0]  # ties: the lowest index
    assert greedy_decode([[-np.inf, 0.0]], 0) == [1]
    assert greedy_decode_batch(np.empty((0, 4, 3)), [], 0) == []


def test_collapse_keeps_repeats_across_blanks():
    assert collapse([1, 1, 0, 1, 2, 2, 0, 0, 2], blank=0) == [1, 1, 2, 2]
    assert collapse([], blank=0) == []
    with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
        collapse([[1, 2]], blank=0)


def test_nan_is_refused():
    with pytest.raises(UserError, match="1 of 4 output scores are NaN"):
        greedy_decode([[0.0, np.nan], [0.0, 1.0]], 0)


@pytest.mark.parametrize(
    ("scores", "lengths", "blank", "message"),
    [
        (np.zeros((2, 3)), [3, 3], 0, "three dimensions"),
        (np.zeros((2, 3, 4)), [3], 0, r"expected \(2,\)"),
        (np.zeros((2, 3, 4)), [3, 4], 0, "lengths from 3 to 4; the batch has 3 frames"),
        (np.zeros((2, 3, 4)), [3, 3], 4, "blank index 4; expected 0 to 3"),
    ],
)
def test_shapes_that_do_not_fit(scores, lengths, blank, message):
    with pytest.raises(ValueError, match=message):
        greedy_decode_batch(scores, lengths, blank)
