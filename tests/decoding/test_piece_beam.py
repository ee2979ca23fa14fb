"""Beam search over pieces of words, against the sum over all sequences of pieces that spell a text."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

import kenlm
import numpy as np
import pytest

from kd_asr_slr.decoding.beam import BeamDecoder, BeamOptions
from kd_asr_slr.decoding.prefix_beam import prefix_beam_search
from kd_asr_slr.errors import UserError

EXACT = BeamOptions(beam_width=10**6, beam_prune_logp=-math.inf, token_min_logp=-math.inf)
# "on" is one piece or two; "▁" stands alone, as SentencePiece's vocabularies have it.
PIECES = ["<blank>", "▁o", "n", "▁on", "▁", "o", "▁a"]


def masses(log_probs: np.ndarray) -> dict[str, float]:
    """The probability of every text, over all sequences of pieces."""
    found: dict[str, float] = defaultdict(float)
    for ids, score in prefix_beam_search(log_probs, 0, beam_width=None):
        text = "".join(PIECES[index] for index in ids).replace("▁", " ")
        found[" ".join(text.split())] += math.exp(score)
    return found


@pytest.mark.parametrize("seed", range(12))
def test_the_best_text_over_all_sequences_of_pieces(random_log_probs, seed: int) -> None:
    log_probs = random_log_probs(seed, seed % 5, len(PIECES))
    wanted = masses(log_probs)
    hypothesis = BeamDecoder(PIECES, 0, "pieces", options=EXACT).decode(log_probs)
    assert hypothesis.token_ids is None
    # A lone "▁" before a piece is a text of its own within the search, so its mass is no more than that of the text.
    assert hypothesis.text in wanted
    assert hypothesis.score <= math.log(wanted[hypothesis.text]) + 1e-6


@pytest.mark.parametrize("seed", range(12))
def test_without_the_lone_mark_score_and_text_are_exact(random_log_probs, seed: int) -> None:
    log_probs = random_log_probs(seed, 1 + seed % 4, len(PIECES))
    log_probs[:, 4] = -np.inf
    log_probs -= np.log(np.exp(log_probs).sum(axis=1, keepdims=True))
    wanted = masses(log_probs)
    best = max(wanted, key=lambda text: wanted[text])
    hypothesis = BeamDecoder(PIECES, 0, "pieces", options=EXACT).decode(log_probs)
    assert hypothesis.text == best
    assert hypothesis.score == pytest.approx(math.log(wanted[best]), abs=1e-6)


def spoken(*pieces: str) -> np.ndarray:
    """Log-probabilities that say these pieces, one a frame, blanks between them."""
    probs = np.full((2 * len(pieces), len(PIECES)), 1e-4)
    for frame, piece in enumerate(pieces):
        probs[2 * frame, PIECES.index(piece)] = 1.0
        probs[2 * frame + 1, 0] = 1.0
    return np.log(probs / probs.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("pieces", "text"),
    [(("▁", "o", "n", "▁a"), "on a"), (("▁o", "n", "▁", "▁on"), "on on"), (("▁",), ""), (("o", "n", "▁a"), "on a")],
)
def test_a_lone_mark_begins_a_word_and_breaks_no_other(pieces: tuple[str, ...], text: str) -> None:
    assert BeamDecoder(PIECES, 0, "pieces").decode(spoken(*pieces)).text == text


def test_with_a_language_model_over_words(shared_data: Path, random_log_probs) -> None:
    path = shared_data / "kenlm" / "kenlm_test.arpa"
    model = kenlm.Model(str(path))
    decoder = BeamDecoder(PIECES, 0, "pieces", path, BeamOptions(lm_weight=0.7, word_score=0.3))
    hypothesis = decoder.decode(spoken("▁", "o", "n", "▁a"))
    assert hypothesis.text == "on a"
    # One path has nearly all of the mass.
    acoustic = float(spoken("▁", "o", "n", "▁a").max(axis=1).sum())
    language = 0.7 * math.log(10) * model.score("on a", bos=True, eos=True) + 0.3 * 2
    assert hypothesis.score == pytest.approx(acoustic + language, abs=0.02)
    assert "on" in model and "a" in model


def test_pieces_that_cross_words_are_refused() -> None:
    with pytest.raises(UserError, match="token 1 is '▁a▁b': expected '▁' at the beginning"):
        BeamDecoder(["<blank>", "▁a▁b"], 0, "pieces")
