"""Runs on pieces of words: where the pieces come from, what is refused, and a run through the recipes."""

from __future__ import annotations

import io
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from datasets import Dataset, DatasetDict
from tiny_runs import REPOSITORY, parsed, recipe
from transformers import AutoTokenizer

from kd_asr_slr.arguments import DataArguments, ModelArguments
from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.pieces import PieceTokenizer
from kd_asr_slr.processing.tokenization import LabelTokenizer
from kd_asr_slr.training.student import build_tokenizer

TEXTS = ["ZERO ONE TWO", "TEN TWENTY", "ONE ZERO ONE"]
HYBRID: dict[str, Any] = {
    "model": "nemo_hybrid",
    "model_options": {
        "num_mel_bins": 16, "encoder_layers": 1, "d_model": 16, "encoder_heads": 2, "conv_kernel_size": 7,
        "decoder_layers": 1, "decoder_heads": 2, "decoder_ffn_dim": 16, "max_source_positions": 200,
        "max_target_positions": 16, "conv_norm_type": "layer_norm",
    },
    "feature_options": None,
    "hard_losses": ["ctc", "cross_entropy"],
}  # fmt: skip


def tokenizer_of(**options: object) -> LabelTokenizer:
    corpus = DatasetDict({"train": Dataset.from_dict({"text": TEXTS}), "dev": Dataset.from_dict({"text": ["SIX"]})})
    data = DataArguments(corpus="fsdd", data_dir="x", normaliser="words")
    return build_tokenizer(ModelArguments(**options), data, corpus)


@pytest.fixture
def given(tmp_path: Path) -> Path:
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=written, model_type="bpe", vocab_size=20, minloglevel=2
    )
    path = tmp_path / "tokenizer.ckpt"
    path.write_bytes(written.getvalue())
    return path


def test_pieces_of_the_training_texts() -> None:
    plain = tokenizer_of(tokenizer_kind="pieces", vocabulary_size=14)
    assert plain.tokens == PieceTokenizer.from_texts(TEXTS, 14).tokens
    hybrid = tokenizer_of(tokenizer_kind="pieces", vocabulary_size=18, piece_algorithm="bpe", model="nemo_hybrid")
    assert hybrid.tokens == PieceTokenizer.from_texts(TEXTS, 18, "bpe", decoder_specials=True).tokens
    with pytest.raises(UserError, match="'SIX'"):
        plain.encode_labels("SIX")


def test_pieces_of_a_word_list_or_given(tmp_path: Path, given: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("six\nseven\n", encoding="utf-8")
    listed = tokenizer_of(tokenizer_kind="pieces", vocabulary=str(path), vocabulary_size=9)
    assert listed.tokens == PieceTokenizer.from_texts(["SIX", "SEVEN"], 9).tokens
    with pytest.raises(UserError, match="set --vocabulary_size N"):
        tokenizer_of(tokenizer_kind="pieces", vocabulary=str(path))
    taken = tokenizer_of(vocabulary=str(given))  # unknown, begin and end are no pieces
    assert (taken.kind, len(taken.tokens)) == ("pieces", 18)
    assert tokenizer_of(vocabulary=str(given), tokenizer_kind="pieces", vocabulary_size=18).tokens == taken.tokens
    with pytest.raises(UserError, match="vocabulary_size is 20; .* makes 18 tokens"):
        tokenizer_of(vocabulary=str(given), tokenizer_kind="pieces", vocabulary_size=20)
    with pytest.raises(UserError, match="tokenizer_kind is characters and .* holds pieces"):
        tokenizer_of(vocabulary=str(given), tokenizer_kind="characters")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tokenizer_kind": "pieces"}, "needs a size; set --vocabulary_size N"),
        ({"vocabulary_size": 100}, "tokenizer_kind 'words' has no use for it"),
        ({"tokenizer_kind": "pieces", "vocabulary_size": 1}, "expected 2 or more"),
        ({"tokenizer_kind": "syllables"}, "expected one of words, characters, pieces"),
        ({"tokenizer_kind": "pieces", "vocabulary_size": 9, "piece_algorithm": "char"}, "expected one of unigram, bpe"),
    ],
)
def test_arguments_that_contradict_each_other(options: dict[str, Any], words: str) -> None:
    assert words in " ".join(ModelArguments(**options).problems())


@pytest.fixture
def score(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `recipes/score.py` in this process; returns what it prints."""

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["score.py", *words])
        runpy.run_path(str(REPOSITORY / "recipes" / "score.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.mark.slow
def test_a_hybrid_on_pieces_from_training_to_every_decoder(
    speech: Path, tmp_path: Path, score: Callable[..., str]
) -> None:
    folder = tmp_path / "run"
    options = {**HYBRID, "data_dir": speech, "output_dir": folder, "tokenizer_kind": "pieces"}
    too_many = recipe("train", vocabulary_size=500, **options)
    assert too_many.returncode == 2
    assert "vocabulary_size is 500; expected at most " in too_many.stderr and "Traceback" not in too_many.stderr
    assert not (folder / "results.json").exists()
    done = recipe("train", vocabulary_size=12, **{**options, "num_train_epochs": 2})
    assert done.returncode == 0, done.stderr
    tokens = AutoTokenizer.from_pretrained(folder).tokens
    assert len(tokens) == 12 and tokens[:3] == ["<blank>", "<s>", "</s>"]
    words = tmp_path / "words.txt"
    words.write_text("bata\npada\n", encoding="utf-8")
    named = {
        "beam": [],
        "attention": ["--max_length", "4"],
        "closed": ["--word_list", str(words)],
        "closed-joint": ["--closed_by", "joint"],
        "joint": ["--beam_width", "3"],
    }
    for name, more in named.items():
        command = ["--run", str(folder), "--decoder", name.partition("-")[0], *more]
        first = score(*command)
        written = (folder / f"predictions-test-{name}.jsonl").read_bytes()
        assert score(*command) == first
        assert (folder / f"predictions-test-{name}.jsonl").read_bytes() == written
        said = {json.loads(line)["hypothesis"] for line in written.decode().splitlines()}
        if name == "closed":
            assert said <= {"BATA", "PADA"}
        if name == "closed-joint":
            assert said <= {"BATA", "PADA", "PATA", "TAPA"}  # the training texts
    scores = json.loads((folder / "results.json").read_text(encoding="utf-8"))["scores"]
    assert {entry["decoder"] for entry in scores} == {"greedy", *named}
    searches = {entry["decoder"]: entry.get("search") for entry in scores}
    assert searches["closed-joint"] == {"word_list": None, "closed_by": "joint", "ctc_weight": 0.3}
    assert searches["joint"] == {"ctc_weight": 0.3, "beam_width": 3}


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"no archive", None])
def test_a_nemo_file_that_is_none_is_a_sentence(speech: Path, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "encoder.nemo"
    if content is not None:
        path.write_bytes(content)
    done = recipe("train", **{**HYBRID, "data_dir": speech, "output_dir": tmp_path / "run"}, pretrained_encoder=path)
    assert done.returncode == 2, done.stderr
    assert "\nerror: " in f"\n{done.stderr}" and "encoder.nemo" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_the_arguments_reach_the_run(speech: Path, tmp_path: Path) -> None:
    run = parsed(data_dir=speech, output_dir=tmp_path, tokenizer_kind="pieces", vocabulary_size=40)
    assert (run.model.tokenizer_kind, run.model.vocabulary_size, run.model.piece_algorithm) == ("pieces", 40, "unigram")
