"""Names of the files of a store, and what its writer and its reader say alike."""

from __future__ import annotations

from collections.abc import Sequence

MANIFEST, INDEX, COMPLETE = "manifest.json", "index.arrow", "complete.json"
RESUME = "run recipes/cache_teachers.py again with the same configuration; it makes only what is missing or damaged"


def few(numbers: Sequence[int]) -> str:
    """The first ten of some shard numbers, for a message."""
    listed = ", ".join(str(number) for number in numbers[:10])
    return listed if len(numbers) <= 10 else f"{listed} and {len(numbers) - 10} more"
