"""Tests between systems: by hand, against scipy, against every possible draw, and by their error rates."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from kd_asr_slr.errors import UserError
from kd_asr_slr.scoring.significance import (
    Outcomes,
    compare_systems,
    holm,
    joined,
    mcnemar,
    rate_of_system,
    stacked,
)


def outcomes(errors, weights=None) -> Outcomes:
    table = np.atleast_2d(np.asarray(errors, dtype=float))
    size = table.shape[1]
    return Outcomes(
        table, np.ones(size) if weights is None else np.asarray(weights, float), tuple(map(str, range(size)))
    )


# -- two single runs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 1), (8, 8), (3, 12)])
def test_mcnemar_against_every_outcome(gained, lost):
    """Each discordant utterance is a fair coin: the chance of a split at least as uneven, summed over all of them."""
    ours = [0] * gained + [1] * lost + [0] * 4 + [2] * 3
    theirs = [2] * gained + [0] * lost + [0] * 4 + [1] * 3
    total = gained + lost
    uneven = sum(math.comb(total, k) for k in range(total + 1) if abs(2 * k - total) >= abs(gained - lost))
    found = mcnemar(outcomes(ours), outcomes(theirs))
    assert found[:2] == (gained, lost)
    assert found[2] == pytest.approx(uneven / 2**total)


def test_holm_by_hand():
    """0.01 x 4, 0.02 x 3, then 0.03 x 2 which ties, and 0.9: never below one that was smaller before."""
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.4, 0.5]) == pytest.approx([0.8, 0.8])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


# -- joining ---------------------------------------------------------------------------------------------------


def test_runs_are_joined_by_id_and_groups_added_up():
    one = {"u1": (0, 2), "u2": (1, 3), "u3": (2, 4)}
    two = {"u3": (1, 4), "u2": (0, 3), "u1": (2, 2)}
    first, second = joined([one, two], ["one", "two"])
    assert first.errors.tolist() == [[0, 1, 2]] and second.errors.tolist() == [[2, 0, 1]]
    assert first.weights.tolist() == [2, 3, 4] and first.ids == ("u1", "u2", "u3")
    first, second = joined([one, two], ["one", "two"], groups={"u1": "a", "u3": "a"})
    assert (first.errors.tolist(), second.errors.tolist()) == ([[2, 1]], [[3, 0]])
    assert (first.weights.tolist(), first.ids) == ([6, 3], ("a", "u2"))


def test_other_utterances_and_references_are_refused_with_both_names():
    with pytest.raises(UserError, match="student and baseline were scored on different utterances: u2, u3"):
        joined([{"u1": (0, 1), "u2": (0, 1)}, {"u1": (0, 1), "u3": (0, 1)}], ["student", "baseline"])
    with pytest.raises(UserError, match="student and baseline have references of different lengths: u1"):
        joined([{"u1": (0, 1)}, {"u1": (0, 2)}], ["student", "baseline"])


# -- the bootstrap ---------------------------------------------------------------------------------------------


def variance_of_every_draw(statistic, size: int, drawn: int) -> float:
    """Variance of a statistic over all equally likely draws, with replacement, of `drawn` of `size` units."""
    return float(np.var([statistic(list(places)) for places in itertools.product(range(size), repeat=drawn)]))


def test_one_run_each_against_every_draw_of_utterances():
    errors, others, weights = np.array([1, 0, 3, 2, 0, 1]), np.array([0, 0, 1, 2, 1, 0]), np.array([2, 1, 4, 3, 2, 2])

    def difference(places: list[int]) -> float:
        return (errors[places].sum() - others[places].sum()) / weights[places].sum()

    exact = variance_of_every_draw(difference, 6, 6) * 6 / 5  # n - 1 in the denominator
    found = compare_systems([(outcomes(errors, weights), outcomes(others, weights))], draws=100_000)
    assert found.value == pytest.approx(3 / 14)
    assert found.error == pytest.approx(math.sqrt(exact), rel=0.01)
    assert found.degrees == pytest.approx(5)
    assert found.p_value == pytest.approx(2 * stats.t.sf(found.value / math.sqrt(exact), 5), rel=0.02)
    assert found.interval[1] == pytest.approx(found.value + stats.t.ppf(0.975, 5) * found.error)


def test_seeds_alone_are_welchs_test():
    """Utterances that are all alike leave the spread of the seeds, and with it Welch's t-test of their rates."""
    ours, theirs = np.array([0.1, 0.15, 0.3]), np.array([0.4, 0.55])
    sides = [outcomes(np.repeat(rates[:, None], 8, axis=1)) for rates in (ours, theirs)]
    found = compare_systems([tuple(sides)], draws=200_000)
    expected = stats.ttest_ind(ours, theirs, equal_var=False)
    assert found.value == pytest.approx(ours.mean() - theirs.mean())
    assert found.degrees == pytest.approx(expected.df, rel=0.02)
    assert found.p_value == pytest.approx(expected.pvalue, rel=0.03)


