"""The estimator against KenLM's lmplz (its output is written down here), a hand computation, and the definition."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from kd_asr_slr.decoding.arpa import write_arpa
from kd_asr_slr.decoding.beam import BeamDecoder, BeamOptions
from kd_asr_slr.decoding.ngram_estimation import (
    FALLBACK,
    Discounts,
    EstimatedModel,
    adjusted_counts,
    discounts_of,
    estimate_ngrams,
)
from kd_asr_slr.decoding.ngram_scorer import load_kenlm
from kd_asr_slr.decoding.perplexity import perplexity
from kd_asr_slr.decoding.prefix_beam import prefix_beam_decode
from kd_asr_slr.errors import UserError

WEATHER = [
    sentence.split()
    for sentence in (
        "SCHNEE BERG", "SCHNEE BERG", "REGEN NORD WIND", "REGEN NORD", "REGEN SUED WIND STARK", "WIND", "SCHNEE SUED",
        "REGEN REGEN",
    )
]  # fmt: skip

# `lmplz -o 3 --discount_fallback` (KenLM 0.3.0) on WEATHER: log10 probability and back-off weight.
LMPLZ = """
<unk> -1.1635021 0
</s> -0.61066014 0
SCHNEE -1.0086001 -0.30103
REGEN -0.9479023 -0.30103
WIND -1.1635021 -0.30103
BERG </s> -0.20582642 0
WIND </s> -0.3411472 0
<s> SCHNEE -0.6375323 -0.30103
<s> REGEN -0.44150028 -0.30103
REGEN REGEN -0.74142843 -0.30103
WIND STARK -0.6661775 -0.30103
SCHNEE BERG </s> -0.09083217 0
REGEN NORD </s> -0.36024013 0
<s> REGEN NORD -0.47235748 0
<s> SCHNEE SUED -0.49504966 0
SUED WIND STARK -0.21620847 0
"""

# lmplz on the 5,671 cleaned training sentences of PHOENIX-2014: sizes, discounts, and some of its entries.
PHOENIX_SIZES = [1103, 16046, 39027, 46464]
PHOENIX_DISCOUNTS = {
    3: [(0.575221, 1.12518, 1.55013), (0.682261, 1.06005, 1.46852), (0.828784, 1.18096, 1.41193)],
    4: [
        (0.575221, 1.12518, 1.55013), (0.682261, 1.06005, 1.46852), (0.842552, 1.19542, 1.5417),
        (0.931471, 1.39972, 1.39402),
    ],
}  # fmt: skip
PHOENIX_TRIGRAM = """
<unk> -4.14536 0
</s> -1.6507589 0
ZUSCHAUER -3.5427938 -0.20753263
REGEN -1.8617651 -0.7445976
<s> __ON__ -0.36681736 -0.9427171
NORD REGEN -1.4857152 -0.26901472
MORGEN REGEN -1.793864 -0.09745538
REGEN SCHNEE -1.6203215 -0.30393907
BISSCHEN REGEN </s> -0.70664114 0
__ON__ LIEB ZUSCHAUER -0.06608364 0
<s> MORGEN REGEN -1.5004716 0
REGEN SCHNEE REGEN -1.2334794 0
"""


def entries(text: str) -> dict[tuple[str, ...], tuple[float, float]]:
    rows = [line.split() for line in text.strip().splitlines()]
    return {tuple(words): (float(prob), float(weight)) for *words, prob, weight in rows}


def assert_entries(estimated: EstimatedModel, text: str) -> None:
    for ngram, wanted in entries(text).items():
        assert estimated.model.entries[len(ngram) - 1][ngram] == pytest.approx(wanted, abs=2e-6), ngram


def random_corpus(seed: int) -> list[list[str]]:
    rng = random.Random(seed)
    words = [f"W{number}" for number in range(rng.choice([2, 4, 6]))]
    return [[rng.choice(words[: 1 + rng.randrange(len(words))]) for _ in range(rng.randint(1, 7))] for _ in range(30)]


def all_contexts(words: list[str], length: int) -> list[tuple[str, ...]]:
    """Every context of at most this length, in and from the beginning of a sentence."""
    inner = [context for size in range(length + 1) for context in itertools.product(words, repeat=size)]
    return inner + [("<s>", *context) for context in inner if len(context) < length]


def definition(sentences: list[list[str]], order: int, discounts: list[Discounts]):
    """p(w | h), written down as in Chen and Goodman: by sets of n-grams, from the text, without tables."""
    padded = [("<s>", *sentence, "</s>") for sentence in sentences]
    occurrences = {
        length: Counter(line[at : at + length] for line in padded for at in range(len(line) - length + 1))
        for length in range(1, order + 2)
    }
    events = {word for line in padded for word in line} - {"<s>"}

    def count(ngram: tuple[str, ...]) -> int:
        if len(ngram) == order or ngram[0] == "<s>":
            return occurrences[len(ngram)][ngram]
        return len({longer[0] for longer in occurrences[len(ngram) + 1] if longer[1:] == ngram})

    def prob(word: str, context: tuple[str, ...]) -> float:
        counts = [count((*context, event)) for event in events]
        discount = discounts[len(context)]
        below = prob(word, context[1:]) if context else 1 / (len(events) + 1)
        if not sum(counts):
            return below
        own = count((*context, word)) if word in events else 0
        taken = sum(discount.of(value) for value in counts if value)
        return ((own - discount.of(own) if own else 0) + taken * below) / sum(counts)

    return prob


@pytest.fixture(scope="module")
def phoenix(shared_data: Path) -> dict[str, list[list[str]]]:
    """The cleaned sentences of the train and dev references."""
    return {
        split: [
            line.split()[5:]
            for line in (shared_data / "phoenix2014" / f"phoenix2014-groundtruth-{split}.stm").read_text().splitlines()
        ]
        for split in ("train", "dev")
    }


@pytest.fixture(scope="module")
def trigram(phoenix) -> EstimatedModel:
    return estimate_ngrams(phoenix["train"], order=3)


def test_by_hand():
    """Unigrams: REGEN, NORD and SUED each follow one word, "</s>" two: 5 in all, (3 x 0.5 + 1) / 5 = 0.5 is taken.

    Over NORD, SUED, REGEN, "</s>" and "<unk>" that is 0.1 each. Bigrams after REGEN: (1 - 0.5) / 2 each, half is taken.
    """
    model = estimate_ngrams([["REGEN", "NORD"], ["REGEN", "SUED"]], order=2).model
    assert 10 ** model.log10_prob("<unk>") == pytest.approx(0.1)
    assert 10 ** model.log10_prob("NORD") == pytest.approx(0.5 / 5 + 0.1)
    assert 10 ** model.log10_prob("</s>") == pytest.approx(1 / 5 + 0.1)
    assert 10 ** model.log10_prob("NORD", ["REGEN"]) == pytest.approx(0.5 / 2 + 0.5 * 0.2)
    assert 10 ** model.log10_prob("</s>", ["REGEN"]) == pytest.approx(0.5 * 0.3)
    assert 10 ** model.log10_prob("REGEN", ["<s>"]) == pytest.approx((2 - 1) / 2 + 0.5 * 0.2)
    assert 10 ** model.log10_prob("HAGEL", ["REGEN"]) == pytest.approx(0.5 * 0.1)
    assert 10 ** model.log10_prob("NORD", ["HAGEL"]) == pytest.approx(0.2)


def test_adjusted_counts():
    """Occurrences at the beginning and of the longest n-grams; else different words before ("<s>" is one)."""
    unigrams, bigrams = adjusted_counts([["A", "B", "A", "B"], ["B"]], order=2)
    assert unigrams == {("A",): 2, ("B",): 2, ("</s>",): 1}
    assert bigrams == {("<s>", "A"): 1, ("A", "B"): 2, ("B", "A"): 1, ("B", "</s>"): 2, ("<s>", "B"): 1}
    _, bigrams, trigrams = adjusted_counts([["A", "B"], ["A", "B"], ["B", "A", "B"]], order=3)
    assert bigrams[("<s>", "A")] == 2  # occurrences
    assert bigrams[("A", "B")] == 2  # after "<s>" and after B
    assert bigrams[("B", "</s>")] == 1  # three times, always after A
    assert trigrams[("A", "B", "</s>")] == 3


def test_discounts():
    """n1 = 8, n2 = 4, n3 = 2, n4 = 1: Y = 1/2, D1 = 1 - 2 Y n2/n1, D2 = 2 - 3 Y n3/n2, D3+ = 3 - 4 Y n4/n3."""
    found = discounts_of([1] * 8 + [2] * 4 + [3] * 2 + [4] + [9] * 5)
    assert (found.amounts, found.estimated) == ((0.5, 1.25, 2.0), True)
    assert [found.of(count) for count in (1, 2, 3, 100)] == [0.5, 1.25, 2.0, 2.0]


@pytest.mark.parametrize("counts", [[], [1, 1], [1, 2, 2], [2, 3], [1] * 5 + [2] + [3] * 9])
def test_discounts_that_the_data_cannot_tell(counts):
    assert discounts_of(counts) == Discounts(FALLBACK, estimated=False)


def test_small_text_equals_lmplz():
    estimated = estimate_ngrams(WEATHER, order=3)
    assert [len(table) for table in estimated.model.entries] == [10, 17, 15]
    assert_entries(estimated, LMPLZ)
    assert (estimated.sentences, estimated.tokens, len(estimated.seen)) == (8, 18, 7)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_every_probability_is_as_defined_and_every_context_sums_to_one(seed, order):
    sentences = random_corpus(seed)
    estimated = estimate_ngrams(sentences, order)
    wanted = definition(sentences, order, estimated.discounts)
    for context in all_contexts(sorted(estimated.seen), order - 1):
        probs = {word: 10 ** estimated.model.log10_prob(word, context) for word in estimated.model.words}
        assert sum(probs.values()) == pytest.approx(1, abs=1e-9)
        for word, prob in probs.items():
            assert prob == pytest.approx(wanted(word, context), rel=1e-9), (context, word)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_kenlm_reads_the_same_probabilities(tmp_path, seed, order):
    """All contexts through KenLM: they sum to 1, and each is what the model in memory says."""
    import kenlm

    estimated = estimate_ngrams(random_corpus(seed), order, vocabulary=["NIE", "W0"])
    model = load_kenlm(write_arpa(estimated.model, tmp_path / "new" / "lm.arpa"))
    assert model.order == order
    for context in all_contexts(sorted(estimated.seen), order - 1)[:300]:
        state, following = kenlm.State(), kenlm.State()
        model.BeginSentenceWrite(state) if context[:1] == ("<s>",) else model.NullContextWrite(state)
        for word in context[1:] if context[:1] == ("<s>",) else context:
            model.BaseScore(state, word, following)
            state, following = following, state
        scores = {word: model.BaseScore(state, word, kenlm.State()) for word in estimated.model.words}
        assert sum(10**score for score in scores.values()) == pytest.approx(1, abs=1e-5)
        for word, score in scores.items():
            assert score == pytest.approx(estimated.model.log10_prob(word, context), abs=1e-5)


def test_words_without_text_have_a_probability():
    plain, more = estimate_ngrams(WEATHER, 3), estimate_ngrams(WEATHER, 3, vocabulary=["HAGEL", "NEBEL", "REGEN"])
    assert set(more.model.words) - set(plain.model.words) == {"HAGEL", "NEBEL"}
    assert more.seen == plain.seen
    nowhere = more.model.log10_prob("<unk>", ["REGEN"])
    assert more.model.log10_prob("HAGEL", ["REGEN"]) == more.model.log10_prob("ANDERES", ["REGEN"]) == nowhere
    for context in ([], ["REGEN"], ["<s>", "HAGEL"], ["HAGEL", "REGEN"]):
        total = sum(10 ** more.model.log10_prob(word, context) for word in more.model.words)
        assert total == pytest.approx(1, abs=1e-9)


def test_phoenix_equals_lmplz(phoenix, trigram):
    assert_entries(trigram, PHOENIX_TRIGRAM)
    assert (trigram.sentences, trigram.tokens, len(trigram.seen)) == (5671, 58359, 1100)
    started = time.perf_counter()
    models = {3: trigram, 4: estimate_ngrams(phoenix["train"], order=4)}
    assert time.perf_counter() - started < 10  # half a second on one core
    for order, estimated in models.items():
        assert [len(table) for table in estimated.model.entries] == PHOENIX_SIZES[:order]
        for discounts, wanted in zip(estimated.discounts, PHOENIX_DISCOUNTS[order], strict=True):
            assert discounts.estimated
            assert discounts.amounts == pytest.approx(wanted, rel=1e-5)


def test_phoenix_contexts_sum_to_one(phoenix, trigram):
    rng = random.Random(0)
    words = trigram.model.words
    seen = rng.sample(sorted(context for context in trigram.model.entries[1] if context[1] != "</s>"), 40)
    unseen = [(rng.choice(words), rng.choice(words)) for _ in range(20)]
    for context in [(), ("<s>",), ("REGEN",), *seen, *unseen]:
        total = math.fsum(10 ** trigram.model.log10_prob(word, context) for word in words)
        assert total == pytest.approx(1, abs=1e-9), context


@pytest.mark.parametrize(("order", "known", "all_words"), [(2, 47.96, 49.51), (3, 45.42, 46.91), (4, 45.28, 46.77)])
def test_phoenix_perplexity_on_dev(phoenix, tmp_path, order, known, all_words):
    """As KenLM counts on an lmplz model of the same order; 29 of 5,540 words are unknown."""
    model = load_kenlm(write_arpa(estimate_ngrams(phoenix["train"], order).model, tmp_path / "lm.arpa"))
    found = perplexity(model, phoenix["dev"])
    assert (found.sentences, found.words, found.unknown) == (540, 5540, 29)
    assert found.without_unknown == pytest.approx(known, abs=0.01)
    assert found.with_unknown == pytest.approx(all_words, abs=0.01)


def test_perplexity_of_one_sentence_is_kenlms(tmp_path):
    model = load_kenlm(write_arpa(estimate_ngrams(WEATHER, 3).model, tmp_path / "lm.arpa"))
    found = perplexity(model, [["REGEN", "HAGEL", "NORD"], []])
    assert found.with_unknown == pytest.approx(model.perplexity("REGEN HAGEL NORD"), rel=1e-6)
    assert (found.sentences, found.words, found.unknown) == (1, 3, 1)
    assert "33.3 %" in str(found)
    with pytest.raises(UserError, match="no words to measure"):
        perplexity(model, [[]])


@pytest.mark.parametrize("name", ["iam_line", "iam_word", "libri"])
def test_weight_zero_on_real_outputs_is_the_plain_prefix_beam(request, handwriting, tmp_path, name):
    """Real networks' outputs, their labels taken as whole words, with a language model estimated over these."""
    log_probs, tokens, blank = request.getfixturevalue("libri") if name == "libri" else handwriting(name)
    words = [f"W{index}" for index in range(len(tokens))]
    rng = random.Random(0)
    text = [rng.choices(words[:blank] + words[blank + 1 :], k=10) for _ in range(200)]
    lm = write_arpa(estimate_ngrams(text, 3, words).model, tmp_path / "lm.arpa")
    unpruned = BeamOptions(
        lm_weight=0.0, word_score=0.0, beam_width=20, beam_prune_logp=-math.inf, token_min_logp=-math.inf
    )
    decoder = BeamDecoder(words, blank, "words", lm, unpruned)
    assert decoder.decode(log_probs).token_ids == prefix_beam_decode(log_probs, blank, beam_width=20)


