"""Errors of one utterance: the alignment of its hypothesis with its reference.

Named costs are in use, and they can disagree about the number of errors:

- "unit": substitution 1, deletion 1, insertion 1 (Levenshtein, by kaldialign). The fewest errors, as jiwer and the
  hub's `wer` count.
- "sclite": substitution 4, deletion 3, insertion 3, as NIST sclite aligns. Five substitutions (20) lose against three
  deletions and three insertions (18), so the total can be above the fewest errors. Three substitutions cost as much as
  two deletions and two insertions; of alignments that cost the same, sclite takes the one found from the end backwards
  by a pair of tokens before an insertion before a deletion. Counts and pairs are those of sclite 2.4.10.
- "vac": the same costs, a pair before a deletion before an insertion, as the Python scorer of VAC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import kaldialign


@dataclass(frozen=True, slots=True)
class Costs:
    """What an error costs, and which step wins where several are as cheap.

    Args:
        substitution: cost of a pair of different tokens.
        deletion: cost of a reference token alone.
        insertion: cost of a hypothesis token alone.
        insertion_first: whether an insertion wins against a deletion (a pair wins against both).
    """

    substitution: int
    deletion: int
    insertion: int
    insertion_first: bool


# kaldialign aligns by unit costs; the order of its steps is its own.
WEIGHTED = {"sclite": Costs(4, 3, 3, insertion_first=True), "vac": Costs(4, 3, 3, insertion_first=False)}
COSTS = ("unit", *WEIGHTED)
Pair = tuple[str | None, str | None]
_GAP = -1  # stands for "no token" while aligning; tokens are numbered from 0


@dataclass(frozen=True, slots=True)
class UtteranceCounts:
    """What happened to the reference tokens of one utterance, and what came on top.

    Args:
        substitutions: reference tokens recognised as another token.
        deletions: reference tokens without a counterpart.
        insertions: hypothesis tokens without a counterpart.
        hits: reference tokens recognised as themselves.
    """

    substitutions: int
    deletions: int
    insertions: int
    hits: int

    @property
    def errors(self) -> int:
        """Substitutions + deletions + insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_tokens(self) -> int:
        """Length of the reference."""
        return self.hits + self.substitutions + self.deletions


def count_errors(reference: Sequence[str], hypothesis: Sequence[str], costs: str = "unit") -> UtteranceCounts:
    """Count the errors of one utterance.

    Args:
        reference: reference tokens.
        hypothesis: hypothesis tokens.
        costs: one of `COSTS`.

    Raises:
        ValueError: if there are no costs of that name, or a side is a string instead of tokens.

    Example:
        >>> count_errors(["A", "B", "C"], ["A", "X"])
        UtteranceCounts(substitutions=1, deletions=1, insertions=0, hits=1)
    """
    _check(reference, hypothesis, costs)
    if costs in WEIGHTED:
        return _count_pairs(_weighted_pairs(reference, hypothesis, WEIGHTED[costs]))
    found = kaldialign.edit_distance(reference, hypothesis)
    lost = found["sub"] + found["del"]
    return UtteranceCounts(found["sub"], found["del"], found["ins"], hits=len(reference) - lost)


def align(reference: Sequence[str], hypothesis: Sequence[str], costs: str = "unit") -> list[Pair]:
    """Pair the tokens of one utterance; None stands where a side has no token.

    Args:
        reference: reference tokens.
        hypothesis: hypothesis tokens.
        costs: one of `COSTS`.

    Raises:
        ValueError: as `count_errors`.

    Example:
        >>> align(["A", "B"], ["A", "B", "C"])
        [('A', 'A'), ('B', 'B'), (None, 'C')]
    """
    _check(reference, hypothesis, costs)
    if costs in WEIGHTED:
        return _weighted_pairs(reference, hypothesis, WEIGHTED[costs])
    # Numbers instead of tokens, so that no token can be mistaken for the gap.
    number = {token: index for index, token in enumerate(dict.fromkeys([*reference, *hypothesis]))}
    token: dict[int, str | None] = {index: name for name, index in number.items()}
    token[_GAP] = None
    sides = [[number[name] for name in side] for side in (reference, hypothesis)]
    return [(token[left], token[right]) for left, right in kaldialign.align(*sides, _GAP)]


def _weighted_pairs(reference: Sequence[str], hypothesis: Sequence[str], costs: Costs) -> list[Pair]:
    """Walk the cheapest alignment back from its end; where steps are as cheap, their order in `costs` decides."""
    table = _cost_table(reference, hypothesis, costs)
    row, column = len(reference), len(hypothesis)
    pairs: list[Pair] = []
    while row and column:
        here = table[row][column]
        truth, guess = reference[row - 1], hypothesis[column - 1]
        inserted = here == table[row][column - 1] + costs.insertion
        deleted = here == table[row - 1][column] + costs.deletion
        if here == table[row - 1][column - 1] + costs.substitution * (truth != guess):
            pairs.append((truth, guess))
            row, column = row - 1, column - 1
        elif inserted and (costs.insertion_first or not deleted):
            pairs.append((None, guess))
            column -= 1
        else:
            pairs.append((truth, None))
            row -= 1
    pairs += [(truth, None) for truth in reversed(reference[:row])]
    pairs += [(None, guess) for guess in reversed(hypothesis[:column])]
    return pairs[::-1]


def _cost_table(reference: Sequence[str], hypothesis: Sequence[str], costs: Costs) -> list[list[int]]:
    """Least costs of aligning the first i reference tokens with the first j hypothesis tokens [U + 1, W + 1]."""
    table = [[costs.insertion * column for column in range(len(hypothesis) + 1)]]
    for truth in reference:
        above = table[-1]
        row = [above[0] + costs.deletion]
        for column, guess in enumerate(hypothesis):
            pair = above[column] + (costs.substitution if truth != guess else 0)
            row.append(min(pair, row[column] + costs.insertion, above[column + 1] + costs.deletion))
        table.append(row)
    return table


def _count_pairs(pairs: Sequence[Pair]) -> UtteranceCounts:
    hits = sum(truth == guess for truth, guess in pairs)
    deletions = sum(guess is None for _, guess in pairs)
    insertions = sum(truth is None for truth, _ in pairs)
    return UtteranceCounts(len(pairs) - hits - deletions - insertions, deletions, insertions, hits)


def _check(reference: Sequence[str], hypothesis: Sequence[str], costs: str) -> None:
    if costs not in COSTS:
        raise ValueError(f"unknown alignment costs '{costs}'; expected one of {', '.join(COSTS)}")
    if isinstance(reference, str) or isinstance(hypothesis, str):
        raise ValueError("a sentence was given; expected its tokens (sentence.split())")
