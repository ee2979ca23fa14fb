"""Blocks of rows: how many, and the log-normaliser of a row against torch's."""

from __future__ import annotations

import pytest
import torch

from kd_asr_slr.blocks import BLOCK_SIZE, log_totals, rows_at_once


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_totals_of_any_scores(dtype: torch.dtype) -> None:
    """Ordinary rows, rows beyond the exponentials' range, one class only, none at all: each as if it were alone."""
    rows = 3 * torch.randn(7, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    rows[1] += 2000
    rows[2] -= 2000
    rows[3, 1:] = -torch.inf
    rows[4] = -torch.inf
    rows[5, 0] = torch.nan
    before = rows.clone()
    found = log_totals(rows, torch.empty_like(rows))
    torch.testing.assert_close(found, torch.logsumexp(rows, -1, keepdim=True), equal_nan=True)
    assert torch.equal(rows.nan_to_num(), before.nan_to_num())
    alone = log_totals(rows[6:], torch.empty(1, 50, dtype=dtype))
    assert torch.equal(found[6:], alone)


def test_of_no_rows() -> None:
    assert log_totals(torch.empty(0, 5), torch.empty(0, 5)).shape == (0, 1)


def test_a_block_is_at_least_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BLOCK_SIZE, "cpu", 120 // torch.get_num_threads())
    assert rows_at_once(torch.empty(9, 10), buffers=3) == 120 // torch.get_num_threads() * torch.get_num_threads() // 30
    assert rows_at_once(torch.empty(9, 1000), buffers=3) == 1
    assert rows_at_once(torch.empty(9, 0), buffers=3) >= 1
