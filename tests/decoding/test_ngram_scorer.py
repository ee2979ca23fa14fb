"""The language model's reader, its part in the search, and the comparison of vocabularies."""

from __future__ import annotations

import csv
import gzip
import math
import re
from pathlib import Path

import pytest

from kd_asr_slr.decoding.beam import BeamDecoder
from kd_asr_slr.decoding.ngram_scorer import (
    NgramScorer,
    check_spelling_coverage,
    check_word_coverage,
    load_kenlm,
    prefixes_of,
    read_unigrams,
)
from kd_asr_slr.errors import UserError

ARPA = """\\data\\
ngram 1=5
ngram 2=1

\\1-grams:
-1.0\t<unk>
-99\t<s>
-1.0\t</s>
-0.5\tONE
-0.7	TWO

\\2-grams:
-0.1	ONE TWO

\\end\\
"""


@pytest.fixture
def folder(shared_data: Path) -> Path:
    return shared_data / "kenlm"


@pytest.mark.parametrize("name", ["kenlm_test.arpa", "kenlm_test_nounk.arpa", "toy0.arpa", "bugs_bunny_kenlm.arpa"])
def test_every_unigram_is_read(folder, name):
    """As many words as the header says, and KenLM knows all of them; some have no back-off, some blanks for tabs."""
    path = folder / name
    words = read_unigrams(path)
    text = path.read_text()
    specials = sum(bool(re.search(rf"\s{token}\s", text)) for token in ("<s>", "</s>", "<unk>", "<UNK>"))
    assert len(words) + specials == int(re.search(r"ngram 1=\s*(\d+)", text).group(1))
    model = load_kenlm(path)
    assert all(word in model for word in words)


def test_known_sentence_scores(folder):
    """Word by word through the scorer, against the scores stored with the models."""
    with (folder / "expected_sentence_scores.tsv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["bos"] == "1" and row["sentence"]]
    assert len(rows) > 10
    for row in rows:
        scorer = NgramScorer(load_kenlm(folder / row["arpa"]), None, weight=1.0, word_score=0.0, oov_offset=0.0)
        words, total, state = row["sentence"].split(), 0.0, scorer.get_start_state()
        for position, word in enumerate(words, 1):
            score, state = scorer.score(state, word, is_last_word=position == len(words) and row["eos"] == "1")
            total += score
        assert total / math.log(10) == pytest.approx(float(row["log10_total"]), abs=2e-5), row


def test_weight_word_score_and_offset(folder):
    model = load_kenlm(folder / "kenlm_test.arpa")
    plain = NgramScorer(model, None, weight=1.0, word_score=0.0, oov_offset=0.0)
    scorer = NgramScorer(model, prefixes_of(["looking"]), weight=0.5, word_score=2.0, oov_offset=-10.0)
    start = scorer.get_start_state()
    assert scorer.order == 5
    assert scorer.score(start, "looking")[0] == pytest.approx(0.5 * plain.score(start, "looking")[0] + 2.0)
    unknown = 0.5 * (plain.score(start, "zebra")[0] - 10 * math.log(10)) + 2.0
    assert scorer.score(start, "zebra")[0] == pytest.approx(unknown)
    assert scorer.score(start, "") == (0.0, start)
    assert scorer.score_partial_token("loo") == 0.0
    assert scorer.score_partial_token("lox") == pytest.approx(-5 * math.log(10))
    assert plain.score_partial_token("lox") == 0.0


def test_unigrams_without_back_off(tmp_path):
    path = tmp_path / "small.arpa"
    path.write_text(ARPA)
    assert read_unigrams(path) == {"ONE", "TWO"}
    assert BeamDecoder(["<blank>", "ONE", "TWO"], 0, "words", path).lm_warning is None


def test_gzip(tmp_path):
    path = tmp_path / "small.arpa.gz"
    path.write_bytes(gzip.compress(ARPA.encode()))
    assert read_unigrams(path) == {"ONE", "TWO"}


def test_a_binary_model_lists_no_words(tmp_path):
    path = tmp_path / "model.binary"
    path.write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0" + bytes(100))
    assert read_unigrams(path) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "cannot be read"),
        (b"no language model\n", "cannot be read"),
        (ARPA.encode()[:60], "cannot be read"),
        (b"\\data\\\nngram 1=1\n\n\\1-grams:\n-1\tONE\n\n\\end\\\n", r"read \(FormatLoadException.*at least a bigram"),
    ],
)
def test_files_that_are_no_language_model(tmp_path, content, message):
    path = tmp_path / "lm.arpa"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        BeamDecoder(["<blank>", "ONE"], 0, "words", path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_language_model(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        BeamDecoder(["<blank>", "ONE"], 0, "words", tmp_path)


def test_word_coverage():
    path = Path("lm.arpa")
    assert check_word_coverage(["ONE", "TWO"], {"ONE", "TWO", "SIX"}, path) is None
    assert "1 of 3 labels" in check_word_coverage(["ONE", "TWO", "SIX"], {"ONE"}, path)
    with pytest.raises(UserError, match="0 of 2 labels .* change the case of the model's text"):
        check_word_coverage(["ONE", "TWO"], {"one"}, path)
    with pytest.raises(UserError, match="use a model made from this vocabulary's texts"):
        check_word_coverage(["ONE", "TWO"], {"REGEN"}, path)


def test_spelling_coverage():
    path = Path("lm.arpa")
    assert check_spelling_coverage("abc", {"ab", "cab"}, path) is None
    assert "2 of 3 words" in check_spelling_coverage("abc", {"ab", "cab", "dab"}, path)
    with pytest.raises(UserError, match="change the case"):
        check_spelling_coverage("ABC", {"ab", "cab"}, path)
    with pytest.raises(UserError, match="0 of 1 words"):
        check_spelling_coverage("abc", {"xyz"}, path)


def test_a_language_model_of_another_vocabulary_is_refused(folder):
    with pytest.raises(UserError, match="0 of 2 labels"):
        BeamDecoder(["<blank>", "REGEN", "SONNE"], 0, "words", folder / "kenlm_test.arpa")
