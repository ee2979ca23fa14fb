"""Large tensors whose memory is taken again: to fault in fresh pages costs more than what is computed into them."""

from __future__ import annotations

import sys
import threading

import torch

from kd_asr_slr.kernels.dispatch import SMALLEST

KEPT = 2  # a step has the combined target and the gradient of the logits at the same time, and needs no more
OURS = 3  # references to a storage where it is looked at: the list's, the loop's, that of the call which counts
_use_count = getattr(torch._C, "_storage_Use_Count", None)  # private to torch: without it, memory is not taken again


class Buffers:
    """Memory that is given out again as soon as nothing refers to what it was given out for.

    torch counts who refers to a storage: tensors, their views, what autograd saved, arrays; and Python who refers to
    the storage as an object. Only a storage that nobody but this class refers to is given out, and none that was moved
    to shared memory, where other processes may read it. A storage may be twice as large as its tensor: `clone` a tensor
    before it is saved.

    Args:
        kept: storages that are kept at most.

    Example:
        >>> buffers = Buffers(kept=1)
        >>> first = buffers.take(256, 256).data_ptr()
        >>> buffers.take(256, 256).data_ptr() == first
        True
    """

    def __init__(self, kept: int = KEPT) -> None:
        self.kept = kept
        self._storages: list[torch.UntypedStorage] = []  # the last ones that were used at the end
        self._lock = threading.Lock()

    def take(self, *shape: int) -> torch.Tensor:
        """A float32 tensor of this shape on the processor, holding anything."""
        count = torch.Size(shape).numel()
        if count < SMALLEST or _use_count is None:
            return torch.empty(shape)
        with self._lock:
            storage = self._free(4 * count)
            if storage is None:
                storage = torch.empty(count).untyped_storage()
            self._storages = [kept for kept in self._storages if kept is not storage][1 - self.kept :] + [storage]
            strides = torch.empty(shape, device="meta").stride()
            return torch.empty(0).set_(storage, 0, shape, strides)

    def clear(self) -> None:
        """Let go of all memory that is kept."""
        with self._lock:
            self._storages = []

    def _free(self, size: int) -> torch.UntypedStorage | None:
        """The smallest of the storages that are free and hold so many bytes, but not more than twice as many."""
        self._storages = [storage for storage in self._storages if not storage.is_shared()]
        fitting = [
            storage
            for storage in self._storages
            if size <= storage.nbytes() <= 2 * size
            and _use_count is not None
            and _use_count(storage._cdata) == 1
            and sys.getrefcount(storage) <= OURS
        ]
        return min(fitting, key=lambda storage: storage.nbytes(), default=None)


BUFFERS = Buffers()
