"""Verdicts: the bands at their borders, collapse, what the teachers say; and advice that can be typed."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from kd_asr_slr.arguments import DataArguments, DistillationArguments, ModelArguments, TeacherArguments
from kd_asr_slr.scoring.verdict import BANDS, COLLAPSE_ADVICE, held_out, verdict_lines


def score(wra: float, share: float = 0.1, text: str = "ONE", tokens: int = 200) -> dict[str, Any]:
    return {
        "split": "test",
        "wra": wra,
        "utterances": 200,
        "reference_tokens": tokens,
        "distinct_predictions": 9,
        "commonest_prediction": {"text": text, "share": share},
    }


@pytest.mark.parametrize(
    ("wra", "band"),
    [
        (0.0, "below 20 %"),
        (0.1999, "below 20 %"),
        (0.2, "20 to 50 %"),
        (0.4999, "20 to 50 %"),
        (0.5, "50 to 70 %"),
        (0.7, "above 70 %"),
        (1.0, "above 70 %"),
    ],
)
def test_bands(wra, band):
    lines = verdict_lines(score(wra))
    assert lines[0].startswith(f"Verdict: WRA {100 * wra:.1f} % on held-out speakers, {band}: ")
    advice = next(entry.advice for entry in BANDS if entry.name == band)
    assert lines[-len(advice) :] == [f"- {sentence}" for sentence in advice]


def test_alike_outputs_are_a_collapse_whatever_the_band():
    lines = verdict_lines(score(0.3, share=0.6))
    assert lines[1] == "Collapse: 60.0 % of the outputs are 'ONE', 9 different outputs in 200 utterances."
    assert lines[-1] == f"- {COLLAPSE_ADVICE[-1]}"
    assert verdict_lines(score(0.01, share=0.99, text=""))[1].startswith("Collapse: 99.0 % of the outputs are empty")
    assert not any(line.startswith("Collapse") for line in verdict_lines(score(0.3, share=0.5)))
    # Most utterances of one word, and most of them right: that is the test set, no collapse.
    assert not any(line.startswith("Collapse") for line in verdict_lines(score(0.9, share=0.6)))


@pytest.mark.parametrize(
    ("wra", "others", "said"),
    [
        (0.1, {"generalist": 0.47, "teacher a": 0.3}, "generalist is far better: the method loses"),
        (
            0.46,
            {"generalist": 0.47, "teacher a": 0.5},
            "the method is not broken, it is domain shift",
        ),
        (0.6, {"generalist": 0.47}, "The student is better than all of them"),
        (0.1, {}, "To tell domain shift from a broken method, score the generalist"),
    ],
)
def test_teachers_tell_domain_shift_from_a_broken_method(wra, others, said):
    lines = verdict_lines(score(wra), others)
    assert sum(said in line for line in lines) == 1
    assert (f"generalist {100 * others['generalist']:.1f} %" in "".join(lines)) if others else True


def test_speakers_that_were_heard_tell_a_hard_speaker_from_too_little_training():
    hard = verdict_lines(score(0.4), {"generalist": 0.42}, heard=0.9)
    assert "heard (dev) it reaches 90.0 %: the words are learnt, the speaker is what is new" in hard[1]
    assert any("domain shift" in line for line in hard)
    young = verdict_lines(score(0.4), {"generalist": 0.42}, heard=0.45)
    assert "hardly more: it is not the speaker; train to the plateau" in young[1]
    assert not any("domain shift" in line for line in young)
    assert verdict_lines(score(0.8), heard=0.85)[1] == "On speakers that it has heard (dev) it reaches 85.0 %."


def test_sentences_have_no_verdict():
    assert verdict_lines(score(0.1, tokens=301)) == []
    assert verdict_lines(score(0.1, tokens=300)) != []


def test_held_out():
    config = {"held_out_speakers": ["theo"], "test_split": "eval"}
    assert held_out(config, {"split": "eval"}) and not held_out(config, {"split": "dev"})
    assert not held_out({"held_out_speakers": [], "test_split": "eval"}, {"split": "eval"})
    assert not held_out({**config, "held_out_as_teacher": True}, {"split": "eval"})


def test_the_advice_can_be_typed(repository: Path):
    """Every option and recipe that is named exists."""
    text = " ".join(sentence for band in BANDS for sentence in band.advice)
    groups = (DataArguments, ModelArguments, TeacherArguments, DistillationArguments)
    known = {field.name for group in groups for field in dataclasses.fields(group)}
    options = set(re.findall(r"`--(\w+)", text))
    assert len(options) >= 8 and options <= known
    recipes = set(re.findall(r"recipes/\w+\.py", text))
    assert recipes and all((repository / recipe).is_file() for recipe in recipes)
