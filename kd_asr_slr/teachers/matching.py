"""Which teachers have an utterance: those whose own training data hold its word or prompt.

A teacher always hears the student's own recording; matching only says which teachers are asked about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

RULES = ("all", "partial", "strict")
LISTED = 5


@dataclass(frozen=True)
class Matching:
    """Which of the K teachers have which utterance.

    Attributes:
        rule: "strict" asks only about utterances that all teachers have; "partial" about those that at least
            `min_teachers` have, and asks only these teachers. ("all", every teacher about every utterance, needs no
            matching.)
        min_teachers: of "partial".
        texts: utterance id -> transcript, of every utterance that teachers may be asked about.
        known: the transcripts in each teacher's training data, in the order of the teachers.
        taught: the ids that the student trains on, for `mean_teachers`.

    Example:
        >>> matching = Matching("partial", 1, {"a": "YES", "b": "NO"}, [frozenset({"YES", "NO"}), frozenset({"YES"})])
        >>> matching.has(["a", "b"]).tolist()
        [[True, True], [True, False]]
    """

    rule: str
    min_teachers: int
    texts: Mapping[str, str]
    known: Sequence[frozenset[str]]
    taught: Sequence[str] = ()

    @property
    def needed(self) -> int:
        """Teachers that must have an utterance."""
        return len(self.known) if self.rule == "strict" else self.min_teachers

    def has(self, ids: Sequence[str]) -> torch.Tensor:
        """[K, B], true where a teacher has an utterance. An utterance without text is in nobody's data."""
        texts = [self.texts.get(name, "") for name in ids]
        return torch.tensor(
            [[bool(text) and text in known for text in texts] for known in self.known], dtype=torch.bool
        )

    def short(self, ids: Sequence[str]) -> list[str]:
        """The utterances that too few teachers have."""
        if not len(ids):
            return []
        few = (self.has(ids).sum(0) < self.needed).tolist()
        return [name for name, lacks in zip(ids, few, strict=True) if lacks]

    def sentence(self, ids: Sequence[str]) -> str:
        """What is wrong where `ids` are the utterances that too few teachers have."""
        shown = ", ".join(f"'{name}' ({self.texts.get(name, '')})" for name in ids[:LISTED])
        more = f" and {len(ids) - LISTED} more" if len(ids) > LISTED else ""
        loosen = "--teacher_matching all" if self.rule == "partial" else "--teacher_matching partial or all"
        return (
            f"teacher_matching {self.rule} needs {self.needed} of {len(self.known)} teachers to have each utterance; "
            f"fewer have {shown}{more}; expected these words in the teachers' training data: set {loosen}, or "
            "--unknown_speaker skip (such utterances are learned from their labels only)"
        )

    def describe(self) -> dict[str, Any]:
        """The rule, and the teachers an utterance of the training split has on average."""
        described: dict[str, Any] = {"teacher_matching": self.rule, "min_teachers": self.needed}
        if len(self.taught):
            described["mean_teachers"] = round(self.mean_teachers(), 4)
        return described

    def mean_teachers(self) -> float:
        """Teachers that speak for an utterance of the training split, on average; 0 where too few have it."""
        counts = self.has(self.taught).sum(0)  # [N]
        return float(counts.where(counts >= self.needed, 0).double().mean())


def matched(shares: torch.Tensor, has: torch.Tensor, needed: int) -> torch.Tensor:
    """The shares of the teachers that have an utterance, summing to 1 again; 0 where fewer than `needed` have it.

    Args:
        shares: [K, B], float64, each column summing to 1.
        has: [K, B], bool.
        needed: teachers that must have an utterance.
    """
    kept = shares * has
    totals = kept.sum(0)  # [B]
    evenly = has / has.sum(0).clamp(min=1)  # weights may be too small for a float
    kept = torch.where(totals > 0, kept / totals.clamp(min=torch.finfo(kept.dtype).tiny), evenly)
    return kept * (has.sum(0) >= needed)
