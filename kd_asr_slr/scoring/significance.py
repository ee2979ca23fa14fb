"""Whether a difference between two systems is real, or the chance of utterances and seeds.

| test | question | chance that it counts |
|---|---|---|
| `compare_systems` | difference of rates, an interval and a p-value | of utterances (or speakers), and of seeds |
| `mcnemar` | difference of WRA of two runs | of utterances |
| `holm` | correction of p-values for the number of comparisons | - |

The matched-pairs test of word errors (MAPSSWE) needs the words, not only their errors: `matched_pairs`.

Errors are joined by utterance id (`joined`), so that both systems are compared on the very same utterances.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kd_asr_slr.errors import UserError
from kd_asr_slr.scoring.predictions import listed

DEFAULT_DRAWS = 5000
CONFIDENCE = 0.95
# Draw counts held at once: 4 million of them are 32 MB.
_COUNTS_AT_ONCE = 4_000_000

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What S runs of one system (its seeds) did on the same N utterances.

    Args:
        errors: errors of every run on every utterance [S, N]: word errors for WER, 1 for an inexact utterance for the
            complement of WRA.
        weights: what they are divided by [N]: reference tokens for WER, ones for WRA.
        ids: of the utterances [N], in this order.
    """

    errors: Array
    weights: Array
    ids: tuple[str, ...]

    @property
    def rates(self) -> Array:
        """Rate of every run [S]."""
        return self.errors.sum(axis=1) / self.weights.sum()

    @property
    def rate(self) -> float:
        """Mean rate over the runs."""
        return float(self.rates.mean())


@dataclass(frozen=True, slots=True)
class Estimate:
    """A rate, or a difference of rates, and how sure it is.

    Args:
        value: the estimate, a fraction.
        error: its standard error.
        degrees: degrees of freedom of the standard error; infinite where there is no variance at all.
        p_value: two-sided, that there is no difference (of a single system: that its rate is 0).
    """

    value: float
    error: float
    degrees: float
    p_value: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, self.degrees)) * self.error
        return self.value - half, self.value + half


def joined(
    runs: Sequence[Mapping[str, tuple[int, int]]], names: Sequence[str], groups: Mapping[str, str] | None = None
) -> list[Outcomes]:
    """Join runs of any systems by utterance id: one `Outcomes` (of one run) each, all over the same utterances.

    Args:
        runs: of every run, id -> (errors, weight) of each utterance.
        names: what the runs are called, for messages.
        groups: id -> the unit that is drawn: utterances of one group (the microphones of one utterance, a speaker) are
            added up. By default each utterance is a unit of its own.

    Raises:
        UserError: where the runs have different utterances, or an utterance has another weight; both runs are named.

    Example:
        >>> one, two = joined([{"u1": (0, 1)}, {"u1": (1, 1)}], ["student", "baseline"])
    """
    first = runs[0]
    for run, name in zip(runs, names, strict=True):
        if other := sorted(first.keys() ^ run.keys()):
            raise UserError(
                f"{names[0]} and {name} were scored on different utterances: {listed(other)}",
                expected="the same utterances in both",
                fix="score both on the same split",
            )
        if uneven := sorted(identity for identity in first if first[identity][1] != run[identity][1]):
            raise UserError(
                f"{names[0]} and {name} have references of different lengths: {listed(uneven)}",
                expected="the same references, by the same protocol",
            )
    units = {identity: (groups or {}).get(identity, identity) for identity in sorted(first)}
    places = {unit: place for place, unit in enumerate(dict.fromkeys(units.values()))}
    index = np.array([places[unit] for unit in units.values()])
    table = np.array([[run[identity] for identity in units] for run in runs], dtype=float)  # [runs, utterances, 2]
    summed = np.zeros((len(runs), len(places), 2))
    for run, total in zip(table, summed, strict=True):
        np.add.at(total, index, run)
    return [Outcomes(run[None, :, 0], run[:, 1], tuple(places)) for run in summed]


def stacked(runs: Sequence[Outcomes]) -> Outcomes:
    """Runs of one system, of different seeds, as one `Outcomes` [S, N]."""
    return Outcomes(np.concatenate([run.errors for run in runs]), runs[0].weights, runs[0].ids)


def compare_systems(
    folds: Sequence[tuple[Outcomes, Outcomes]], *, seed: int = 0, draws: int = DEFAULT_DRAWS
) -> Estimate:
    """Difference of the rates of two systems (first minus second), by a paired bootstrap over seeds and utterances.

    In every fold, the seeds of each system and the utterances are drawn anew; both systems and all seeds get the same
    utterances. The rates of the folds are averaged, each fold counting once. See `_estimate` for the two corrections.

    Args:
        folds: of every fold (held-out speaker; a single one where there are no folds) both systems, on the same
            utterances. A system with one run has no spread over seeds, and the p-value then knows of none.
        seed: of the draws.
        draws: R, number of draws.

    Source: Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation" (ICASSP 2004)
        for the utterances; Bouthillier et al., "Accounting for variance in machine learning benchmarks" (MLSys 2021)
        for the seeds.
    """
    return _estimate([((1.0, ours), (-1.0, theirs)) for ours, theirs in folds], seed, draws)


