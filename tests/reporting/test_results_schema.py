"""Every way a results object can be wrong is named, and several at once."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kd_asr_slr.reporting.results_schema import problems_of_results, problems_of_score


@pytest.fixture()
def results(make_run) -> dict[str, Any]:
    return make_run().read_results()


def changed(value: dict[str, Any], path: tuple[Any, ...], new: Any) -> dict[str, Any]:
    value = copy.deepcopy(value)
    place = value
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return value


def test_a_right_object_has_no_problems(results):
    assert problems_of_results(results) == []


def test_a_newer_scorer_may_add_figures(results):
    assert problems_of_results(changed(results, ("scores", 0, "cer"), 0.1)) == []


@pytest.mark.parametrize("key", ["name", "recipe", "model", "corpus", "teachers", "seed", "scores"])
def test_a_missing_key_is_named(results, key):
    del results[key]
    problems = problems_of_results(results)
    assert len(problems) == 1
    assert problems[0].startswith(f"{key} is missing; expected ")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema",), "1", "schema is '1'; expected 1"),
        (("seed",), True, "seed is True; expected a whole number"),
        (("teachers",), ["a", {"speaker": "b"}], "teachers is ['a', {'speaker': 'b'}]; expected a list of names"),
        (("model", "parameters"), 0, "model.parameters is 0; expected a whole number, 1 or more"),
        (("scores", 0), 3, "scores[0] is a int; expected an object"),
        (("scores", 0, "wer"), -0.1, "scores[0].wer is -0.1; expected a fraction"),
        (("scores", 0, "wer"), 25.69, "scores[0].wer is 25.69; expected (S + D + I) / reference_tokens = 1423 / 5540"),
        (("scores", 0, "deletions"), 539, "= 1424 / 5540 = 0.257040"),
        (("scores", 0, "insertions"), 1.0, "scores[0].insertions is 1.0; expected a whole number"),
        (("scores", 0, "wra"), 1.2, "scores[0].wra is 1.2; expected a fraction between 0 and 1"),
        (("scores", 0, "wer_ci95"), [0.3, 0.2], "scores[0].wer_ci95 is [0.3, 0.2]; expected [low, high]"),
        (("scores", 0, "lm"), "", "scores[0].lm is ''; expected a string or null"),
        (("scores", 0, "by_speaker", "phoenix/Signer01"), 0.2, "by_speaker['phoenix/Signer01'] is 0.2"),
        (("scores", 0, "by_speaker", "phoenix/Signer01", "reference_tokens"), 2539, "sums to 5539 reference tokens"),
        (("scores", 0, "by_speaker", "phoenix/Signer01", "wer"), None, "['phoenix/Signer01'].wer is None"),
    ],
)
def test_a_wrong_value_is_named(results, path, value, message):
    problems = problems_of_results(changed(results, path, value))
    assert len(problems) == 1
    assert message in problems[0]


def test_rates_rounded_to_four_decimals_are_right(score):
    assert problems_of_score({**score, "wer": 0.2569}) == []
    assert len(problems_of_score({**score, "wer": 0.2567})) == 1


def test_the_same_score_twice_is_a_problem(results):
    results["scores"].append(results["scores"][0])
    assert problems_of_results(results) == ["scores[1] repeats (split, decoder, lm, protocol) of scores[0]"]


def test_all_problems_come_at_once(results):
    results["seed"], results["name"] = None, ""
    results["scores"][0]["wra"] = None
    assert len(problems_of_results(results)) == 3
