"""A bounded cache of arrays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import numpy as np


class ArrayCache:
    """Keeps the arrays used last, up to a number of bytes; an array larger than that is not kept.

    Args:
        max_bytes: bound on the sum of the arrays' sizes; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._arrays: OrderedDict[Hashable, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return len(self._arrays)

    def get(self, key: Hashable) -> np.ndarray | None:
        """The array of `key`, or None."""
        array = self._arrays.get(key)
        if array is not None:
            self._arrays.move_to_end(key)
        return array

    def put(self, key: Hashable, array: np.ndarray) -> np.ndarray:
        """Keep an array of its own memory, read-only, so that nobody changes what the next epoch will see.

        Returns:
            What was kept (or the array itself).
        """
        if array.nbytes > self.max_bytes:
            return array
        # A view would keep its whole base alive, beyond the bound.
        kept = array.copy() if array.base is not None else array.view()
        kept.flags.writeable = False
        self._drop(key)
        self._arrays[key] = kept
        self.bytes += kept.nbytes
        self._shrink()
        return kept

    def resize(self, max_bytes: int) -> None:
        """Change the bound; drops what no longer fits."""
        self.max_bytes = max_bytes
        self._shrink()

    def _drop(self, key: Hashable) -> None:
        old = self._arrays.pop(key, None)
        self.bytes -= 0 if old is None else old.nbytes

    def _shrink(self) -> None:
        while self.bytes > self.max_bytes:
            self._drop(next(iter(self._arrays)))