def rate_of_system(folds: Sequence[Outcomes], *, seed: int = 0, draws: int = DEFAULT_DRAWS) -> Estimate:
    """The rate of one system, mean over folds and seeds; its interval knows of utterances and seeds."""
    return _estimate([((1.0, fold),) for fold in folds], seed, draws)


def mcnemar(ours: Outcomes, theirs: Outcomes) -> tuple[int, int, float]:
    """Exact McNemar test of the utterances that two single runs recognise without error.

    Args:
        ours: one run [1, N].
        theirs: another one [1, N], on the same utterances.

    Returns:
        Utterances that only the first has right, those that only the second has right, and the two-sided p-value.

    Source: McNemar (Psychometrika 1947); Gillick and Cox (ICASSP 1989), for isolated words.

    Example:
        >>> mcnemar(run_of([0, 0, 1]), run_of([1, 1, 1]))
        (2, 0, 0.5)
    """
    right, other = _single(ours)[0] == 0, _single(theirs)[0] == 0
    gained, lost = int((right & ~other).sum()), int((~right & other).sum())
    if gained + lost == 0:
        return 0, 0, 1.0
    return gained, lost, float(stats.binomtest(gained, gained + lost, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number, so that a single false alarm among all of them keeps the stated chance.

    Args:
        p_values: of all the comparisons that are made.

    Returns:
        The adjusted p-values, in the same order; compare each with 0.05 as it is.

    Source: Holm, "A simple sequentially rejective multiple test procedure" (1979).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


# -- inside ----------------------------------------------------------------------------------------------------

Sides = Sequence[tuple[float, Outcomes]]


def _estimate(folds: Sequence[Sides], seed: int, draws: int) -> Estimate:
    """The signed sum of the systems' rates, mean over folds, with the standard error of the draws.

    Draws of few units are too narrow: the variance of n of them is (n - 1) / n of what it should be. So n - 1 of n
    seeds are drawn (McCarthy and Snowden 1985), the variance of the utterances is scaled by n / (n - 1), and the tails
    are those of Student's t with Satterthwaite's degrees of freedom, as Hesterberg advises ("What teachers should know
    about the bootstrap", 2015). Seeds and utterances are crossed, so the noise of a single run on a single utterance
    shows in both draws; it is taken out once (analysis of variance of two crossed random effects).
    """
    rng = np.random.default_rng(seed)
    value, of_utterances, excess, spread = 0.0, 0.0, 0.0, 0.0  # excess: of the seeds; spread: variance^2 / degrees
    for sides in folds:
        value += sum(sign * system.rate for sign, system in sides)
        parts = [(_utterance_variance(sides, rng, draws), len(sides[0][1].weights) - 1)]
        parts += [(_seed_variance(system, rng, draws), len(system.errors) - 1) for _, system in sides]
        of_utterances += parts[0][0]
        excess += sum(amount for amount, _ in parts[1:]) - sum(_noise_variance(system) for _, system in sides)
        spread += sum(amount**2 / degrees for amount, degrees in parts if degrees)
    value, variance = value / len(folds), of_utterances + max(0.0, excess)
    degrees = variance**2 / spread if spread > 0 and variance > 0 else math.inf
    error = math.sqrt(variance) / len(folds)
    return Estimate(value, error, degrees, _p_value(value, error, degrees))


def _p_value(value: float, error: float, degrees: float) -> float:
    if abs(value) < 1e-12:  # equal but for rounding
        return 1.0
    return float(2 * stats.t.sf(abs(value) / error, degrees)) if error > 0 else 0.0


def _utterance_variance(sides: Sides, rng: np.random.Generator, draws: int) -> float:
    """Variance of the difference when the N utterances are drawn anew, the same ones for every system and seed."""
    weights = sides[0][1].weights  # [N]
    size = len(weights)
    if size < 2:
        return 0.0
    mean_errors = np.sum([sign * system.errors.mean(axis=0) for sign, system in sides], axis=0)  # [N]
    values = []
    step = max(1, _COUNTS_AT_ONCE // size)
    for start in range(0, draws, step):
        drawn = rng.multinomial(size, np.full(size, 1 / size), size=min(step, draws - start))  # [R, N]
        values.append((drawn @ mean_errors) / (drawn @ weights))
    return float(np.concatenate(values).var()) * size / (size - 1)


def _seed_variance(system: Outcomes, rng: np.random.Generator, draws: int) -> float:
    """Variance of the mean rate when S - 1 of the S seeds are drawn."""
    rates = system.rates  # [S]
    if len(rates) < 2:
        return 0.0
    drawn = rng.integers(0, len(rates), size=(draws, len(rates) - 1))  # [R, S - 1]
    return float(rates[drawn].mean(axis=1).var())


def _noise_variance(system: Outcomes) -> float:
    """Variance of the mean rate by what is neither of the seed nor of the utterance."""
    seeds, size = system.errors.shape
    if seeds < 2 or size < 2:
        return 0.0
    residuals = (system.errors - system.rates[:, None] * system.weights) * size / system.weights.sum()  # [S, N]
    residuals = residuals - residuals.mean(axis=0)
    return float((residuals**2).sum()) / ((seeds - 1) * (size - 1)) / (seeds * size)


def _single(run: Outcomes) -> Array:
    if len(run.errors) != 1:
        raise ValueError(f"{len(run.errors)} runs were given; the test is between two single runs")
    return run.errors
