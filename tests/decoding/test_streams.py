"""Searches that take frames as they come, against the same frames at once."""

from __future__ import annotations

import numpy as np
import pytest

from kd_asr_slr.decoding.arpa import write_arpa
from kd_asr_slr.decoding.beam import BeamDecoder, BeamOptions
from kd_asr_slr.decoding.greedy import GreedyStream, greedy_decode
from kd_asr_slr.decoding.ngram_estimation import estimate_ngrams
from kd_asr_slr.errors import UserError

TOKENS = ["<blank>", *(f"W{number}" for number in range(12))]


@pytest.mark.parametrize("size", [1, 3, 7, 40])
def test_greedy_in_chunks_is_greedy(spoken_log_probs, size):
    for seed in range(5):
        log_probs = spoken_log_probs(seed, 40, len(TOKENS))
        stream = GreedyStream(0)
        begun = [stream.accept(log_probs[start : start + size]) for start in range(0, 40, size)]
        assert sum(begun, []) == stream.labels == greedy_decode(log_probs, 0) != []
    assert stream.accept(np.empty((0, len(TOKENS)))) == []
    with pytest.raises(UserError, match="NaN"):
        stream.accept([[np.nan] * len(TOKENS)])


@pytest.mark.parametrize("size", [1, 3, 7, 40])
def test_a_beam_in_chunks_is_the_beam(spoken_log_probs, tmp_path, size):
    rng = np.random.default_rng(0)
    model = estimate_ngrams([[str(word) for word in rng.choice(TOKENS[1:], 5)] for _ in range(80)], 3).model
    decoder = BeamDecoder(TOKENS, 0, "words", write_arpa(model, tmp_path / "lm.arpa"), BeamOptions(beam_width=8))
    for seed in range(5):
        log_probs, stream = spoken_log_probs(seed, 40, len(TOKENS)), decoder.stream()
        assert stream.hypothesis() == ([], "", 0.0)
        for start in range(0, 40, size):
            stream.accept(log_probs[start : start + size])
            so_far = decoder.decode(log_probs[: start + size])
            assert stream.hypothesis()[:2] == so_far[:2]
            assert stream.hypothesis().score == pytest.approx(so_far.score)
    assert stream.labels == so_far.token_ids != []
    with pytest.raises(UserError, match="over whole words only"):
        BeamDecoder(["<blank>", "a"], 0, "characters").stream()
