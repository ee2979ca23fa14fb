"""What a run gets wrong: alignments of utterances, pairs that it confuses, errors by the length of the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kd_asr_slr.scoring.alignment import Pair, align
from kd_asr_slr.scoring.protocols import Protocol

KINDS = {"C": "correct", "S": "substitution", "D": "deletion", "I": "insertion"}
MAX_BINS = 8  # of lengths


@dataclass(frozen=True)
class Aligned:
    """One utterance, and what was recognised of it.

    Args:
        id: the utterance's.
        speaker: whose it is.
        reference: its text.
        hypothesis: what was recognised.
        pairs: reference and hypothesis tokens side by side.
    """

    id: str
    speaker: str
    reference: str
    hypothesis: str
    pairs: tuple[Pair, ...]

    @property
    def errors(self) -> int:
        """Substitutions + deletions + insertions."""
        return sum(truth != guess for truth, guess in self.pairs)

    @property
    def length(self) -> int:
        """Tokens of the reference."""
        return sum(truth is not None for truth, _ in self.pairs)

    @property
    def wer(self) -> float:
        """Errors / reference tokens."""
        return self.errors / self.length


def kind_of(pair: Pair) -> str:
    """The letter that sclite prints under a pair: C, S, D or I.

    Example:
        >>> [kind_of(pair) for pair in (("A", "A"), ("A", "B"), ("A", None), (None, "B"))]
        ['C', 'S', 'D', 'I']
    """
    truth, guess = pair
    if truth is None:
        return "I"
    return "D" if guess is None else "C" if truth == guess else "S"


def aligned(rows: Sequence[Mapping[str, Any]], protocol: Protocol) -> list[Aligned]:
    """Align every prediction row by a protocol; the errors are those that the protocol counts."""
    found = []
    for row in rows:
        sides = protocol.reference_tokens(row["reference"]), protocol.hypothesis_tokens(row["hypothesis"])
        pairs = tuple(align(*sides, costs=protocol.costs))
        found.append(Aligned(row["id"], row["speaker"], row["reference"], row["hypothesis"], pairs))
    return found


def confusions(utterances: Sequence[Aligned], amount: int) -> list[tuple[str, Pair, int]]:
    """The commonest errors: (kind, pair, how often); of equally common ones, the first in the alphabet.

    Args:
        utterances: of one run.
        amount: how many.
    """
    counts = Counter(pair for utterance in utterances for pair in utterance.pairs if pair[0] != pair[1])
    ordered = sorted(counts, key=lambda pair: (-counts[pair], pair[0] or "", pair[1] or ""))
    return [(KINDS[kind_of(pair)], pair, counts[pair]) for pair in ordered[:amount]]


def by_length(utterances: Sequence[Aligned]) -> dict[str, Any]:
    """WER by the length of the reference: in tokens, or in characters where every reference has as many tokens.

    Returns:
        `unit` ("tokens" or "characters") and `bins`: each with its `name` ("3" or "3 to 5"), `wer`, `utterances`.
    """
    in_tokens = len({utterance.length for utterance in utterances}) > 1
    lengths = [item.length if in_tokens else len(item.reference) for item in utterances]
    bins = []
    for low, high in _bins(sorted(lengths)):
        part = [item for item, length in zip(utterances, lengths, strict=True) if low <= length <= high]
        rate = sum(item.errors for item in part) / sum(item.length for item in part)
        bins.append({"name": f"{low}" if low == high else f"{low} to {high}", "wer": rate, "utterances": len(part)})
    return {"unit": "tokens" if in_tokens else "characters", "bins": bins}


def _bins(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Ranges of lengths: every length where there are few, else ranges of about equally many utterances."""
    distinct = sorted(set(lengths))
    if len(distinct) <= MAX_BINS:
        return [(length, length) for length in distinct]
    edges = sorted({lengths[round(part * (len(lengths) - 1) / MAX_BINS)] for part in range(1, MAX_BINS + 1)})
    lows = [distinct[0], *(distinct[distinct.index(edge) + 1] for edge in edges[:-1])]
    return list(zip(lows, edges, strict=True))
