"""From a generalist to speaker teachers to a student, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from recipe_runs import SPEECH, TRAINING, done, run, write_speech_corpus


@pytest.mark.slow
def test_adapt_then_distil_from_the_folder(tmp_path: Path) -> None:
    manifest = write_speech_corpus(tmp_path / "corpus")
    network = {"model_options": SPEECH["model_options"], "feature_options": SPEECH["feature_options"]}
    common = {"manifest": manifest, "corpus_name": SPEECH["corpus_name"], **TRAINING}
    done(run("train", output_dir=tmp_path / "generalist", **common, **network))
    teachers = tmp_path / "teachers"
    start = {"model": tmp_path / "generalist", "output_dir": teachers}
    shown = done(run("adapt_teachers", **common, **start)).out
    assert f"teachers: [{teachers}]" in shown
    assert (teachers / "who_scores_what.md").read_text() in shown + "\n"
    scores = json.loads((teachers / "who_scores_what.json").read_text())
    assert list(scores["test"]) == ["generalist", "anna", "bert"]
    own = json.loads((teachers / "anna" / "results.json").read_text())["scores"]
    test = next(score for score in own if score["split"] == "test")["by_speaker"]
    for who, rates in test.items():
        assert scores["test"]["anna"][who]["wer"] == pytest.approx(rates["wer"], abs=1e-4)
    again = done(run("adapt_teachers", **common, **start)).out
    assert again.count("finished; nothing to do") == 2
    student = {**common, **network, "vocabulary": tmp_path / "generalist"}
    done(run("distill", teachers=[teachers], output_dir=tmp_path / "student", **student))
    named = json.loads((tmp_path / "student" / "results.json").read_text())["teachers"]
    assert [teacher["speakers"] for teacher in named] == [["tones/anna"], ["tones/bert"]]
