"""Errors of one utterance: the alignment of its hypothesis with its reference, through kaldialign.

Two sets of costs are in use, and they can disagree about the number of errors:

- "unit": substitution 1, deletion 1, insertion 1 (Levenshtein). The fewest errors, as jiwer and the hub's `wer` count.
- "sclite": substitution 4, deletion 3, insertion 3, as NIST sclite aligns. Five substitutions (20) lose against three
  deletions and three insertions (18), so the total can be above the fewest errors. On ties between the two kinds
  (three substitutions cost as much as two deletions and two insertions) kaldialign and sclite may choose differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import kaldialign

COSTS = ("unit", "sclite")
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
        costs: "unit" or "sclite".

    Raises:
        ValueError: if there are no costs of that name, or a side is a string instead of tokens.

    Example:
        >>> count_errors(["A", "B", "C"], ["A", "X"])
        UtteranceCounts(substitutions=1, deletions=1, insertions=0, hits=1)
    """
    _check(reference, hypothesis, costs)
    found = kaldialign.edit_distance(reference, hypothesis, sclite_mode=costs == "sclite")
    lost = found["sub"] + found["del"]
    return UtteranceCounts(found["sub"], found["del"], found["ins"], hits=len(reference) - lost)


def align(
    reference: Sequence[str], hypothesis: Sequence[str], costs: str = "unit"
) -> list[tuple[str | None, str | None]]:
    """Pair the tokens of one utterance; None stands where a side has no token.

    Args:
        reference: reference tokens.
        hypothesis: hypothesis tokens.
        costs: "unit" or "sclite".

    Raises:
        ValueError: as `count_errors`.

    Example:
        >>> align(["A", "B"], ["A", "B", "C"])
        [('A', 'A'), ('B', 'B'), (None, 'C')]
    """
    _check(reference, hypothesis, costs)
    # Numbers instead of tokens, so that no token can be mistaken for the gap.
    number = {token: index for index, token in enumerate(dict.fromkeys([*reference, *hypothesis]))}
    token: dict[int, str | None] = {index: name for name, index in number.items()}
    token[_GAP] = None
    sides = [[number[name] for name in side] for side in (reference, hypothesis)]
    pairs = kaldialign.align(*sides, _GAP, sclite_mode=costs == "sclite")
    return [(token[left], token[right]) for left, right in pairs]


def _check(reference: Sequence[str], hypothesis: Sequence[str], costs: str) -> None:
    if costs not in COSTS:
        raise ValueError(f"unknown alignment costs '{costs}'; expected one of {', '.join(COSTS)}")
    if isinstance(reference, str) or isinstance(hypothesis, str):
        raise ValueError("a sentence was given; expected its tokens (sentence.split())")
