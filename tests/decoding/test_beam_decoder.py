"""The beam decoder against enumeration, the plain prefix beam search, known outputs and pyctcdecode's own factory."""

from __future__ import annotations

import gc
import logging
import math
import weakref
from collections import defaultdict

import numpy as np
import pytest

from kd_asr_slr.decoding.beam import BeamDecoder, BeamOptions
from kd_asr_slr.decoding.prefix_beam import prefix_beam_decode, prefix_beam_search
from kd_asr_slr.errors import UserError

# Nothing pruned: the search is exact.
EXACT = {"beam_width": 10**6, "beam_prune_logp": -math.inf, "token_min_logp": -math.inf}
WORDS = ["<blank>", "looking", "on", "a", "<s>", "zebra"]  # "zebra" is in no language model used here
CHARACTERS = ["a", "<pad>", "|", "b"]


def without_specials(log_probs: np.ndarray, tokens: list[str]) -> np.ndarray:
    """Close the columns of special tokens, then renormalise: what the decoder is said to do."""
    masked = log_probs.copy()
    masked[:, [index for index, token in enumerate(tokens) if token == "<s>"]] = -np.inf
    return masked - np.log(np.exp(masked).sum(axis=1, keepdims=True))


def lm_score(model, words: list[str], options: BeamOptions) -> float:
    """The language model's part of a sentence's score, from kenlm's sentence score."""
    log10 = model.score(" ".join(words), bos=True, eos=True)
    log10 += options.oov_offset * sum(word not in model for word in words)
    return options.lm_weight * math.log(10) * log10 + options.word_score * len(words)


def best_sentence(log_probs: np.ndarray, tokens: list[str], blank: int, kind: str, model=None, options=None):
    """The best sentence and its score, from the exact probability of every label sequence."""
    masses: dict[str, float] = defaultdict(float)
    for ids, score in prefix_beam_search(log_probs, blank, beam_width=None):
        glue = " " if kind == "words" else ""
        text = glue.join(tokens[index] for index in ids).replace("|", " ")
        masses[" ".join(text.split())] += math.exp(score)
    scores = {text: math.log(mass) for text, mass in masses.items()}
    if model is not None:
        scores = {text: score + lm_score(model, text.split(), options) for text, score in scores.items()}
    best = max(scores, key=lambda text: scores[text])
    return best, scores[best]


@pytest.fixture
def arpa(shared_data):
    return shared_data / "kenlm" / "kenlm_test.arpa"


@pytest.fixture(scope="module")
def kenlm_model(shared_data):
    import kenlm

    return kenlm.Model(str(shared_data / "kenlm" / "kenlm_test.arpa"))


@pytest.mark.parametrize("name", ["iam_line", "libri"])
def test_real_outputs_without_language_model(request, handwriting, expected, name):
    log_probs, tokens, blank = handwriting(name) if name == "iam_line" else request.getfixturevalue("libri")
    wanted = expected[name]["beam_search" if name == "iam_line" else "beam_search_no_lm"]
    hypothesis = BeamDecoder(tokens, blank, "characters").decode(log_probs)
    assert hypothesis.text == wanted
    assert "".join(tokens[index] for index in hypothesis.token_ids) == wanted


def test_mini(expected):
    case = expected["mini"]
    with np.errstate(divide="ignore"):
        log_probs = np.log(case["probs"])
    hypothesis = BeamDecoder([*case["chars"], "<blank>"], case["blank"], "characters").decode(log_probs)
    assert (hypothesis.text, hypothesis.token_ids) == (case["beam_search"], [0])
    assert math.exp(hypothesis.score) == pytest.approx(case["p_a"])


def test_parlance_second_sequence(expected):
    case = expected["parlance"]
    decoder = BeamDecoder(case["vocab"], case["blank"], "characters", options=BeamOptions(beam_width=20))
    assert decoder.decode(np.log(case["seq2"])).text == case["beam"][1]


@pytest.mark.parametrize("name", ["seq1", "seq2"])
def test_parlance_texts_are_merged_over_blanks(expected, name):
    """`" ab"`, `"ab"` and `"ab "` are one text here; that is why the first sequence differs from parlance's result."""
    case = expected["parlance"]
    log_probs = np.log(case[name])
    log_probs -= np.log(np.exp(log_probs).sum(axis=1, keepdims=True))
    wanted, score = best_sentence(log_probs, case["vocab"], case["blank"], "characters")
    hypothesis = BeamDecoder(case["vocab"], case["blank"], "characters", options=BeamOptions(**EXACT)).decode(log_probs)
    assert hypothesis.text == wanted
    assert hypothesis.score == pytest.approx(score, abs=1e-6)


def test_parlance_with_language_model(expected, arpa):
    """A word score makes up for the blanks merged by this search (see above); the model admits 'a' only."""
    case = expected["parlance"]
    options = BeamOptions(lm_weight=1e-3, oov_offset=-1e5, word_score=0.5)
    decoder = BeamDecoder(case["vocab"], case["blank"], "characters", arpa, options)
    assert decoder.decode(np.log(case["seq2"])).text == case["beam_seq2_with_kenlm_test.arpa"]


