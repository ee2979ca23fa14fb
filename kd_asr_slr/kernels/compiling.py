"""numba, set up once for all loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from kd_asr_slr.blocks import SAFE_TOTALS

# Sums may be taken in any order, which lets them run in vectors; NaN and infinity stay what they are.
FLAGS = {"reassoc", "contract", "nsz", "arcp"}
F32 = np.float32
LOWEST, HIGHEST = F32(SAFE_TOTALS[0]), F32(SAFE_TOTALS[1])  # of a sum of exponentials that can be relied on
# Numbers that are summed in float32, before the sum goes into one in float64: 32000 equal ones, each rounded the same
# way, would be wrong by 1e-5 of their sum.
PART = 2048
LARGEST = F32(3e38)  # what is not below is infinite or NaN; with these flags numba's isfinite takes all for finite


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as machine code, made at its first call and kept where the disk lets it."""
    options: dict[str, Any] = {"nogil": True, "fastmath": FLAGS, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # neither beside the file nor in the user's folder may anything be written
        return njit(**options)(function)


@intrinsic
def _float_of_bits(context: Any, bits: Any) -> Any:
    """A float32 from its 32 bits."""
    return types.float32(types.int32), lambda _, builder, __, args: builder.bitcast(args[0], ir.FloatType())


@intrinsic
def _pointer(context: Any, address: Any) -> Any:
    return types.voidptr(types.int64), lambda _, builder, __, args: builder.inttoptr(args[0], cgutils.voidptr_t)


@intrinsic
def _add_and_get_old(context: Any, counter: Any, amount: Any) -> Any:
    """counter[0] += amount, as one step for all threads; what it was before."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = target.make_array(signature.args[0])(target, builder, given[0]).data
        return builder.atomic_rmw("add", place, given[1], "monotonic")

    return types.int64(counter, types.int64), generate


@njit
def own_rows(counter: np.ndarray, count: int, chunk: int) -> Iterator[int]:
    """The rows of a thread: of those that no other thread has taken the next ones, again and again."""
    start = _add_and_get_old(counter, chunk)
    while start < count:
        for row in range(start, min(start + chunk, count)):  # noqa: UP028 - numba has no `yield from`
            yield row
        start = _add_and_get_old(counter, chunk)


@njit(inline="always")
def row_at(address: int, width: int) -> np.ndarray:
    """`width` float32 numbers at an address."""
    return carray(_pointer(address), (width,), np.float32)


@njit(inline="always", fastmath={"contract"}, error_model="numpy")
def exp(x: np.float32) -> np.float32:
    """e^x in float32, to 3e-7 of it; of -87 or 88 where x lies outside of these.

    The C library's is a call for each number; this runs in vectors. e^x is 2^n e^r with r at most log(2) / 2.

    Source:
        Moshier, Cephes mathematical library, expf.
    """
    x = min(max(x, F32(-87.0)), F32(88.0))
    n = np.floor(x * F32(1.44269504088896341) + F32(0.5))
    r = x - n * F32(0.693359375) - n * F32(-2.12194440e-4)  # log(2) in two parts, the first without rounding
    p = F32(1.9875691500e-4)
    p = p * r + F32(1.3981999507e-3)
    p = p * r + F32(8.3334519073e-3)
    p = p * r + F32(4.1665795894e-2)
    p = p * r + F32(1.6666665459e-1)
    p = p * r + F32(5.0000001201e-1)
    p = p * r * r + r + F32(1.0)
    return p * _float_of_bits((np.int32(n) + np.int32(127)) << np.int32(23))