def test_crossed_effects_against_the_analysis_of_variance():
    """With seeds and utterances, the squared error is MS(seed) / SN + MS(utterance) / SN - MS(rest) / SN."""
    rng = np.random.default_rng(5)
    table = rng.normal(0.5, 0.1, (4, 1)) + rng.normal(0, 0.2, (1, 30)) + rng.normal(0, 0.1, (4, 30))
    seeds, size = table.shape
    of_seeds = size * np.var(table.mean(axis=1), ddof=1)
    of_utterances = seeds * np.var(table.mean(axis=0), ddof=1)
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    of_rest = (rest**2).sum() / ((seeds - 1) * (size - 1))
    found = rate_of_system([outcomes(table)], draws=200_000)
    assert found.error**2 == pytest.approx((of_seeds + of_utterances - of_rest) / (seeds * size), rel=0.02)


def test_folds_are_averaged_each_counting_once():
    small = outcomes([[1, 1, 0, 0]]), outcomes([[0, 0, 0, 0]])
    large = outcomes([[1] * 30 + [0] * 70]), outcomes([[0] * 100])
    alone = [compare_systems([pair], draws=50_000) for pair in (small, large)]
    both = compare_systems([small, large], draws=50_000)
    assert both.value == pytest.approx((0.5 + 0.3) / 2)
    assert both.error == pytest.approx(math.hypot(alone[0].error, alone[1].error) / 2, rel=0.02)


def test_equal_systems_and_certain_ones():
    same = outcomes([[0, 1, 1, 0], [1, 1, 0, 0]])
    assert compare_systems([(same, same)]).p_value == 1.0
    certain = compare_systems([(outcomes([1, 1, 1]), outcomes([0, 0, 0]))])
    assert (certain.value, certain.p_value, certain.interval) == (1.0, 0.0, (1.0, 1.0))
    assert compare_systems([(outcomes([1]), outcomes([0]))]).error == 0.0


def simulated(rng: np.random.Generator, difficulty: np.ndarray, seed_spread: float, effect: float) -> Outcomes:
    """Three runs of a recogniser whose logit is the utterance's, plus the run's, plus an effect."""
    logits = effect + difficulty + rng.normal(0, seed_spread, (3, 1))
    return outcomes(rng.random((3, difficulty.size)) < 1 / (1 + np.exp(-logits)))


def rejections(effect: float, seed_spread: float, trials: int, seed: int) -> float:
    """Share of simulated comparisons (2 folds, 3 seeds, 100 utterances) with p < 0.05."""
    rng = np.random.default_rng(seed)
    found = 0
    for trial in range(trials):
        folds = []
        for _ in range(2):
            difficulty = rng.normal(0, 1, 100)
            folds.append(tuple(simulated(rng, difficulty, seed_spread, shift) for shift in (effect, 0.0)))
        found += compare_systems(folds, seed=trial, draws=200).p_value < 0.05
    return found / trials


def test_no_more_false_alarms_than_stated_and_high_power():
    """Under no difference at most about 5 % (1 to 5 % in longer simulations); 0.8 on the logit is seen."""
    assert 0.01 <= rejections(0.0, seed_spread=0.3, trials=400, seed=1) <= 0.07
    assert rejections(0.0, seed_spread=0.0, trials=400, seed=2) <= 0.07
    assert rejections(0.8, seed_spread=0.1, trials=100, seed=3) >= 0.95


def test_one_seed_knows_nothing_of_the_chance_of_seeds():
    """Why rows of one seed are marked in tables: real seed noise is taken for a difference far too often."""
    rng = np.random.default_rng(4)
    alarms = 0
    for trial in range(200):
        difficulty = rng.normal(0, 1, 200)
        ours, theirs = (outcomes(simulated(rng, difficulty, 0.4, 0.0).errors[:1]) for _ in range(2))
        alarms += compare_systems([(ours, theirs)], seed=trial, draws=200).p_value < 0.05
    assert alarms / 200 > 0.2


def test_stacking_keeps_the_order_of_seeds():
    runs = joined([{"a": (0, 1)}, {"a": (1, 1)}], ["one", "two"])
    system = stacked(runs)
    assert system.rates.tolist() == [0.0, 1.0] and system.rate == 0.5