@pytest.mark.parametrize("seed", range(12))
def test_words_agree_with_the_plain_prefix_beam(random_log_probs, seed):
    tokens = ["B", "A", "<blank>", "C-D", "##E", "__ON__"]
    log_probs = random_log_probs(seed, seed % 6, len(tokens))
    hypothesis = BeamDecoder(tokens, 2, "words", options=BeamOptions(**EXACT)).decode(log_probs)
    best = prefix_beam_search(log_probs, 2, beam_width=None)[0]
    assert hypothesis.token_ids == best.token_ids
    assert hypothesis.text == " ".join(tokens[index] for index in best.token_ids)
    assert hypothesis.score == pytest.approx(best.log_prob, abs=1e-6)


@pytest.mark.parametrize("seed", range(2))
def test_words_agree_with_the_plain_prefix_beam_on_long_input(random_log_probs, seed):
    tokens = ["<blank>", *(f"GLOSS{number}" for number in range(40))]
    log_probs = random_log_probs(seed, 60, len(tokens), sharpness=4.0)
    hypothesis = BeamDecoder(tokens, 0, "words").decode(log_probs)
    assert hypothesis.token_ids == prefix_beam_decode(log_probs, 0, beam_width=40)


@pytest.mark.parametrize("seed", range(8))
def test_weight_zero_is_no_language_model(random_log_probs, arpa, seed):
    """Also for words that the model does not know, and where an ordinary beam prunes."""
    pruned = BeamOptions(lm_weight=0.0, word_score=0.0, beam_width=20)
    log_probs = random_log_probs(seed, 12, len(WORDS), sharpness=1.5)
    with_lm = BeamDecoder(WORDS, 0, "words", arpa, pruned).decode(log_probs)
    assert with_lm == BeamDecoder(WORDS, 0, "words", options=pruned).decode(log_probs)

    exact = BeamOptions(lm_weight=0.0, word_score=0.0, **EXACT)
    with_lm = BeamDecoder(WORDS, 0, "words", arpa, exact).decode(log_probs[:5])
    plain = prefix_beam_search(without_specials(log_probs[:5], WORDS), 0, beam_width=None)[0]
    assert with_lm.token_ids == plain.token_ids
    assert with_lm.score == pytest.approx(plain.log_prob, abs=1e-6)


@pytest.mark.parametrize("lm_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("word_score", [0.0, 1.5, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_words_with_language_model_against_enumeration(
    random_log_probs, arpa, kenlm_model, lm_weight, word_score, seed
):
    options = BeamOptions(lm_weight=lm_weight, word_score=word_score, oov_offset=-2.0, **EXACT)
    log_probs = without_specials(random_log_probs(seed, 5, len(WORDS)), WORDS)
    wanted, score = best_sentence(log_probs, WORDS, 0, "words", kenlm_model, options)
    hypothesis = BeamDecoder(WORDS, 0, "words", arpa, options).decode(log_probs)
    assert hypothesis.text == wanted
    assert hypothesis.score == pytest.approx(score, abs=1e-4)  # kenlm's floats


@pytest.mark.parametrize("word_score", [0.0, 4.0])
@pytest.mark.parametrize("seed", range(8))
def test_characters_with_language_model_against_enumeration(random_log_probs, arpa, kenlm_model, word_score, seed):
    options = BeamOptions(lm_weight=0.4, word_score=word_score, oov_offset=-1.0, **EXACT)
    log_probs = random_log_probs(seed, 7, len(CHARACTERS))
    wanted, score = best_sentence(log_probs, CHARACTERS, 1, "characters", kenlm_model, options)
    hypothesis = BeamDecoder(CHARACTERS, 1, "characters", arpa, options).decode(log_probs)
    assert hypothesis.text == wanted
    assert hypothesis.score == pytest.approx(score, abs=1e-4)
    assert "".join(CHARACTERS[index] for index in hypothesis.token_ids).replace("|", " ") == wanted


def test_silence_stays_silent_with_a_language_model(arpa):
    log_probs = np.log([[0.95, 0.05 / 3, 0.05 / 3, 0.05 / 3]] * 8)
    tokens = ["<blank>", "looking", "on", "a"]
    assert BeamDecoder(tokens, 0, "words", arpa).decode(log_probs).token_ids == []


@pytest.mark.parametrize("seed", range(5))
def test_characters_agree_with_pyctcdecodes_own_factory(random_log_probs, seed):
    from pyctcdecode import build_ctcdecoder

    log_probs = random_log_probs(seed, 40, 6, sharpness=3.0)
    theirs = build_ctcdecoder(["", " ", "a", "b", "c", "d"]).decode_beams(log_probs)[0][0]  # history not pruned
    assert BeamDecoder(["<pad>", "|", "a", "b", "c", "d"], 0, "characters").decode(log_probs).text == theirs


def test_special_tokens_are_never_output():
    tokens = ["<blank>", "<s>", "</s>", "ONE"]
    decoder = BeamDecoder(tokens, 0, "words")
    assert decoder.decode(np.log([[0.1, 0.5, 0.2, 0.2]])).token_ids == [3]
    with np.errstate(divide="ignore"):
        only_special = np.log([[0.0, 1.0, 0.0, 0.0]] * 3)
    assert set(decoder.decode(only_special).token_ids) <= {3}


