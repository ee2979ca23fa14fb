"""NeMo's batched search against ours, and its language model against KenLM, on the CPU.

What only a GPU has, CUDA graphs and Triton, is not tested here.
"""

from __future__ import annotations

import math

import kenlm
import numpy as np
import pytest
import torch

from kd_asr_slr.decoding.arpa import read_arpa, write_arpa
from kd_asr_slr.decoding.beam import BeamDecoder, BeamOptions
from kd_asr_slr.decoding.closed import LabelSequences
from kd_asr_slr.decoding.ngram_estimation import estimate_ngrams
from kd_asr_slr.errors import UserError
from kd_asr_slr.tool_arguments import ScoreArguments
from kd_asr_slr.training.nemo_beam import NemoBeam

WORDS = [f"W{number}" for number in range(40)]
TOKENS = ["<s>", *WORDS[:35], "<blank>", "X1", "X2"]  # without some of the model's words, with some that it has not
BLANK = TOKENS.index("<blank>")


@pytest.fixture(scope="module")
def arpa(tmp_path_factory):
    rng = np.random.default_rng(0)
    sentences = [[str(word) for word in rng.choice(WORDS[: rng.integers(5, 40)], 6)] for _ in range(200)]
    return write_arpa(estimate_ngrams(sentences, 3).model, tmp_path_factory.mktemp("lm") / "lm.arpa")


@pytest.fixture(scope="module")
def beams(arpa) -> dict[str, NemoBeam | BeamDecoder]:
    options = BeamOptions(beam_width=40, beam_prune_logp=-30.0, lm_weight=0.7, word_score=1.0, oov_offset=-1.0)
    arguments = {"tokens": TOKENS, "blank_id": BLANK, "kind": "words", "options": options}
    return {
        "nemo": NemoBeam(**arguments, lm_path=arpa),
        "ours": BeamDecoder(**arguments, lm_path=arpa),
        "nemo, no lm": NemoBeam(**arguments),
        "ours, no lm": BeamDecoder(**arguments),
    }


def spoken(spoken_log_probs, utterances: int = 12) -> tuple[np.ndarray, torch.Tensor]:
    """Log-probabilities [B, T, V] and lengths [B]; the generator's blank comes first."""
    log_probs = np.stack([spoken_log_probs(seed, 40, len(TOKENS)) for seed in range(utterances)])
    log_probs[..., [0, BLANK]] = log_probs[..., [BLANK, 0]]
    return log_probs, torch.tensor([40 - 3 * (row % 7) for row in range(utterances)])


def test_an_arpa_file_is_read_as_it_was_written(arpa, tmp_path):
    assert write_arpa(read_arpa(arpa), tmp_path / "again.arpa").read_bytes() == arpa.read_bytes()


def test_the_language_model_says_what_kenlm_says(beams, arpa):
    model, words = kenlm.Model(str(arpa)), [token for token in TOKENS if token not in ("<s>", "<blank>")]
    ours = beams["nemo"]._search.fusion_models[0]
    rng = np.random.default_rng(1)
    for _ in range(30):
        ids = rng.integers(0, len(words), rng.integers(1, 9))
        sentence = [words[index] for index in ids]
        wanted = model.score(" ".join(sentence)) - sum(word not in model for word in sentence)
        assert float(ours(torch.tensor(ids)[None], eos=True).sum()) == pytest.approx(wanted * math.log(10), rel=1e-4)


def exact_score(log_probs: np.ndarray, labels: list[int], model: kenlm.Model | None) -> float:
    """A sentence's whole CTC mass and what the language model gives it, both without a search."""
    score = float(LabelSequences([labels], BLANK, len(TOKENS)).log_probs(log_probs)[0])
    if model is None:
        return score
    words = [TOKENS[label] for label in labels]
    log10 = model.score(" ".join(words)) - sum(word not in model for word in words)
    return score + 0.7 * math.log(10) * log10 + 1.0 * len(words)


@pytest.mark.parametrize("suffix", ["", ", no lm"])
def test_the_same_sentences_or_nearly_as_good_ones(beams, arpa, spoken_log_probs, suffix):
    """NeMo follows the best path to a sentence where ours sums paths up, so now and then another one wins."""
    log_probs, lengths = spoken(spoken_log_probs)
    model = None if suffix else kenlm.Model(str(arpa))
    wanted = [hypothesis.token_ids for hypothesis in beams["ours" + suffix].decode_batch(log_probs, lengths)]
    found = beams["nemo" + suffix].decode(torch.tensor(log_probs), lengths)
    assert len({tuple(labels) for labels in found}) == len(found) and all(found)
    assert sum(one == other for one, other in zip(found, wanted, strict=True)) >= 9
    for row, (one, other) in enumerate(zip(found, wanted, strict=True)):
        frames = log_probs[row, : lengths[row]]
        assert exact_score(frames, one, model) == pytest.approx(exact_score(frames, other, model), abs=1.0)


def test_padding_and_the_rest_of_the_batch_have_no_influence(beams, spoken_log_probs):
    log_probs, lengths = spoken(spoken_log_probs, 5)
    together = beams["nemo"].decode(torch.tensor(log_probs), lengths)
    for row, length in enumerate(lengths.tolist()):
        assert beams["nemo"].decode(torch.tensor(log_probs[row : row + 1, :length]), lengths[row : row + 1]) == [
            together[row]
        ]
        log_probs[row, length:] = np.nan
    assert beams["nemo"].decode(torch.tensor(log_probs), lengths) == together


def test_what_is_refused(arpa, beams):
    with pytest.raises(UserError, match="over the labels, and these are pieces"):
        NemoBeam(["<blank>", "▁a"], 0, "pieces", arpa)
    with pytest.raises(UserError, match="0 of 1 labels are words"):
        NemoBeam(["<blank>", "EINS"], 0, "words", arpa)
    with pytest.raises(UserError, match="NaN"):
        beams["nemo, no lm"].decode(torch.full((1, 3, len(TOKENS)), torch.nan), torch.tensor([3]))
    with pytest.raises(UserError, match="does not list its n-grams"):
        binary = arpa.with_suffix(".bin")
        binary.write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0")
        read_arpa(binary)
    problems = ScoreArguments(run="run", decoder="greedy", beam_engine="nemo").problems()
    assert problems == ["beam_engine nemo searches with given weights; set --decoder beam, and tune without it"]
