"""The overfit check, copies every few epochs, and a run that is only checked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny_runs import OPTIONS, command, do_run

from kd_asr_slr.arguments import DataArguments, DistillationArguments, ModelArguments
from kd_asr_slr.command_line import parse
from kd_asr_slr.errors import UserError
from kd_asr_slr.training.data import load_data
from kd_asr_slr.training.overfitting import few_utterances, overfit, without_regularisation
from kd_asr_slr.training.student import build_processor, build_student

CLASSES = [DataArguments, ModelArguments, DistillationArguments]


def check(speech: Path, folder: Path, epochs: int, learning_rate: float) -> int | None:
    model_options = {**OPTIONS["model_options"], "hidden_size": 24, "dropout": 0.5}
    words = command(data_dir=speech, output_dir=folder, model_options=model_options, learning_rate=learning_rate)
    data, model, training = parse(CLASSES, words)
    corpus = load_data(data)
    few = few_utterances(corpus, data, 4)
    without_regularisation(model, training, str(folder), epochs)
    assert model.model_options["dropout"] == 0.0
    processor = build_processor(model, data, corpus)
    return overfit(build_student(model, processor, seed=1), processor, few, data, training)


def test_a_few_utterances_are_learnt_by_heart(speech: Path, tmp_path: Path) -> None:
    epochs = check(speech, tmp_path / "run", epochs=150, learning_rate=1e-2)
    assert epochs is not None and 2 <= epochs < 150


def test_a_model_that_does_not_learn_fails(speech: Path, tmp_path: Path) -> None:
    assert check(speech, tmp_path / "run", epochs=2, learning_rate=1e-6) is None


def test_the_few_differ_in_their_texts(speech: Path) -> None:
    (data,) = parse([DataArguments], ["--corpus", "synthetic_speech", "--data_dir", str(speech)] + [
        "--corpus_options", command()[command().index("--corpus_options") + 1]
    ])  # fmt: skip
    corpus = load_data(data)
    assert len(set(few_utterances(corpus, data, 4)["train"]["text"])) == 4
    with pytest.raises(UserError, match="the train split has 24 utterances; expected at least 25"):
        few_utterances(corpus, data, 25)


def test_copies_every_few_epochs(speech: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    do_run(data_dir=speech, output_dir=folder, num_train_epochs=4, checkpoint_every_epochs=2)
    copies = sorted(path.name for path in folder.glob("epoch-*"))
    assert copies == ["epoch-0002", "epoch-0004"]
    first, second = (load_file(folder / name / "model.safetensors") for name in copies)
    assert any((first[name] != second[name]).any() for name in first)
    assert (folder / "epoch-0002" / "vocab.json").is_file()


def test_preflight_only_writes_nothing(speech: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    import importlib.util

    recipe = Path(__file__).resolve().parents[2] / "recipes" / "train.py"
    spec = importlib.util.spec_from_file_location("train_recipe", recipe)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    words = command(data_dir=speech, output_dir=tmp_path / "run", preflight_only=True)
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    module.main()
    assert "nothing stands in the way" in capsys.readouterr().out
    assert not list((tmp_path / "run").glob("*"))