def test_a_language_model_of_another_vocabulary_is_refused(tmp_path):
    lm = write_arpa(estimate_ngrams(WEATHER, 2).model, tmp_path / "lm.arpa")
    with pytest.raises(UserError, match="0 of 2 labels are words of the language model"):
        BeamDecoder(["<blank>", "EINS", "ZWEI"], 0, "words", lm)
    with pytest.raises(UserError, match="change the case"):
        BeamDecoder(["<blank>", "regen"], 0, "words", lm)


@pytest.mark.parametrize(
    ("sentences", "order", "vocabulary", "message"),
    [
        (WEATHER, 1, (), "order of the language model is 1; expected 2 or more"),
        ([], 3, (), "no words to estimate"),
        ([[], []], 3, (), "no words to estimate"),
        ([["A"]], 4, (), "longest sentence has 1 words, too few for an order of 4; expected an order of at most 3"),
        ([["A", "<s>"]], 2, (), r"1 tokens cannot be words of a language model: '<s>'"),
        ([["A B"]], 2, (), "'A B'"),
        (WEATHER, 2, ["<unk>", ""], "2 tokens cannot be words"),
    ],
)
def test_what_no_model_can_be_made_of(sentences, order, vocabulary, message):
    with pytest.raises(UserError, match=message):
        estimate_ngrams(sentences, order, vocabulary)


def test_single_words_make_a_trigram(tmp_path):
    estimated = estimate_ngrams([["EINS"], ["ZWEI"], ["EINS"]], order=3)
    model = load_kenlm(write_arpa(estimated.model, tmp_path / "lm.arpa"))
    assert model.score("EINS") > model.score("ZWEI") > model.score("EINS EINS")


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_arpa(estimate_ngrams(WEATHER, 2).model, tmp_path / "file" / "lm.arpa")
    folder = tmp_path / "lm.arpa"
    folder.mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        write_arpa(estimate_ngrams(WEATHER, 2).model, folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "lm.arpa"]
