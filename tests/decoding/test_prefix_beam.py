"""The plain prefix beam search against enumeration of every path, and against known outputs."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby, product

import numpy as np
import pytest

from kd_asr_slr.decoding.ngram_scorer import read_unigrams
from kd_asr_slr.decoding.prefix_beam import prefix_beam_decode, prefix_beam_search
from kd_asr_slr.errors import UserError


def enumerate_paths(log_probs: np.ndarray, blank: int) -> dict[tuple[int, ...], float]:
    """Probability of every label sequence, summed over all V ** T paths."""
    masses: dict[tuple[int, ...], float] = defaultdict(float)
    frames, tokens = log_probs.shape
    for path in product(range(tokens), repeat=frames):
        labels = tuple(label for label, _ in groupby(path) if label != blank)
        masses[labels] += float(np.exp(log_probs[range(frames), path].sum()))
    return dict(masses)


@pytest.mark.parametrize(("frames", "tokens"), [(0, 3), (1, 3), (1, 1), (2, 4), (4, 3), (5, 3), (5, 4), (7, 2)])
@pytest.mark.parametrize("blank", [0, -1])
def test_without_pruning_every_sequence_has_its_exact_probability(random_log_probs, frames, tokens, blank):
    blank %= tokens
    log_probs = random_log_probs(frames * 10 + tokens, frames, tokens)
    wanted = enumerate_paths(log_probs, blank)
    found = prefix_beam_search(log_probs, blank, beam_width=None)
    assert {tuple(ids): np.exp(score) for ids, score in found} == pytest.approx(wanted, rel=1e-9)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    assert tuple(found[0].token_ids) == max(wanted, key=lambda labels: wanted[labels])


@pytest.mark.parametrize("seed", range(10))
def test_impossible_tokens(random_log_probs, log_softmax, seed):
    log_probs = random_log_probs(seed, 4, 4)
    log_probs[np.random.default_rng(seed).random((4, 4)) < 0.4] = -np.inf
    log_probs[:, 1] = np.maximum(log_probs[:, 1], -3.0)
    log_probs = log_softmax(log_probs)
    wanted = {labels: mass for labels, mass in enumerate_paths(log_probs, 0).items() if mass > 0}
    found = prefix_beam_search(log_probs, 0, beam_width=None)
    assert {tuple(ids): np.exp(score) for ids, score in found} == pytest.approx(wanted, rel=1e-9)


def test_mini(expected):
    case = expected["mini"]
    with np.errstate(divide="ignore"):
        found = prefix_beam_search(np.log(case["probs"]), case["blank"])
    texts = {"".join(case["chars"][index] for index in ids): np.exp(score) for ids, score in found}
    assert texts == pytest.approx({case["beam_search"]: case["p_a"], "": case["p_empty"]})
    assert found[0].token_ids == [case["chars"].index(case["beam_search"])]


def test_handwriting_line(handwriting, expected):
    log_probs, tokens, blank = handwriting("iam_line")
    decoded = prefix_beam_decode(log_probs, blank, beam_width=25)
    assert "".join(tokens[index] for index in decoded) == expected["iam_line"]["beam_search"]


def test_parlance_at_its_beam_width(expected):
    case = expected["parlance"]
    for name, wanted in zip(("seq1", "seq2"), case["beam"], strict=True):
        decoded = prefix_beam_decode(np.log(case[name]), case["blank"], case["beam_width"])
        assert "".join(case["vocab"][index] for index in decoded) == wanted


def test_parlance_within_the_words_of_a_language_model(expected, shared_data):
    """That decoder's language model (weight 0) admits only sentences of the model's words, single blanks between."""
    case = expected["parlance"]
    words = read_unigrams(shared_data / "kenlm" / "kenlm_test.arpa")
    found = prefix_beam_search(np.log(case["seq2"]), case["blank"], beam_width=None)
    texts = ["".join(case["vocab"][index] for index in ids) for ids, _ in found]
    admitted = [text for text in texts if set(text.removesuffix(" ").split(" ")) <= words]
    assert admitted[0] == case["beam_seq2_with_kenlm_test.arpa"]


def test_libri_sentence(libri, expected):
    log_probs, tokens, blank = libri
    decoded = prefix_beam_decode(log_probs, blank, beam_width=10)
    assert "".join(tokens[index] for index in decoded) == expected["libri"]["beam_search_no_lm"]


def test_all_blank_and_ties():
    with np.errstate(divide="ignore"):
        blanks = np.log([[1.0, 0.0, 0.0]] * 6)
    assert prefix_beam_search(blanks, 0) == [([], 0.0)]
    even = np.log(np.full((1, 3), 1 / 3))
    assert [ids for ids, _ in prefix_beam_search(even, 0)] == [[], [1], [2]]


def test_a_wider_beam_finds_at_least_the_same_mass(random_log_probs):
    log_probs = random_log_probs(3, 12, 5, sharpness=1.0)
    best = [prefix_beam_search(log_probs, 0, width)[0].log_prob for width in (1, 4, 16, 256)]
    assert best == sorted(best)
    assert best[0] < best[-1]


@pytest.mark.parametrize(
    ("log_probs", "error", "message"),
    [
        (np.zeros((2, 3)), ValueError, "row 0 has a probability mass of 3"),
        (np.full((2, 2), 0.5), ValueError, "apply log_softmax"),
        (np.zeros(3), ValueError, r"expected two dimensions \[T, V\]"),
        (np.array([[0.0, np.nan]]), UserError, "1 of 2 output scores are NaN"),
    ],
)
def test_what_is_no_log_probability_is_refused(log_probs, error, message):
    with pytest.raises(error, match=message):
        prefix_beam_search(log_probs, 0)


def test_blank_and_width_are_checked():
    frame = np.log([[0.5, 0.5]])
    with pytest.raises(ValueError, match="blank index 2; expected 0 to 1"):
        prefix_beam_search(frame, 2)
    with pytest.raises(ValueError, match="beam width 0"):
        prefix_beam_search(frame, 0, beam_width=0)
