"""n-gram models from sentences: interpolated modified Kneser-Ney, as KenLM's `lmplz` estimates them.

Source: Chen and Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling" (TR-10-98, 1998), section
3; Heafield, Pouzyrevsky, Clark, Koehn, "Scalable Modified Kneser-Ney Language Model Estimation" (ACL 2013), section 2:
what is done about "<s>", "</s>" and "<unk>". Nothing is pruned.

One difference: of the last n-gram of every length in its sorting, lmplz (0.3.0) counts the occurrences instead of the
adjusted count when it counts counts. In a text of a few dozen n-grams that moves its discounts.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from kd_asr_slr.decoding.arpa import BEGIN, END, NEVER, UNKNOWN, Ngram, NgramModel
from kd_asr_slr.decoding.ngram_scorer import NOT_WORDS
from kd_asr_slr.errors import UserError
from kd_asr_slr.progress import Progress

logger = logging.getLogger(__name__)

# What lmplz takes with --discount_fallback.
FALLBACK = (0.5, 1.0, 1.5)
MIN_ORDER = 2  # KenLM reads no unigram models
LISTED = 5


@dataclass(frozen=True, slots=True)
class Discounts:
    """What is taken from n-grams of one length with count 1, 2, and 3 or more.

    Args:
        amounts: D1, D2, D3+.
        estimated: from the data's counts of counts; else they are the fall-back.
    """

    amounts: tuple[float, float, float]
    estimated: bool

    def of(self, count: int) -> float:
        """The discount of an n-gram with this (adjusted) count, 1 or more."""
        return self.amounts[min(count, 3) - 1]


@dataclass(frozen=True, slots=True)
class EstimatedModel:
    """A model and how it came about: its sentences, its words in them, and the discounts for n = 1 ... N."""

    model: NgramModel
    sentences: int
    tokens: int
    seen: frozenset[str]
    discounts: list[Discounts]


def estimate_ngrams(sentences: Iterable[Sequence[str]], order: int, vocabulary: Collection[str] = ()) -> EstimatedModel:
    """Estimate an n-gram model with interpolated modified Kneser-Ney smoothing.

    Args:
        sentences: tokens of every sentence; sentences without tokens are left out.
        order: N, the length of the longest n-grams, 2 or more.
        vocabulary: words that get a probability although no sentence has them, e.g. the labels of a recogniser.

    Returns:
        A model in which the probabilities of words, "</s>" and "<unk>" sum to 1 after every context.

    Raises:
        UserError: an order that KenLM cannot read or no sentence reaches, no sentences, a token that is no word.

    Example:
        >>> estimated = estimate_ngrams([["REGEN", "NORD"], ["REGEN", "SUED"]], order=2)
        >>> round(10 ** estimated.model.log10_prob("NORD", ["REGEN"]), 4)
        0.35
    """
    kept = [tuple(sentence) for sentence in sentences if sentence]
    _check(kept, order, vocabulary)
    counts = adjusted_counts(kept, order)
    discounts = [discounts_of(table.values()) for table in counts]
    for length, discount in enumerate(discounts, 1):
        if not discount.estimated:
            logger.info("too few %d-grams to estimate their discounts; taken instead: %s", length, discount.amounts)
    seen = frozenset(word for (word,) in counts[0]) - {END}
    unseen = sorted(set(vocabulary) - seen)
    model = NgramModel(_interpolated(counts, discounts, unseen))
    return EstimatedModel(model, len(kept), sum(map(len, kept)), seen, discounts)


def adjusted_counts(sentences: Iterable[Sequence[str]], order: int) -> list[dict[Ngram, int]]:
    """The counts that Kneser-Ney smoothing starts from, for n = 1 ... N.

    The longest n-grams, and those at the beginning of a sentence, have the number of their occurrences; a shorter one
    has the number of different words seen before it ("<s>" is one of them).

    Args:
        sentences: tokens of every sentence.
        order: N.

    Source: Heafield et al. (2013), equation (1).

    Example:
        >>> adjusted_counts([["A", "A"], ["A"]], order=2)[0]
        {('A',): 2, ('</s>',): 1}
    """
    raw: list[Counter[Ngram]] = [Counter() for _ in range(order)]
    for sentence in Progress(sentences, "counting n-grams", "sentences"):
        padded = (BEGIN, *sentence, END)
        for length, table in enumerate(raw, 1):
            table.update(zip(*(padded[start:] for start in range(length)), strict=False))
    counts: list[dict[Ngram, int]] = []
    for shorter, longer in zip(raw, raw[1:], strict=False):
        adjusted = Counter(ngram[1:] for ngram in longer)
        # Nothing can stand before the beginning of a sentence, so its own occurrences count.
        adjusted.update({ngram: count for ngram, count in shorter.items() if ngram[0] == BEGIN and len(ngram) > 1})
        counts.append(dict(adjusted))
    return [*counts, dict(raw[-1])]


def discounts_of(counts: Iterable[int]) -> Discounts:
    """Discounts of the n-grams of one length, or the fall-back where the data cannot tell.

    Args:
        counts: adjusted counts of these n-grams.

    Source: Chen and Goodman (1998), equation (26). lmplz falls back in the same cases: no n-gram with count 1, 2 or 3,
        or a discount outside of 0 to its count.

    Example:
        >>> discounts_of([1] * 8 + [2] * 4 + [3] * 2 + [4]).amounts
        (0.5, 1.25, 2.0)
    """
    sizes = Counter(counts)
    if not all(sizes[count] for count in (1, 2, 3)):
        return Discounts(FALLBACK, estimated=False)
    share = sizes[1] / (sizes[1] + 2 * sizes[2])
    first, second, third = (k - (k + 1) * share * sizes[k + 1] / sizes[k] for k in (1, 2, 3))
    if not (0 <= first <= 1 and 0 <= second <= 2 and 0 <= third <= 3):
        return Discounts(FALLBACK, estimated=False)
    return Discounts((first, second, third), estimated=True)


def _interpolated(
    counts: Sequence[Mapping[Ngram, int]], discounts: Sequence[Discounts], unseen: Sequence[str]
) -> list[dict[Ngram, tuple[float, float]]]:
    """Entries for n = 1 ... N: discounted counts plus what was taken, times the probability after one word less."""
    weights = [_back_off_weights(table, discount) for table, discount in zip(counts, discounts, strict=True)]
    uniform = 1.0 / (len(counts[0]) + len(unseen) + 1)  # over the words, "</s>" and "<unk>"; never "<s>"
    rest = weights[0][()][1] * uniform  # what unigrams that were never seen get
    lower: dict[Ngram, float] = {(UNKNOWN,): rest, **{(word,): rest for word in unseen}}
    tables: list[dict[Ngram, float]] = []
    lengths = list(zip(counts, discounts, weights, strict=True))
    for table, discount, weight in Progress(lengths, "smoothing", "lengths"):
        current = {} if tables else dict(lower)
        for ngram, count in table.items():
            total, taken = weight[ngram[:-1]]
            below = lower[ngram[1:]] if tables else uniform
            current[ngram] = (count - discount.of(count)) / total + taken * below
        tables.append(current)
        lower = current
    return [_entries(table, following) for table, following in zip(tables, [*weights[1:], {}], strict=True)]


def _back_off_weights(table: Mapping[Ngram, int], discount: Discounts) -> dict[Ngram, tuple[float, float]]:
    """For every context: the sum of its counts, and the share of it that discounting takes (gamma)."""
    totals: dict[Ngram, int] = defaultdict(int)
    taken: dict[Ngram, float] = defaultdict(float)
    for ngram, count in table.items():
        totals[ngram[:-1]] += count
        taken[ngram[:-1]] += discount.of(count)
    return {context: (total, taken[context] / total) for context, total in totals.items()}


def _entries(
    probs: Mapping[Ngram, float], weights: Mapping[Ngram, tuple[float, float]]
) -> dict[Ngram, tuple[float, float]]:
    """Probabilities with the back-off weights of the contexts that they are; other n-grams pass everything on."""
    entries = {
        ngram: (_log10(prob), _log10(weights[ngram][1]) if ngram in weights else 0.0) for ngram, prob in probs.items()
    }
    if (BEGIN,) in weights:  # nobody asks for its probability
        entries[BEGIN,] = (NEVER, _log10(weights[BEGIN,][1]))
    return entries


def _log10(value: float) -> float:
    return math.log10(value) if value > 0 else NEVER


def _check(sentences: Sequence[Sequence[str]], order: int, vocabulary: Collection[str]) -> None:
    """Raise unless these sentences can make a model of this order."""
    if order < MIN_ORDER:
        raise UserError(f"the order of the language model is {order}", expected=f"{MIN_ORDER} or more")
    if not sentences:
        raise UserError("there are no words to estimate a language model from", expected="at least one sentence")
    longest = max(map(len, sentences))
    if longest + 2 < order:
        raise UserError(
            f"the longest sentence has {longest} words, too few for an order of {order}",
            expected=f"an order of at most {longest + 2} (the words, and the two ends of the sentence)",
        )
    tokens = {*vocabulary, *(token for sentence in sentences for token in sentence)}
    wrong = sorted(token for token in tokens if token in NOT_WORDS or token.split() != [token])
    if wrong:
        shown = ", ".join(repr(token) for token in wrong[:LISTED]) + (", ..." if wrong[LISTED:] else "")
        raise UserError(
            f"{len(wrong)} tokens cannot be words of a language model: {shown}",
            expected=f"tokens without white space, none of {', '.join(sorted(NOT_WORDS))}",
        )
