"""Rates from counts per utterance: every rate is a function of sums over the corpus, never a mean of rates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from kd_asr_slr.errors import UserError
from kd_asr_slr.scoring.alignment import UtteranceCounts, count_errors

DEFAULT_RESAMPLES = 2000
DEFAULT_SEED = 0
CONFIDENCE = 0.95
# Resampled indices held at once: 4 million of them are 32 MB.
_INDICES_AT_ONCE = 4_000_000


def wer(counts: Sequence[UtteranceCounts]) -> float:
    """Return the error rate of a corpus: sum of errors / sum of reference tokens (a fraction, can exceed 1).

    Raises:
        ValueError: if there are no reference tokens at all.

    Example:
        >>> wer([UtteranceCounts(1, 0, 0, hits=1), UtteranceCounts(0, 0, 1, hits=2)])
        0.5
    """
    tokens = sum(count.reference_tokens for count in counts)
    if tokens == 0:
        raise ValueError(f"{len(counts)} utterances without a single reference token; expected at least one")
    return sum(count.errors for count in counts) / tokens


def wra(counts: Sequence[UtteranceCounts]) -> float:
    """Return the share of utterances recognised without any error (word recognition accuracy of isolated words).

    Raises:
        ValueError: if there are no utterances.
    """
    if not counts:
        raise ValueError("no utterances; expected at least one")
    return sum(count.errors == 0 for count in counts) / len(counts)


def cer(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Return the character error rate of a corpus; runs of white space count as one blank, none at the ends.

    Args:
        references: one reference text an utterance.
        hypotheses: one hypothesis text an utterance, in the same order.

    Raises:
        UserError: lists of different lengths, or references without any character.
    """
    return wer(count_all(map(_characters, references), map(_characters, hypotheses)))


def count_all(
    references: Iterable[Sequence[str]], hypotheses: Iterable[Sequence[str]], costs: str = "unit"
) -> list[UtteranceCounts]:
    """Count the errors of every utterance.

    Args:
        references: reference tokens of every utterance.
        hypotheses: hypothesis tokens of every utterance, in the same order.
        costs: "unit" or "sclite", see `alignment`.

    Raises:
        UserError: the lists differ in length; there are no utterances; a reference is empty (its position is named).
    """
    left, right = list(references), list(hypotheses)
    if len(left) != len(right):
        raise UserError(
            f"{len(left)} references and {len(right)} hypotheses",
            expected="one hypothesis for each reference",
            fix="join them by utterance id",
        )
    if not left:
        raise UserError("no utterances to score", expected="at least one")
    refuse_empty(left)
    return [count_errors(tokens, guess, costs) for tokens, guess in zip(left, right, strict=True)]


def refuse_empty(references: Sequence[Sequence[str]]) -> None:
    """A rate has no meaning where a reference is empty.

    Args:
        references: reference tokens of every utterance.

    Raises:
        UserError: naming the positions.
    """
    empty = [str(number) for number, tokens in enumerate(references) if not tokens]
    if empty:
        raise UserError(
            f"{len(empty)} of {len(references)} references are empty (position {', '.join(empty[:5])})",
            expected="at least one token in each reference",
            fix="leave these utterances out of the split",
        )


def ratio_interval(
    parts: Sequence[int] | NDArray[np.int64],
    wholes: Sequence[int] | NDArray[np.int64],
    seed: int = DEFAULT_SEED,
    resamples: int = DEFAULT_RESAMPLES,
) -> tuple[float, float]:
    """Return the 95 % percentile interval of sum(parts) / sum(wholes) when the units are drawn anew.

    Args:
        parts: of every unit (an utterance, a speaker) [N]: its errors, its exact utterances.
        wholes: of every unit [N], each 1 or more: its reference tokens, its utterances.
        seed: of the draws.
        resamples: number of draws.

    Raises:
        ValueError: if there are no units, or one has nothing to divide by.

    Source: Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation" (ICASSP 2004).

    Example:
        >>> ratio_interval([0, 0], [1, 1])
        (0.0, 0.0)
    """
    numerators, denominators = np.asarray(parts, np.int64), np.asarray(wholes, np.int64)  # [N]
    if not denominators.size or denominators.min() < 1:
        raise ValueError("the bootstrap needs units with at least one reference token each")
    rates = resampled_rates(numerators, denominators, np.random.default_rng(seed), resamples)
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(rates, [tail, 1.0 - tail])
    return float(low), float(high)


def resampled_rates(
    errors: NDArray[np.int64], tokens: NDArray[np.int64], rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """Return the error rate of `resamples` corpora of N utterances, drawn with replacement.

    Args:
        errors: errors of every utterance [N].
        tokens: reference tokens of every utterance [N].
        rng: the source of the draws.
        resamples: R, the number of draws.
    """
    size = len(errors)
    step = max(1, _INDICES_AT_ONCE // size)
    parts = []
    for start in range(0, resamples, step):
        drawn = rng.integers(0, size, size=(min(step, resamples - start), size))  # [R, N]
        parts.append(errors[drawn].sum(axis=1) / tokens[drawn].sum(axis=1))  # [R, N] -> [R]
    return np.concatenate(parts)


def by_group(counts: Sequence[UtteranceCounts], groups: Sequence[str]) -> dict[str, list[UtteranceCounts]]:
    """Sort counts by a label of their utterance (speaker, signer, severity), labels in sorted order.

    Args:
        counts: counts of every utterance.
        groups: label of every utterance, in the same order.
    """
    grouped: dict[str, list[UtteranceCounts]] = {group: [] for group in sorted(set(groups))}
    for count, group in zip(counts, groups, strict=True):
        grouped[group].append(count)
    return grouped


def _characters(text: str) -> list[str]:
    return list(" ".join(text.split()))
