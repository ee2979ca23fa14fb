"""Pieces of words, against the sentencepiece module itself: order, encoding, errors, saving, given models."""

from __future__ import annotations

import copy
import io
import json
import pickle
from pathlib import Path

import pytest
import sentencepiece
from transformers import AutoTokenizer

from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.auto import load_processor
from kd_asr_slr.processing.pieces import PieceTokenizer
from kd_asr_slr.processing.speech import SpeechFeatureExtractor, SpeechProcessor
from kd_asr_slr.processing.tokenization import LabelTokenizer
from kd_asr_slr.teachers.fingerprints import vocabulary_difference

TEXTS = ["ZERO ONE TWO", "TEN TWENTY", "ONE ZERO ONE", "NINETEEN SEVENTEEN"]


@pytest.fixture(scope="session")
def words(shared_data: Path) -> list[str]:
    """The 449 words of UASpeech."""
    lines = (shared_data / "uaspeech" / "word_table.tsv").read_text(encoding="utf-8").splitlines()[1:]
    found = sorted({line.split("\t")[2] for line in lines})
    assert len(found) == 449
    return found


def trained(texts: list[str], **options: object) -> bytes:
    """A model as others train it, with SentencePiece's own defaults unless told otherwise."""
    written = io.BytesIO()
    settings = {"minloglevel": 2, "model_type": "bpe", "vocab_size": 24, **options}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(texts), model_writer=written, **settings)
    return written.getvalue()


def refusal(call, *arguments: object, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
@pytest.mark.parametrize("decoder", [False, True])
def test_the_449_words_there_and_back(words: list[str], algorithm: str, decoder: bool) -> None:
    tokenizer = PieceTokenizer.from_texts(words, 200, algorithm, decoder_specials=decoder)
    assert len(tokenizer.tokens) == len(tokenizer) == 200
    specials = ["<blank>", "<s>", "</s>"] if decoder else ["<blank>"]
    assert tokenizer.tokens[: len(specials)] == specials
    assert (tokenizer.blank_id, tokenizer.bos_id, tokenizer.eos_id) == ((0, 1, 2) if decoder else (0, None, None))
    segmenter = sentencepiece.SentencePieceProcessor(model_proto=tokenizer._model)
    assert tokenizer.tokens[len(specials) :] == [segmenter.id_to_piece(index) for index in range(1, len(segmenter))]
    for word in words:
        ids = tokenizer.encode_labels(word)
        assert [tokenizer.tokens[index] for index in ids] == segmenter.encode(word, out_type=str)
        assert tokenizer.decode_labels(ids) == segmenter.decode([index - len(specials) + 1 for index in ids]) == word
    sentence = " ".join(words[:20])
    assert tokenizer.decode_labels(tokenizer.encode_labels(f"  {sentence} ")) == sentence
    assert tokenizer(sentence)["input_ids"] == tokenizer.encode_labels(sentence)
    assert any(len(tokenizer.encode_labels(word)) < len(word) / 2 for word in words)


@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
def test_the_same_texts_give_the_same_pieces_and_nothing_is_printed(
    words: list[str], algorithm: str, capfd: pytest.CaptureFixture[str]
) -> None:
    first, again = (PieceTokenizer.from_texts(iter(words), 150, algorithm) for _ in range(2))
    assert first._model == again._model
    refusal(PieceTokenizer.from_texts, words, 10**5, algorithm)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
@pytest.mark.parametrize("decoder", [False, True])
def test_a_size_out_of_range_names_the_nearest_one(words: list[str], algorithm: str, decoder: bool) -> None:
    for asked, mark in ((10**5, "at most "), (5, "at least ")):
        message = refusal(PieceTokenizer.from_texts, words, asked, algorithm, decoder)
        assert message.startswith(f"vocabulary_size is {asked}; expected {mark}")
        named = int(message.partition(mark)[2].split()[0].rstrip(","))
        assert len(PieceTokenizer.from_texts(words, named, algorithm, decoder).tokens) == named
        refusal(PieceTokenizer.from_texts, words, named + (1 if asked > named else -1), algorithm, decoder)
    assert "more than the 3 special tokens" in refusal(PieceTokenizer.from_texts, words, 3, algorithm, True)


def test_what_no_pieces_can_be_made_of() -> None:
    assert "no label" in refusal(PieceTokenizer.from_texts, ["", "  "], 20)
    assert "unknown kind of pieces" in refusal(PieceTokenizer.from_texts, TEXTS, 20, "wordpiece")


def test_one_line_longer_than_sentencepiece_reads_by_default() -> None:
    tokenizer = PieceTokenizer.from_texts([" ".join(["AB"] * 3000) + " XYZ"], 12, "bpe")
    assert tokenizer.decode_labels(tokenizer.encode_labels("XYZ AB")) == "XYZ AB"


def test_a_word_that_cannot_be_spelled_is_named_or_dropped() -> None:
    tokenizer = PieceTokenizer.from_texts(TEXTS, 20)
    message = refusal(tokenizer.encode_labels, "ONE ÄPFEL TWO")
    assert "'ÄPFEL' (no piece for 'ÄPF', 'L')" in message and "'ONE'" not in message
    assert "ON▁E" in refusal(tokenizer.encode_labels, "ON▁E")  # the mark itself would come back as a space
    dropped = tokenizer.encode_labels("ONE ÄPFEL TWO", unknown="drop")
    assert tokenizer.decode_labels(dropped) == "ONE E TWO"
    assert tokenizer.missing_labels(iter(["ÄRA ONE", "QUA ÄRA"])) == {"ÄRA": 2, "QUA": 1}
    assert tokenizer.decode_labels([tokenizer.blank_id, *tokenizer.encode_labels("ONE")]) == "ONE"


def test_saved_and_loaded(tmp_path: Path) -> None:
    tokenizer = PieceTokenizer.from_texts(TEXTS, 22, decoder_specials=True)
    tokenizer.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))["</s>"] == 2
    assert str(tmp_path) not in (tmp_path / "tokenizer_config.json").read_text(encoding="utf-8")
    sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "pieces.model"))
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    copies = [loaded, copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded))]
    for other in copies:
        assert type(other) is PieceTokenizer
        assert (other.tokens, other.kind, other.eos_id) == (tokenizer.tokens, "pieces", 2)
        assert other.fingerprint == tokenizer.fingerprint
        assert other.encode_labels("NINETY ONE") == tokenizer.encode_labels("NINETY ONE")
    loaded.save_pretrained(tmp_path / "again")
    for name in ("vocab.json", "pieces.model"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_beside_a_model_in_a_processor(tmp_path: Path) -> None:
    tokenizer = PieceTokenizer.from_texts(TEXTS, 22, decoder_specials=True)
    SpeechProcessor(SpeechFeatureExtractor(kind="waveform"), tokenizer).save_pretrained(tmp_path)
    processor = load_processor(tmp_path)
    assert processor.tokens == tokenizer.tokens
    assert processor.decode_labels(processor.encode_labels("TEN ONE")) == "TEN ONE"


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    PieceTokenizer.from_texts(TEXTS, 20).save_pretrained(tmp_path)
    (tmp_path / "pieces.model").write_bytes(trained(["abc abcd"], vocab_size=10))
    with pytest.raises(UserError, match="its SentencePiece model has no such piece"):
        AutoTokenizer.from_pretrained(tmp_path)
    (tmp_path / "pieces.model").unlink()
    with pytest.raises(UserError, match="no pieces.model"):
        AutoTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {},  # unknown 0, begin 1, end 2
        {"bos_id": -1, "eos_id": -1},  # SpeechBrain's: no specials but the unknown piece
        {"pad_id": 0, "unk_id": 3, "bos_id": 1, "eos_id": 2},
        {"unk_piece": "[UNK]", "control_symbols": "<task>", "user_defined_symbols": "<noise>"},
        {"byte_fallback": True, "vocab_size": 280},
        {"add_dummy_prefix": False},
        {"model_type": "unigram", "vocab_size": 20},
    ],
)
@pytest.mark.parametrize("decoder", [False, True])
def test_a_given_model_keeps_its_pieces_and_loses_its_specials(
    tmp_path: Path, options: dict[str, object], decoder: bool
) -> None:
    path = tmp_path / "tokenizer.ckpt"  # SpeechBrain's name
    path.write_bytes(trained(TEXTS, **options))
    tokenizer = PieceTokenizer.from_file(path, decoder)
    reference = sentencepiece.SentencePieceProcessor(model_file=str(path))
    pieces = [reference.id_to_piece(index) for index in range(len(reference))]
    special = {"<unk>", "[UNK]", "<s>", "</s>", "<pad>", "<task>"}
    kept = [piece for piece in pieces if piece not in special and not piece.startswith("<0x")]
    assert tokenizer.tokens == ["<blank>", *(["<s>", "</s>"] if decoder else []), *kept]
    for text in (*TEXTS, "SEVENTY"):
        ids = tokenizer.encode_labels(text)
        assert [tokenizer.tokens[index] for index in ids] == reference.encode(text, out_type=str)
        assert tokenizer.decode_labels(ids) == reference.decode(reference.encode(text)) == text
    assert "'QUÄ'" in refusal(tokenizer.encode_labels, "QUÄ")
    if "user_defined_symbols" in options:
        assert "<noise>" in tokenizer.tokens


