"""Many weights over the same outputs: as if each had its own decoder."""

from __future__ import annotations

import pytest

from kd_asr_slr.decoding.arpa import write_arpa
from kd_asr_slr.decoding.beam import BeamDecoder, BeamOptions
from kd_asr_slr.decoding.grid import GridDecoder
from kd_asr_slr.decoding.ngram_estimation import estimate_ngrams
from kd_asr_slr.decoding.pool import CHUNK, Weights
from kd_asr_slr.errors import UserError

TOKENS = ["<blank>", "REGEN", "NORD", "SUED"]
GRID = [Weights(weight, word_score) for weight in (0.0, 0.5, 2.0) for word_score in (-1.0, 0.0, 2.0)]


@pytest.fixture
def arguments(tmp_path) -> dict:
    model = estimate_ngrams([["REGEN", "NORD"], ["REGEN", "SUED", "NORD"], ["NORD"]], order=2).model
    return {"tokens": TOKENS, "blank_id": 0, "kind": "words", "lm_path": write_arpa(model, tmp_path / "lm.arpa")}


def test_every_point_is_a_search_of_its_own(random_log_probs, arguments):
    log_probs = [random_log_probs(seed, seed % 9, len(TOKENS)) for seed in range(2 * CHUNK + 1)]
    found = GridDecoder(arguments).decode(log_probs, GRID)
    assert len({tuple(texts) for texts in found}) > 4  # the weights do matter
    for weights, texts in zip(GRID, found, strict=True):
        decoder = BeamDecoder(**arguments, options=BeamOptions(**weights._asdict()))
        assert texts == [decoder.decode(matrix).text for matrix in log_probs]


def test_no_utterances(arguments):
    assert GridDecoder(arguments).decode([], GRID) == [[] for _ in GRID]


def test_processes_give_the_same(random_log_probs, arguments):
    log_probs = [random_log_probs(seed, 6, len(TOKENS)) for seed in range(CHUNK + 3)]
    assert GridDecoder(arguments, processes=2).decode(log_probs, GRID) == GridDecoder(arguments).decode(log_probs, GRID)


def test_a_wrong_model_is_refused_before_anything_is_decoded(arguments):
    with pytest.raises(UserError, match="0 of 1 labels"):
        GridDecoder({**arguments, "tokens": ["<blank>", "EINS"]})


def test_weights_out_of_range(arguments, random_log_probs):
    with pytest.raises(UserError, match="lm_weight is -1.0"):
        GridDecoder(arguments).decode([random_log_probs(0, 3, len(TOKENS))], [Weights(-1.0, 0.0)])
