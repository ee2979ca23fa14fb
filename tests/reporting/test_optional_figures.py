"""Keys that a scorer may add are checked where they are there, and may be missing."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kd_asr_slr.reporting.results_schema import problems_of_results, problems_of_score
from kd_asr_slr.scoring.score import score_predictions

ROWS = [
    {"id": "a", "speaker": "s/x", "reference": "ONE", "hypothesis": "ONE", "band": "low", "seen": True},
    {"id": "b", "speaker": "s/y", "reference": "TWO", "hypothesis": "", "category": "digit"},
]


@pytest.fixture()
def full_score() -> dict[str, Any]:
    return score_predictions(ROWS, "test", "greedy", resamples=20)


def test_what_the_scorer_writes_fits(full_score):
    assert problems_of_score(full_score) == []
    assert {"cer", "macro", "by_band", "by_category", "by_seen", "wra_ci95_speakers"} <= set(full_score)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("cer",), -1, "score.cer is -1; expected a fraction, 0 or more"),
        (("wra_first_word",), 1.5, "score.wra_first_word is 1.5; expected a fraction between 0 and 1"),
        (("distinct_predictions",), 0, "score.distinct_predictions is 0; expected a whole number, 1 or more"),
        (("empty_predictions",), 0.5, "score.empty_predictions is 0.5; expected a whole number"),
        (("commonest_prediction",), {"text": "ONE"}, "score.commonest_prediction is {'text': 'ONE'}; expected an obj"),
        (("wra_ci95",), None, "score.wra_ci95 is None; expected [low, high]"),
        (("wra_ci95_speakers",), [0.5], "score.wra_ci95_speakers is [0.5]; expected [low, high] as fractions, or null"),
        (("macro", "wra"), "high", "score.macro.wra is 'high'; expected a fraction"),
        (("by_seen",), [], "score.by_seen is []; expected an object"),
        (("by_band", "low", "wer"), None, "score.by_band['low'].wer is None"),
        (("by_category", "digit", "reference_tokens"), 3, "score.by_category sums to 4 reference tokens; expected"),
    ],
)
def test_a_wrong_figure_is_named(full_score, path, value, message):
    wrong = copy.deepcopy(full_score)
    place = wrong
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (problem,) = problems_of_score(wrong)
    assert message in problem


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("training", {"epochs": 2.0, "steps": 1.5, "seconds": None}, "training.steps is 1.5; expected a whole number"),
        ("training", {"epochs": 2.0, "steps": 1}, "training.seconds is missing; expected seconds"),
        ("training", 3, "training is 3; expected an object"),
        ("vocabulary", {"size": 0, "fingerprint": "ab"}, "vocabulary.size is 0; expected a whole number, 1 or more"),
    ],
)
def test_what_a_run_may_add(make_run, key, value, message):
    good = {"training": {"epochs": 2.0, "steps": 4, "seconds": None}, "vocabulary": {"size": 11, "fingerprint": "ab"}}
    results = make_run(**good).read_results()
    assert {name: results[name] for name in good} == good
    (problem,) = problems_of_results({**results, key: value})
    assert message in problem
