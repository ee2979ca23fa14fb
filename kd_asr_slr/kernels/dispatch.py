"""When a compiled loop is used, and how its rows are shared among threads."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

# Numbers of a tensor. With fewer the calls of torch cost little, and a short run need not wait for the compiler.
SMALLEST = 2**16
FOR_A_THREAD = 2**17  # to wake another thread takes as long as this many
CHUNK = 2**14  # taken at once


def applies(*tensors: torch.Tensor) -> bool:
    """Whether compiled loops do for these: float32 on a processor, as they lie in memory, the first large enough."""
    fit = tensors[0].numel() >= SMALLEST and all(
        tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in tensors
    )
    return fit and can_compile()


def within(size: int, *indices: torch.Tensor) -> bool:
    """Whether all indices are from 0 to size - 1: a compiled loop does not ask, and would write anywhere."""
    return all(int(part.min()) >= 0 and int(part.max()) < size for part in indices if part.numel())


def has_class(drop_class: int | None, classes: int) -> bool:
    """Whether a class to be left out is one of so many, not counted from the end: a compiled loop does not ask."""
    return 0 <= (drop_class or 0) < classes


@functools.cache
def can_compile() -> bool:
    """Whether numba is there, fits the numpy that is there, and may compile; without it everything is torch's.

    The first time that it cannot be imported is told as a warning.
    """
    try:
        from numba import config
    except ImportError as error:
        warnings.warn(
            f"numba cannot be imported ({error}), so losses and means of teachers on a processor are computed by torch "
            "alone, which takes longer; install the numba that kd_asr_slr asks for",
            stacklevel=2,
        )
        return False
    return not config.DISABLE_JIT


def in_threads(kernel: Callable[..., Any], count: int, size: int, *arguments: Any) -> list[Any]:
    """Call a kernel with the arguments, counter, count and chunk, in each of torch's threads; what each call returned.

    Whoever has done a chunk of rows takes the next one (see `compiling.own_rows`): a thread that is woken late, or
    shares its core with one of torch's that waits in a loop for more work, does less.

    Args:
        kernel: a loop that lets go of the interpreter.
        count: rows.
        size: numbers that are read for each of them.
        *arguments: tensors, which it gets as arrays, and numbers.
    """
    given = [part.detach().numpy() if isinstance(part, torch.Tensor) else part for part in arguments]
    given += [np.zeros(1, np.int64), count, max(1, CHUNK // max(size, 1))]
    threads = max(1, min(torch.get_num_threads(), count, count * size // FOR_A_THREAD))
    waiting = [_pool(torch.get_num_threads()).submit(kernel, *given) for _ in range(1, threads)]
    return [kernel(*given), *(other.result() for other in waiting)]


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="kd_asr_slr-kernel")


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not live on in a forked process
