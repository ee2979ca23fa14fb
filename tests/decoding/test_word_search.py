"""The search over words and the leaving out of frames and tokens, against pyctcdecode on the whole matrix."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from kd_asr_slr.decoding.arpa import write_arpa
from kd_asr_slr.decoding.beam import BeamDecoder, BeamOptions
from kd_asr_slr.decoding.ngram_estimation import estimate_ngrams

WORDS = [f"W{number}" for number in range(60)]
UNKNOWN = ["X1", "X2", "X3"]  # to the language model
TOKENS = ["<blank>", *WORDS, *UNKNOWN]
PIECES = ["<blank>", "▁a", "b", "▁b", "c", "▁", "▁ca", "d", "a"]


@pytest.fixture(scope="module")
def arpa(tmp_path_factory):
    rng = np.random.default_rng(0)
    follows = {word: rng.choice(WORDS, 4) for word in WORDS}
    sentences = []
    for _ in range(300):
        sentence = [str(rng.choice(WORDS))]
        while rng.random() < 0.8:
            sentence.append(str(rng.choice(follows[sentence[-1]])))
        sentences.append(sentence)
    return write_arpa(estimate_ngrams(sentences, 3).model, tmp_path_factory.mktemp("lm") / "lm.arpa")


def theirs(decoder: BeamDecoder, pieces: list[str], marked: bool, log_probs: np.ndarray) -> tuple[str, float]:
    """pyctcdecode's own search over the whole matrix, with our language model's scores."""
    from pyctcdecode import Alphabet, BeamSearchDecoderCTC

    search, options = BeamSearchDecoderCTC(Alphabet(pieces, marked), decoder._scorer), decoder.options
    names = ("beam_width", "beam_prune_logp", "token_min_logp", "prune_history")
    best = search.decode_beams(log_probs, **{name: getattr(options, name) for name in names})[0]
    search.cleanup()
    return best[0], best[-1]


OPTIONS = [
    {},
    {"beam_width": 10},
    {"beam_width": 10, "prune_history": True},
    {"beam_width": 3, "lm_weight": 2.0, "word_score": -1.0},
    {"beam_width": 10, "token_min_logp": -9.0, "beam_prune_logp": -4.0, "oov_offset": -1.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("with_lm", [True, False])
def test_the_same_sentences_and_scores(spoken_log_probs, arpa, options, with_lm):
    decoder = BeamDecoder(TOKENS, 0, "words", arpa if with_lm else None, BeamOptions(**options))
    pieces = ["", *(f"▁{token}" for token in TOKENS[1:])]
    texts = set()
    for seed in range(12):
        log_probs = spoken_log_probs(seed, 50, len(TOKENS))
        assert len(decoder.candidates(log_probs).counts) < 50
        found = decoder.decode(log_probs)
        text, score = theirs(decoder, pieces, True, log_probs)
        assert (found.text, found.score) == (text, pytest.approx(score, abs=1e-4))
        texts.add(text)
    assert len(texts) == 12
    if not with_lm or "oov_offset" in options:
        assert any(word in text for text in texts for word in UNKNOWN)


def test_the_same_word_twice(spoken_log_probs, arpa):
    """A word said again behind a blank, in all ways of saying it."""
    rng = np.random.default_rng(0)
    pieces = ["", *(f"▁{token}" for token in TOKENS[1:])]
    decoder = BeamDecoder(TOKENS, 0, "words", arpa, BeamOptions(beam_width=10))
    repeated = 0
    for _ in range(20):
        log_probs = np.log(np.full((30, len(TOKENS)), 1e-4))
        for frame in log_probs:
            frame[[0, 5, 9]] = np.log(rng.dirichlet([1.0, 1.0, 0.3]) * (1 - 1e-4 * (len(TOKENS) - 3)))
        text, score = theirs(decoder, pieces, True, log_probs)
        assert decoder.decode(log_probs)[1:] == (text, pytest.approx(score, abs=1e-4))
        repeated += any(one == other for one, other in pairwise(text.split()))
    assert repeated > 5


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", ["pieces", "characters"])
def test_the_same_texts_of_pieces_and_characters(spoken_log_probs, options, kind):
    tokens = PIECES if kind == "pieces" else ["<blank>", "|", *"abcdefg"]
    shown = [token + "\ue000" if token == "▁" else token for token in PIECES] if kind == "pieces" else [*"? abcdefg"]
    decoder = BeamDecoder(tokens, 0, kind, options=BeamOptions(**options))
    for seed in range(12):
        log_probs = spoken_log_probs(seed, 50, len(tokens))
        text, score = theirs(decoder, ["", *shown[1:]], kind == "pieces", log_probs)
        found = decoder.decode(log_probs)
        assert (found.text, found.score) == (
            " ".join(text.replace("\ue000", "").split()),
            pytest.approx(score, abs=1e-6),
        )


def test_what_is_heard_with_certainty_and_ends_in_a_blank() -> None:
    logits = np.zeros((12, 4), np.float32)
    logits[:, 0] = 40.0
    for frame, token in ((5, 2), (8, 3)):
        logits[frame, [0, token]] = 0.0, 40.0
    log_probs = logits - np.log(np.exp(logits.astype(np.float64)).sum(1, keepdims=True)).astype(np.float32)
    assert BeamDecoder(["<b>", "one", "two", "three"], 0, "words").decode(log_probs).text == "two three"