def test_speechbrains_indices_stay_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.ckpt"
    path.write_bytes(trained(TEXTS, unk_id=0, bos_id=1, eos_id=2))
    reference = sentencepiece.SentencePieceProcessor(model_file=str(path))
    tokenizer = PieceTokenizer.from_file(path, decoder_specials=True)
    assert len(tokenizer.tokens) == len(reference)
    assert all(tokenizer.encode_labels(text) == reference.encode(text) for text in TEXTS)


def test_what_is_no_sentencepiece_model(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.ckpt"
    for content in (b"", b"PK\x03\x04" + bytes(300), b"ZERO\nONE\nTWO\n"):
        path.write_bytes(content)
        assert f"{path} is no SentencePiece model; expected a .model file" in refusal(PieceTokenizer.from_file, path)
    assert "cannot be read" in refusal(PieceTokenizer.from_file, tmp_path / "none.model")
    path.write_bytes(trained(TEXTS, user_defined_symbols="<blank>"))
    assert "has the pieces <blank>" in refusal(PieceTokenizer.from_file, path)


def test_two_lists_of_one_size_are_told_apart_by_their_first_difference(words: list[str]) -> None:
    ours, theirs = (PieceTokenizer.from_texts(words, 120, algorithm, True) for algorithm in ("unigram", "bpe"))
    assert len(ours.tokens) == len(theirs.tokens)
    first = next(index for index in range(120) if ours.tokens[index] != theirs.tokens[index])
    found = vocabulary_difference(ours.tokens, 0, theirs.tokens, 0, "teacher F03", "the student")
    expected = f"token {first} is {ours.tokens[first]!r} in teacher F03 and {theirs.tokens[first]!r} in the student"
    assert found == expected and first >= 3
    assert ours.fingerprint != theirs.fingerprint


def test_other_labels_are_not_pieces() -> None:
    assert "unknown kind of labels 'pieces'; expected one of words, characters" in refusal(
        LabelTokenizer.from_texts, ["A"], kind="pieces"
    )