def test_edges(arpa):
    tokens = ["<blank>", "looking", "on"]
    for decoder in (BeamDecoder(tokens, 0, "words"), BeamDecoder(tokens, 0, "words", arpa)):
        assert decoder.decode(np.empty((0, 3))) == ([], "", 0.0)
        assert decoder.decode(np.log([[0.9, 0.05, 0.05]] * 5)).text == ""
        assert decoder.decode(np.log([[0.01, 0.98, 0.01]])).token_ids == [1]


def test_batch_looks_at_valid_frames_only(random_log_probs):
    log_probs = np.stack([random_log_probs(seed, 9, 4) for seed in range(3)])
    lengths = [9, 4, 0]
    decoder = BeamDecoder(["<blank>", "A", "B", "C"], 0, "words")
    wanted = [decoder.decode(matrix[:length]) for matrix, length in zip(log_probs, lengths, strict=True)]
    log_probs[1, 4:] = np.nan
    assert decoder.decode_batch(log_probs, np.array(lengths)) == wanted
    with pytest.raises(ValueError, match="shorter"):
        decoder.decode_batch(log_probs, lengths[:2])


def test_input_is_checked_not_guessed():
    decoder = BeamDecoder(["<blank>", "A"], 0, "words")
    with pytest.raises(ValueError, match="apply log_softmax"):
        decoder.decode([[0.5, 0.5]])
    with pytest.raises(ValueError, match="3 columns; the vocabulary has 2 tokens"):
        decoder.decode(np.log([[0.2, 0.3, 0.5]]))
    with pytest.raises(UserError, match="NaN"):
        decoder.decode([[np.nan, 0.0]])


def test_nothing_is_printed_or_logged(caplog, capfd):
    caplog.set_level(logging.DEBUG)
    decoder = BeamDecoder(["<blank>", "A", "B"], 0, "words")
    decoder.decode(np.log([[0.2, 0.5, 0.3]]))
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_partial_coverage_is_one_warning(arpa, caplog, capfd):
    decoder = BeamDecoder(WORDS, 0, "words", arpa)
    assert decoder.lm_warning.startswith("3 of 4 labels are words of the language model")
    assert "(75.0 %); not 'zebra'" in decoder.lm_warning
    assert [record.getMessage() for record in caplog.records] == [decoder.lm_warning]
    assert capfd.readouterr() == ("", "")
    assert BeamDecoder(["<blank>", "looking", "on"], 0, "words", arpa).lm_warning is None


@pytest.mark.parametrize("kind", ["words", "characters"])
def test_a_language_model_goes_with_its_decoder(arpa, kind):
    from pyctcdecode import BeamSearchDecoderCTC

    before = len(BeamSearchDecoderCTC.model_container)
    decoder = BeamDecoder(["<blank>", "looking" if kind == "words" else "a"], 0, kind, arpa)
    assert decoder.decode(np.log([[0.2, 0.8]])).token_ids == [1]
    assert len(BeamSearchDecoderCTC.model_container) == before
    model = weakref.ref(decoder._scorer)
    del decoder
    gc.collect()
    assert model() is None


@pytest.mark.parametrize(
    ("tokens", "kind", "message"),
    [
        (["<blank>", "A B"], "words", "token 1 is 'A B': expected a word without white space"),
        (["<blank>", "A", "A"], "words", "'A' appears 2 times"),
        (["<blank>", "A▁"], "words", "cannot end in"),
        (["<blank>", ""], "words", "token 1 is ''"),
        (["<blank>", "ONE"], "characters", "it has 3 characters, expected 1"),
        (["<blank>", "a", "\t"], "characters", "the only white space allowed"),
        (["<blank>", "<s>"], "words", "there are no tokens"),
        (["<blank>", "a"], "syllables", "unknown kind of tokens 'syllables'; expected one of words, characters"),
    ],
)
def test_vocabularies_a_kind_cannot_have(tokens, kind, message):
    with pytest.raises(UserError, match=message):
        BeamDecoder(tokens, 0, kind)


def test_every_bad_option_is_named():
    with pytest.raises(UserError) as caught:
        BeamOptions(beam_width=0, lm_weight=-1.0, word_score=math.nan, oov_offset=1.0, token_min_logp=2.0)
    for name in (
        "beam_width is 0",
        "lm_weight is -1.0",
        "word_score is nan",
        "oov_offset is 1.0",
        "token_min_logp is 2",
    ):
        assert name in str(caught.value)


def test_both_delimiters_leave_the_bar_a_character():
    tokens = ["<blank>", " ", "|", "a"]
    log_probs = np.log(np.full((5, 4), 0.01) + np.eye(4)[[3, 2, 1, 0, 3]] * 0.96)
    hypothesis = BeamDecoder(tokens, 0, "characters").decode(log_probs)
    assert (hypothesis.text, hypothesis.token_ids) == ("a| a", [3, 2, 1, 3])
