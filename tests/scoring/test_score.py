"""One scored split: the exact form of results.json, hand values, and jiwer."""

from __future__ import annotations

import json
import random

import jiwer
import pytest

from kd_asr_slr.errors import UserError
from kd_asr_slr.scoring.protocols import PROTOCOLS, Protocol, get_protocol
from kd_asr_slr.scoring.score import score_predictions


def row(identity: str, reference: str, hypothesis: str, speaker: str = "fsdd/theo") -> dict:
    return {"id": identity, "speaker": speaker, "reference": reference, "hypothesis": hypothesis}


ROWS = [
    row("a", "ONE", "ONE"),
    row("b", "TWO THREE", "TWO", "fsdd/george"),
    row("c", "FOUR", "FIVE SIX", "fsdd/george"),
]


def test_the_form_of_results_json():
    score = score_predictions(ROWS, split="test", decoder="beam", lm="lm/bigram.arpa")
    intervals = {name: score.pop(name) for name in ("wer_ci95", "wra_ci95", "wer_ci95_speakers", "wra_ci95_speakers")}
    assert score == {
        "split": "test",
        "decoder": "beam",
        "lm": "lm/bigram.arpa",
        "protocol": "words",
        "wer": 3 / 4,
        "substitutions": 1,
        "deletions": 1,
        "insertions": 1,
        "reference_tokens": 4,
        "utterances": 3,
        "wra": 1 / 3,
        # TWO THREE -> TWO: 6 deletions of 9; FOUR -> FIVE SIX: 3 substitutions and 4 insertions at least
        "cer": (6 + 7) / (3 + 9 + 4),
        "wra_first_word": 1 / 3,
        "distinct_predictions": 3,
        "commonest_prediction": {"text": "FIVE SIX", "share": 1 / 3},
        "empty_predictions": 0,
        "macro": {"wer": 0.5, "wra": 0.5},
        "by_speaker": {
            "fsdd/george": {
                "wer": 1.0,
                "wra": 0.0,
                "substitutions": 1,
                "deletions": 1,
                "insertions": 1,
                "reference_tokens": 3,
                "utterances": 2,
            },
            "fsdd/theo": {
                "wer": 0.0,
                "wra": 1.0,
                "substitutions": 0,
                "deletions": 0,
                "insertions": 0,
                "reference_tokens": 1,
                "utterances": 1,
            },
        },
    }
    low, high = intervals["wer_ci95"]
    assert 0.0 <= low <= 3 / 4 <= high <= 2.0
    assert intervals["wra_ci95"] == [0.0, 1.0]
    assert intervals["wer_ci95_speakers"] == intervals["wra_ci95_speakers"] == [0.0, 1.0]


def test_ready_for_json_and_the_same_every_time():
    first, second = (score_predictions(ROWS, "test", "greedy") for _ in range(2))
    assert json.loads(json.dumps(first)) == second
    assert first["lm"] is None
    assert first["wer_ci95"] != score_predictions(ROWS, "test", "greedy", seed=1, resamples=7)["wer_ci95"]


@pytest.mark.parametrize("seed", range(20))
def test_words_protocol_is_jiwer_on_upper_case(seed):
    rng = random.Random(seed)
    words = ["one", "Two", "é", "ß", "日本", "four"]
    texts = [[" ".join(rng.choices(words, k=rng.randint(1, 8))) for _ in range(12)] for _ in range(2)]
    rows = [row(str(number), *pair) for number, pair in enumerate(zip(*texts, strict=True))]
    score = score_predictions(rows, "dev", "greedy", resamples=10)
    assert score["wer"] == pytest.approx(jiwer.wer(*([text.upper() for text in side] for side in texts)))
    assert score["wer"] * score["reference_tokens"] == pytest.approx(
        score["substitutions"] + score["deletions"] + score["insertions"]
    )


def test_white_space_and_case_carry_nothing_in_the_words_protocol():
    assert score_predictions([row("a", " one\ttwo ", "ONE  TWO")], "test", "greedy")["wra"] == 1.0


def test_empty_references_are_named():
    with pytest.raises(UserError, match="1 of 4 references of split 'dev' are empty by protocol 'words': x"):
        score_predictions([*ROWS, row("x", "  ", "ONE")], "dev", "greedy")
    with pytest.raises(UserError, match="all of 2 references"):
        score_predictions([row("x", "", ""), row("y", " ", "")], "dev", "greedy")


def test_an_empty_hypothesis_is_deletions():
    score = score_predictions([row("x", "ONE TWO", "")], "dev", "greedy")
    assert (score["wer"], score["deletions"], score["wer_ci95"]) == (1.0, 2, [1.0, 1.0])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "the predictions of split 'test': there are no rows"),
        ([ROWS[0], ROWS[0]], "1 ids are there more than once: a"),
        ([{"id": "a", "reference": "ONE", "hypothesis": "ONE"}], "row 1: 'speaker' is None"),
    ],
)
def test_rows_that_cannot_be_scored(rows, message):
    with pytest.raises(UserError, match=message):
        score_predictions(rows, "test", "greedy")


def test_unknown_protocol():
    with pytest.raises(UserError, match="unknown scoring protocol 'official'; expected one of .*words"):
        score_predictions(ROWS, "test", "greedy", protocol="official")


def test_a_protocol_is_one_entry(monkeypatch):
    letters = Protocol(
        name="letters", reference_normaliser="none", hypothesis_normaliser="words", split=list, costs="sclite"
    )
    monkeypatch.setitem(PROTOCOLS, "letters", letters)
    assert get_protocol("letters") is letters
    score = score_predictions([row("a", "AB", "ac")], "test", "greedy", protocol="letters")
    assert (score["protocol"], score["wer"], score["reference_tokens"]) == ("letters", 0.5, 2)
