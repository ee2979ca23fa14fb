"""Adapting teachers: taken up after a kill between two speakers, tied to the generalist, and of a held-out speaker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import do_run, largest_difference, parsed, weights

from kd_asr_slr.errors import UserError
from kd_asr_slr.tool_arguments import AdaptationArguments
from kd_asr_slr.training import adaptation
from kd_asr_slr.training.training_data import read_training_data

START = {"model_options": None, "feature_options": None, "num_train_epochs": 1, "learning_rate": 3e-3}
HELD_OUT = {"split_policy": "held_out_speaker", "held_out_speakers": ["s02"]}


def adapt(folder: Path, speech: Path, generalist: Path, how: AdaptationArguments | None = None, **options: Any) -> Any:
    run = parsed(data_dir=speech, output_dir=folder, model=str(generalist), **START, **options)
    return adaptation.adapt_teachers(run.data, run.model, run.training, how)


def test_a_kill_between_two_speakers(
    speech: Path, generalist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = adaptation._adapt_one
    done: list[str] = []

    def killed(*arguments: Any) -> None:
        if done:
            raise KeyboardInterrupt
        one(*arguments)
        done.append(arguments[4].name)

    with monkeypatch.context() as patch:
        patch.setattr(adaptation, "_adapt_one", killed)
        with pytest.raises(KeyboardInterrupt):
            adapt(tmp_path / "killed", speech, generalist)
    assert done == ["s01"] and not (tmp_path / "killed" / "adaptation.json").exists()
    before = (tmp_path / "killed" / "s01" / "model.safetensors").stat().st_mtime_ns
    adapt(tmp_path / "killed", speech, generalist)
    assert (tmp_path / "killed" / "s01" / "model.safetensors").stat().st_mtime_ns == before
    adapt(tmp_path / "whole", speech, generalist)
    for name in ("s01", "s02"):
        assert largest_difference(weights(tmp_path / "killed" / name), weights(tmp_path / "whole" / name)) == 0.0
    index = json.loads((tmp_path / "killed" / "adaptation.json").read_text())
    assert index["teachers"] == {"synthetic_speech/s01": "s01", "synthetic_speech/s02": "s02"}


def test_a_tie_is_distillation_from_the_generalist(speech: Path, generalist: Path, tmp_path: Path) -> None:
    adapt(tmp_path / "tied", speech, generalist, AdaptationArguments(generalist_tie=0.3), train_speakers=["s01"])
    options = {"model": str(generalist), "teachers": [generalist], "alpha": 0.3, "beta": 0.7, "train_speakers": ["s01"]}
    do_run(data_dir=speech, output_dir=tmp_path / "distilled", **options, **START)
    assert largest_difference(weights(tmp_path / "tied" / "s01"), weights(tmp_path / "distilled")) == 0.0
    adapt(tmp_path / "free", speech, generalist, train_speakers=["s01"])
    assert largest_difference(weights(tmp_path / "tied" / "s01"), weights(tmp_path / "free" / "s01")) > 0.0
    results = json.loads((tmp_path / "tied" / "s01" / "results.json").read_text())
    assert [teacher["name"] for teacher in results["teachers"]] == [str(generalist)]
    assert AdaptationArguments(generalist_tie=1.5).problems() == ["generalist_tie is 1.5; expected 0 to 1"]


def test_a_held_out_speaker_gets_no_teacher_unless_asked(speech: Path, generalist: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"teacher {generalist} was trained on synthetic_speech/s02, who is held out"):
        adapt(tmp_path / "refused", speech, generalist, **HELD_OUT)
    assert not (tmp_path / "refused").exists()
    blind = tmp_path / "blind"
    do_run(data_dir=speech, output_dir=blind, **HELD_OUT)
    assert list(adapt(tmp_path / "usual", speech, blind, **HELD_OUT)) == ["synthetic_speech/s01"]
    debug = adapt(tmp_path / "debug", speech, blind, AdaptationArguments(held_out_as_teacher=True), **HELD_OUT)
    assert list(debug) == ["synthetic_speech/s01", "synthetic_speech/s02"]
    assert read_training_data(debug["synthetic_speech/s02"]).speakers == ["synthetic_speech/s02"]
