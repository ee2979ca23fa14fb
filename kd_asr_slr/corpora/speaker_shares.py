"""A share of each speaker's utterances for tuning, the same on every machine and however many files there are."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence


def utterances_for_dev(utterances: Sequence[tuple[str, str]], share: float) -> set[str]:
    """The utterances that tune: of every speaker the `share` whose names have the smallest SHA-256.

    Args:
        utterances: (speaker, name of the utterance); recordings of one utterance by several microphones share its name,
            so that they stay together.
        share: 0 to below 1; at least one utterance of a speaker who has two or more.

    Example:
        >>> len(utterances_for_dev([("s", f"u{number}") for number in range(20)], 0.1))
        2
    """
    if share <= 0:
        return set()
    of_speaker: dict[str, set[str]] = defaultdict(set)
    for speaker, name in utterances:
        of_speaker[speaker].add(name)
    chosen: set[str] = set()
    for names in of_speaker.values():
        if len(names) > 1:
            count = min(len(names) - 1, max(1, round(share * len(names))))
            chosen |= set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:count])
    return chosen
