"""The verdict of run folders: teachers are asked for the very same utterances only; the card says it."""

from __future__ import annotations

import pytest

from kd_asr_slr.reporting.model_card import write_model_card
from kd_asr_slr.reporting.verdicts import verdict_of
from kd_asr_slr.scoring.score import score_predictions


def words(right: int, speaker: str = "fsdd/theo", size: int = 20) -> dict:
    rows = [
        {"id": str(number), "speaker": speaker, "reference": f"W{number}",
         "hypothesis": f"W{number}" if number < right else f"X{number}"}
        for number in range(size)
    ]  # fmt: skip
    return score_predictions(rows, "test", "greedy", resamples=20)


@pytest.fixture()
def student(make_run, tmp_path):
    make_run("a", [words(9)])
    make_run("b", [words(19, speaker="fsdd/jackson")])  # another speaker says nothing of theo
    make_run("g", [words(8)])
    config = {
        "teachers": [f"fsdd/jackson={tmp_path / 'a'}", str(tmp_path / "b"), str(tmp_path / "gone"), "hub/name"],
        "generalist": str(tmp_path / "g"),
        "held_out_speakers": ["theo"],
    }
    return make_run("student", [words(3)], config=config)


def test_teachers_on_the_same_utterances(student):
    lines = verdict_of(student)
    assert lines[0].startswith("Verdict: WRA 15.0 % on held-out speakers, below 20 %")
    assert "On the same utterances: teacher fsdd/jackson 45.0 %, generalist 40.0 %." in lines
    assert any("teacher fsdd/jackson is far better" in line for line in lines)


def test_the_card_says_it(student):
    card = write_model_card(student).read_text(encoding="utf-8")
    section = card.split("### Verdict")[1].split("\n## ")[0]
    assert "WRA 15.0 % on held-out speakers" in section and "\n- Keep a label loss" in section


def test_without_held_out_speakers_there_is_none(make_run):
    run = make_run("plain", [words(3)], config={"held_out_speakers": []})
    assert verdict_of(run) == []
    assert "Verdict" not in write_model_card(run).read_text(encoding="utf-8")


def test_a_broken_teacher_is_passed_over(student, tmp_path):
    (tmp_path / "a" / "results.json").write_text("{")
    assert "On the same utterances: generalist 40.0 %." in verdict_of(student)


def test_the_dev_split_has_the_speakers_that_were_heard(make_run):
    dev = {**words(18, speaker="fsdd/jackson"), "split": "dev"}
    run = make_run("student", [dev, words(6)], config={"teachers": [], "held_out_speakers": ["theo"]})
    assert any("it reaches 90.0 %: the words are learnt" in line for line in verdict_of(run))
