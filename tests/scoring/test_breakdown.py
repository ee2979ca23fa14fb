"""Collapse, groups and intervals by hand and by enumeration; rates against jiwer on random Unicode texts."""

from __future__ import annotations

import itertools
import random

import jiwer
import numpy as np
import pytest

from kd_asr_slr.scoring.score import score_predictions

ALPHABET = "abcdeéèñßøłžабвαβγ日本語한국ا🙂"


def row(identity: str, reference: str, hypothesis: str, speaker: str = "s/a", **known: object) -> dict:
    return {"id": identity, "speaker": speaker, "reference": reference, "hypothesis": hypothesis, **known}


def texts(rng: random.Random, size: int, shortest: int) -> list[str]:
    words = ["".join(rng.choices(ALPHABET, k=rng.randint(1, 5))) for _ in range(12)]
    return [" ".join(rng.choices(words, k=rng.randint(shortest, 6))) for _ in range(size)]


@pytest.mark.parametrize("seed", range(30))
def test_rates_are_jiwers_on_unicode(seed):
    rng = random.Random(seed)
    references, hypotheses = texts(rng, 20, 1), texts(rng, 20, 0)
    hypotheses[:7] = references[:7]
    pairs = zip(references, hypotheses, strict=True)
    rows = [row(str(number), *pair) for number, pair in enumerate(pairs)]
    score = score_predictions(rows, "test", "greedy", protocol="raw", resamples=10)
    words = jiwer.process_words(references, hypotheses)
    assert score["wer"] == pytest.approx(words.wer, abs=5e-5)
    assert score["cer"] == pytest.approx(jiwer.cer(references, hypotheses), abs=5e-5)
    exact = sum(jiwer.wer(*pair) == 0 for pair in zip(references, hypotheses, strict=True)) / 20
    assert score["wra"] == pytest.approx(exact, abs=5e-5)
    sums = [score[kind] for kind in ("substitutions", "deletions", "insertions")]
    assert sum(sums) == words.substitutions + words.deletions + words.insertions


def test_collapse_by_hand():
    heard = ["no", "NO", " no ", "", "yes please", "Yes"]
    rows = [row(str(number), "YES", text) for number, text in enumerate(heard)]
    score = score_predictions(rows, "test", "greedy", resamples=10)
    assert score["distinct_predictions"] == 4  # NO, nothing, YES PLEASE, YES
    assert score["commonest_prediction"] == {"text": "NO", "share": 0.5}
    assert score["empty_predictions"] == 1
    assert (score["wra"], score["wra_first_word"]) == (1 / 6, 2 / 6)


def test_an_output_of_blanks_only_is_the_empty_text():
    rows = [row("a", "ONE", ""), row("b", "TWO", "  ")]
    for protocol in ("words", "official-sclite"):  # the latter scores an empty output as a wrong token
        score = score_predictions(rows, "test", "greedy", protocol=protocol, resamples=10)
        assert score["commonest_prediction"] == {"text": "", "share": 1.0}
        assert (score["empty_predictions"], score["distinct_predictions"], score["cer"]) == (2, 1, 1.0)


def test_the_first_word_must_be_the_whole_reference():
    """A reference of two words is no isolated word; case is ignored also where the protocol keeps it."""
    rows = [row("a", "Two Three", "Two Three"), row("b", "Four", "four five")]
    score = score_predictions(rows, "test", "greedy", protocol="raw", resamples=10)
    assert (score["wra"], score["wra_first_word"]) == (0.5, 0.5)


def test_groups_by_hand():
    rows = [
        row("a", "ONE", "ONE", band="low", category="digit", seen=True),
        row("b", "TWO", "ONE", band="low", category="digit", seen=False),
        row("c", "ALPHA BETA", "ALPHA", band="high", seen=False),
    ]
    score = score_predictions(rows, "test", "greedy", resamples=10)
    assert {name: group["wer"] for name, group in score["by_band"].items()} == {"high": 0.5, "low": 0.5}
    assert {name: group["wra"] for name, group in score["by_category"].items()} == {"digit": 0.5, "unknown": 0.0}
    assert {name: group["reference_tokens"] for name, group in score["by_seen"].items()} == {"seen": 1, "unseen": 3}
    assert score["by_seen"]["unseen"]["wer"] == 2 / 3
    assert not {"by_band", "by_category", "by_seen"} & set(score_predictions(rows_without(rows), "test", "greedy"))


def rows_without(rows: list[dict]) -> list[dict]:
    return [{key: value for key, value in item.items() if key not in ("band", "category", "seen")} for item in rows]


def test_macro_is_the_mean_of_speakers_and_micro_the_pooled_rate():
    rows = [row(str(number), "ONE", "ONE", "s/a") for number in range(9)] + [row("x", "ONE", "TWO", "s/b")]
    score = score_predictions(rows, "test", "greedy", resamples=10)
    assert (score["wra"], score["macro"]["wra"], score["macro"]["wer"]) == (0.9, 0.5, 0.5)


def exact_interval(units: list[tuple[int, int]]) -> list[float]:
    """The interval over all n ** n equally likely draws of n units."""
    draws = itertools.product(units, repeat=len(units))
    rates = [sum(part for part, _ in drawn) / sum(whole for _, whole in drawn) for drawn in draws]
    return np.quantile(rates, [0.025, 0.975]).tolist()


def test_intervals_against_every_draw():
    """Five speakers of unequal size; the speakers' interval comes from all 5 ** 5 draws of speakers."""
    correct = {"s/a": (3, 4), "s/b": (1, 5), "s/c": (5, 6), "s/d": (0, 3), "s/e": (2, 2)}
    rows = [
        row(f"{speaker}{number}", "ONE", "ONE" if number < right else "TWO", speaker)
        for speaker, (right, size) in correct.items()
        for number in range(size)
    ]
    score = score_predictions(rows, "test", "greedy", resamples=40_000)
    assert score["wra_ci95_speakers"] == pytest.approx(exact_interval(list(correct.values())), abs=0.02)
    wrong = [(size - right, size) for right, size in correct.values()]
    assert score["wer_ci95_speakers"] == pytest.approx(exact_interval(wrong), abs=0.02)


def test_one_speaker_has_no_interval_over_speakers():
    score = score_predictions([row("a", "ONE", "ONE"), row("b", "ONE", "TWO")], "test", "greedy")
    assert score["wer_ci95_speakers"] is None and score["wra_ci95_speakers"] is None
    assert score["wra_ci95"] == [0.0, 1.0]


def test_microphones_of_one_utterance_are_drawn_together():
    """Seven copies of every utterance tell no more than one of them: the same interval, not one 2.6 times narrower."""
    outcomes = [number % 3 == 0 for number in range(60)]
    single = [row(f"u{number}", "ONE", "ONE" if right else "TWO") for number, right in enumerate(outcomes)]
    seven = [
        {**item, "id": f"{item['id']}_M{microphone}", "utterance": item["id"]}
        for item in single
        for microphone in range(2, 9)
    ]
    one, several = (score_predictions(rows, "test", "greedy") for rows in (single, seven))
    assert one["wra_ci95"] == several["wra_ci95"] and one["wer_ci95"] == several["wer_ci95"]
    apart = score_predictions([{**item, "utterance": item["id"]} for item in seven], "test", "greedy")
    assert np.ptp(apart["wra_ci95"]) < 0.5 * np.ptp(one["wra_ci95"])
