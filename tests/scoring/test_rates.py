"""Corpus rates against hand examples and jiwer, the bootstrap against scipy and a closed form."""

from __future__ import annotations

import random

import jiwer
import numpy as np
import pytest
from scipy import stats

from kd_asr_slr.errors import UserError
from kd_asr_slr.scoring import rates
from kd_asr_slr.scoring.alignment import UtteranceCounts
from kd_asr_slr.scoring.rates import by_group, cer, count_all, ratio_interval, resampled_rates, wer, wra


def random_counts(seed: int, size: int) -> list[UtteranceCounts]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 15, size=size)
    wrong = rng.binomial(lengths, 0.3)
    return [
        UtteranceCounts(int(bad), 0, int(rng.integers(2)), int(n - bad)) for n, bad in zip(lengths, wrong, strict=True)
    ]


def bootstrap_interval(counts: list[UtteranceCounts], **options: int) -> tuple[float, float]:
    """The interval of the WER over utterances."""
    return ratio_interval([c.errors for c in counts], [c.reference_tokens for c in counts], **options)


def test_wer_sums_before_it_divides():
    counts = [UtteranceCounts(1, 0, 0, 0), UtteranceCounts(0, 1, 1, 8)]  # 1 of 1 and 2 of 9
    assert wer(counts) == 3 / 10
    assert wer([UtteranceCounts(0, 0, 3, 1)]) == 3.0


def test_wra_is_the_share_of_exact_utterances():
    counts = [UtteranceCounts(0, 0, 0, 4), UtteranceCounts(0, 0, 1, 4), UtteranceCounts(1, 0, 0, 0)]
    assert wra(counts) == 1 / 3


def test_nothing_to_divide_by():
    with pytest.raises(ValueError, match="2 utterances without a single reference token"):
        wer([UtteranceCounts(0, 0, 1, 0)] * 2)
    with pytest.raises(ValueError, match="no utterances"):
        wra([])


@pytest.mark.parametrize("seed", range(20))
def test_cer_is_jiwers(seed):
    rng = random.Random(seed)
    texts = [
        [" ".join("".join(rng.choices("abé日ß", k=rng.randint(1, 4))) for _ in range(3)) for _ in range(5)]
        for _ in "ab"
    ]
    assert cer(*texts) == pytest.approx(jiwer.cer(*texts))


def test_cer_by_hand():
    assert cer(["ab  c"], [" ab d "]) == 1 / 4  # one blank counts, as a character


def test_lists_of_different_lengths():
    with pytest.raises(UserError, match="3 references and 2 hypotheses"):
        count_all([["A"]] * 3, [["A"]] * 2)
    with pytest.raises(UserError, match="1 references and 2 hypotheses"):
        cer(["a"], ["a", "b"])


def test_empty_references_are_named():
    with pytest.raises(UserError, match=r"2 of 3 references are empty \(position 0, 2\)"):
        count_all([[], ["A"], []], [["A"], ["A"], []])
    with pytest.raises(UserError, match="no utterances"):
        count_all([], [])


def test_interval_against_scipy():
    counts = random_counts(0, 150)
    errors = np.array([count.errors for count in counts])
    tokens = np.array([count.reference_tokens for count in counts])
    theirs = stats.bootstrap(
        (errors, tokens),
        lambda e, t, axis: e.sum(axis=axis) / t.sum(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        random_state=np.random.default_rng(1),
    ).confidence_interval
    low, high = bootstrap_interval(counts, seed=2, resamples=20_000)
    width = theirs.high - theirs.low
    assert low == pytest.approx(theirs.low, abs=0.03 * width)
    assert high == pytest.approx(theirs.high, abs=0.03 * width)


def test_interval_of_isolated_words_against_the_binomial():
    """With one word an utterance, the resampled error rate is a binomial share of 400 draws with p = 0.3."""
    counts = [UtteranceCounts(1, 0, 0, 0)] * 120 + [UtteranceCounts(0, 0, 0, 1)] * 280
    low, high = bootstrap_interval(counts, resamples=40_000)
    exact = stats.binom(400, 0.3)
    assert low == pytest.approx(exact.ppf(0.025) / 400, abs=1 / 400)
    assert high == pytest.approx(exact.ppf(0.975) / 400, abs=1 / 400)


def test_interval_is_seeded_and_closed_at_the_extremes():
    counts = random_counts(3, 40)
    assert bootstrap_interval(counts, seed=5) == bootstrap_interval(counts, seed=5)
    assert bootstrap_interval(counts, seed=5) != bootstrap_interval(counts, seed=6)
    low, high = bootstrap_interval(counts)
    assert low <= wer(counts) <= high
    assert bootstrap_interval([UtteranceCounts(0, 0, 0, 2)] * 3) == (0.0, 0.0)
    assert bootstrap_interval([UtteranceCounts(1, 0, 0, 1)]) == (0.5, 0.5)
    with pytest.raises(ValueError, match="at least one reference token"):
        bootstrap_interval([UtteranceCounts(0, 0, 1, 0)])


def test_resampling_in_parts_draws_every_resample(monkeypatch):
    """Many utterances are drawn in several parts; the number of rates and their distribution stay."""
    errors, tokens = np.array([0, 1, 2]), np.array([3, 3, 3])
    monkeypatch.setattr(rates, "_INDICES_AT_ONCE", 21)
    drawn = resampled_rates(errors, tokens, np.random.default_rng(0), 10_000)
    assert drawn.shape == (10_000,)
    assert drawn.mean() == pytest.approx(1 / 3, abs=0.01)


def test_groups():
    counts = random_counts(1, 4)
    grouped = by_group(counts, ["b", "a", "b", "b"])
    assert list(grouped) == ["a", "b"]
    assert grouped == {"a": [counts[1]], "b": [counts[0], counts[2], counts[3]]}
    with pytest.raises(ValueError, match="shorter"):
        by_group(counts, ["a"])
