"""Memory that is taken again, never while anything refers to it; and rows that are shared among threads."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import numba
import numpy as np
import pytest
import torch

from kd_asr_slr.kernels import dispatch
from kd_asr_slr.kernels.buffers import Buffers
from kd_asr_slr.kernels.compiling import own_rows
from kd_asr_slr.kernels.dispatch import applies, in_threads

SIDE = 300  # squared, large enough


def test_taken_again_when_nothing_refers_to_it() -> None:
    buffers = Buffers()
    first = buffers.take(SIDE, SIDE).data_ptr()
    assert buffers.take(SIDE, SIDE).data_ptr() == first
    assert buffers.take(2, SIDE, SIDE // 2).data_ptr() == first


@pytest.mark.parametrize(
    "keep",
    [
        lambda tensor: tensor,
        lambda tensor: tensor[3:, 5],
        lambda tensor: tensor.numpy(),
        lambda tensor: tensor.untyped_storage(),
        lambda tensor: torch.ones(SIDE, requires_grad=True) * tensor,  # autograd saves the factor
    ],
    ids=["tensor", "view", "array", "storage", "graph"],
)
def test_not_while_something_does(keep) -> None:
    buffers = Buffers()
    tensor = buffers.take(SIDE, SIDE).fill_(1)
    address, kept = tensor.data_ptr(), keep(tensor)
    del tensor
    assert buffers.take(SIDE, SIDE).data_ptr() != address
    del kept
    assert address in {buffers.take(SIDE, SIDE).data_ptr() for _ in range(2)}


def test_only_memory_that_fits() -> None:
    buffers = Buffers()
    first = buffers.take(SIDE, SIDE)
    address = first.data_ptr()
    del first
    assert buffers.take(SIDE + 1, SIDE).shape == (SIDE + 1, SIDE)  # larger
    assert buffers.take(SIDE // 3, SIDE).data_ptr() != address  # less than half


def test_as_many_are_kept_as_it_says() -> None:
    buffers = Buffers(kept=2)
    tensors = [buffers.take(SIDE, SIDE) for _ in range(4)]
    addresses = {tensor.data_ptr() for tensor in tensors}
    assert len(addresses) == 4 and len(buffers._storages) == 2
    del tensors
    buffers.clear()
    assert not buffers._storages


def test_as_strided_as_any_other() -> None:
    tensor = Buffers().take(2, SIDE, SIDE)
    assert tensor.is_contiguous() and tensor.dtype == torch.float32 and not tensor.requires_grad


def test_small_tensors_double_precision_and_layouts_are_left_to_torch() -> None:
    large = torch.zeros(SIDE, SIDE)
    assert applies(large, large[:2])
    assert not applies(large[:2]) and not applies(large.double()) and not applies(large.T) and not applies(large.half())


def rows_done(counter: np.ndarray, count: int, chunk: int) -> list[int]:
    return list(own_rows(counter, count, chunk))


def test_every_row_is_done_once_by_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "FOR_A_THREAD", 1)
    before = torch.get_num_threads()
    for threads, size in ((1, 1), (2, dispatch.CHUNK), (5, dispatch.CHUNK // 3)):
        torch.set_num_threads(threads)
        done = in_threads(rows_done, 100, size)
        assert len(done) == threads and sorted(sum(done, [])) == list(range(100))
    torch.set_num_threads(before)


def test_after_a_fork_threads_are_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "FOR_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert len(in_threads(rows_done, 4, 1)) == 2
    child = os.fork()
    if child == 0:
        os._exit(0 if sorted(sum(in_threads(rows_done, 4, 1), [])) == [0, 1, 2, 3] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_memory_that_another_process_may_read_is_not_taken_again() -> None:
    buffers = Buffers()
    tensor = buffers.take(SIDE, SIDE).share_memory_()
    address = tensor.data_ptr()
    del tensor
    assert buffers.take(SIDE, SIDE).data_ptr() != address


@pytest.fixture
def asked_anew() -> Iterator[None]:
    dispatch.can_compile.cache_clear()
    yield
    dispatch.can_compile.cache_clear()


def test_without_numba_everything_is_left_to_torch(monkeypatch: pytest.MonkeyPatch, asked_anew: None) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.warns(UserWarning, match="numba cannot be imported"):
        assert not applies(torch.zeros(SIDE, SIDE))


def test_where_numba_may_not_compile_everything_is_left_to_torch(
    monkeypatch: pytest.MonkeyPatch, asked_anew: None
) -> None:
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert not applies(torch.zeros(SIDE, SIDE))


def test_batches_of_all_sizes_share_their_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "FOR_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    dispatch._pool.cache_clear()
    for count in (2, 3, 4, 5, 6):
        in_threads(rows_done, count, 1)
    assert dispatch._pool.cache_info().currsize == 1
