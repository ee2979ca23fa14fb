"""The label list: order, encoding, errors, fingerprints, round trips."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from transformers import Wav2Vec2CTCTokenizer

from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.tokenization import (
    BLANK,
    SPACE,
    LabelTokenizer,
    fingerprint_of,
    split_labels,
    token_list,
)


def test_words_are_sorted_after_the_blank_and_the_decoder_tokens() -> None:
    plain = LabelTokenizer.from_texts(["ZWEI EINS", "ÄPFEL EINS"], kind="words")
    assert plain.tokens == ["<blank>", "EINS", "ZWEI", "ÄPFEL"]
    assert (plain.blank_id, plain.bos_id, plain.eos_id, len(plain)) == (0, None, None, 4)
    decoder = LabelTokenizer.from_texts(["ZWEI EINS"], kind="words", decoder_specials=True)
    assert decoder.tokens == ["<blank>", "<s>", "</s>", "EINS", "ZWEI"]
    assert (decoder.blank_id, decoder.bos_id, decoder.eos_id, len(decoder)) == (0, 1, 2, 5)


def test_encoding_words_and_back() -> None:
    tokenizer = LabelTokenizer.from_texts(["A B", "C"], kind="words", decoder_specials=True)
    assert tokenizer.encode_labels("  C   A A ") == [5, 3, 3]
    assert tokenizer.decode_labels([1, 5, 0, 3, 3, 2]) == "C A A"  # blank and specials dropped, repeats kept
    assert tokenizer("C A")["input_ids"] == [5, 3]


def test_encoding_characters_and_back() -> None:
    tokenizer = LabelTokenizer.from_texts(["AB A", "B"], kind="characters")
    assert tokenizer.tokens == ["<blank>", "A", "B", "|"]
    assert tokenizer.encode_labels(" AB  BA ") == [1, 2, 3, 2, 1]
    assert tokenizer.decode_labels([1, 2, 3, 2, 1]) == "AB BA"
    assert tokenizer("AB A")["input_ids"] == [1, 2, 3, 1]


def test_unknown_labels_are_named_or_dropped() -> None:
    tokenizer = LabelTokenizer.from_texts(["A B"], kind="words", decoder_specials=True)
    with pytest.raises(UserError, match="outside the vocabulary of 5 tokens: 'C', 'D'"):
        tokenizer.encode_labels("A D C D")
    with pytest.raises(UserError, match="'<s>'"):  # a special token is no label
        tokenizer.encode_labels("<s> A")
    assert tokenizer.encode_labels("A D B", unknown="drop") == [3, 4]
    assert tokenizer.missing_labels(iter(["A D", "C D", "B"])) == {"D": 2, "C": 1}


def test_what_no_vocabulary_can_be_made_of() -> None:
    with pytest.raises(UserError, match="no label"):
        LabelTokenizer.from_texts(["", "  "])
    with pytest.raises(UserError, match="<blank>"):
        LabelTokenizer.from_texts(["A <blank>"])
    with pytest.raises(UserError, match="stands for the space"):
        split_labels("A|B", "characters")
    with pytest.raises(UserError, match="unknown kind"):
        LabelTokenizer.from_texts(["A"], kind="syllables")
    with pytest.raises(UserError, match="2 times"):
        LabelTokenizer(token_sequence=["<blank>", "A", "A"])
    with pytest.raises(UserError, match="special token '<blank>' is not in it"):
        LabelTokenizer(token_sequence=["A"])


def test_fingerprint_is_the_hash_of_tokens_and_blank() -> None:
    expected = hashlib.sha256(b'[["<blank>","A","\\u00c4"],0]').hexdigest()[:16]
    assert fingerprint_of(["<blank>", "A", "Ä"], 0) == expected
    assert LabelTokenizer.from_texts(["Ä A"]).fingerprint == expected
    others = [(["<blank>", "Ä", "A"], 0), (["<blank>", "A", "Ä"], 1), (["<blank>", "A", "Ä", "B"], 0)]
    assert expected not in {fingerprint_of(tokens, blank) for tokens, blank in others}


def test_saved_and_loaded(tmp_path) -> None:
    tokenizer = LabelTokenizer.from_texts(["LOC-RAUM Ä", "__ON__ Ä"], kind="words", decoder_specials=True)
    tokenizer.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))["Ä"] == 5
    loaded = LabelTokenizer.from_pretrained(tmp_path)
    assert (loaded.tokens, loaded.kind, loaded.eos_id) == (tokenizer.tokens, "words", 2)
    assert loaded.fingerprint == tokenizer.fingerprint
    loaded.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "vocab.json").read_bytes() == (tmp_path / "vocab.json").read_bytes()


def test_a_broken_vocabulary_file_is_a_sentence(tmp_path) -> None:
    path = tmp_path / "vocab.json"
    for content in ("{", '["A"]', '{"<blank>": 0, "A": 2}'):
        path.write_text(content)
        with pytest.raises(UserError, match="cannot read the vocabulary"):
            LabelTokenizer(str(path))


def test_token_list_of_a_tokenizer_of_transformers(tmp_path) -> None:
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5}))
    tokens, blank = token_list(Wav2Vec2CTCTokenizer(str(path)))
    assert (tokens, blank) == (["<pad>", "<s>", "</s>", "<unk>", "|", "A"], 0)
    ours = LabelTokenizer.from_texts(["B A"])
    assert token_list(ours) == (ours.tokens, 0)
    path.write_text(json.dumps({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 5, "A": 6}))
    with pytest.raises(UserError, match="no token of index 4"):
        token_list(Wav2Vec2CTCTokenizer(str(path)))


@pytest.mark.parametrize("kind", ["words", "characters"])
def test_decode_reads_a_best_path_as_transformers_ctc_tokenizers_do(kind: str, tmp_path: Path) -> None:
    ours = LabelTokenizer.from_texts(["AB BA"], kind=kind)
    vocabulary = {token: index for index, token in enumerate(ours.tokens)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    theirs = Wav2Vec2CTCTokenizer(
        str(tmp_path / "vocab.json"), pad_token=BLANK, unk_token=BLANK, word_delimiter_token=SPACE, bos_token=BLANK,
        eos_token=BLANK,
    )  # fmt: skip
    generator = np.random.default_rng(0)
    for _ in range(50):
        path = generator.integers(0, len(ours.tokens), size=12)
        expected = theirs.decode(path) if kind == "characters" else collapsed(path, ours)
        assert ours.decode(path) == " ".join(expected.split())
    assert ours.batch_decode([[1, 1, 0, 1], [2]]) == [ours.decode([1, 0, 1]), ours.decode([2])]
    assert ours.decode([1, 1], group_tokens=False) == ours.decode_labels([1, 1])


def collapsed(path: np.ndarray, tokenizer: LabelTokenizer) -> str:
    kept = [index for place, index in enumerate(path) if index and (place == 0 or path[place - 1] != index)]
    return " ".join(tokenizer.tokens[index] for index in kept)
