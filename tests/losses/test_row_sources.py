"""Rows that are interpolated where a divergence reads them, against the same rows made before."""

from __future__ import annotations

import pytest
import torch

from kd_asr_slr.blocks import BLOCK_SIZE
from kd_asr_slr.losses.kl import selected_kl
from kd_asr_slr.losses.row_sources import interpolate


def draw(seed: int, *size: int) -> torch.Tensor:
    return 3 * torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("block", [1, 60, 10**6], ids=["row-by-row", "two-rows", "at-once"])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("drop", [None, 0])
@pytest.mark.parametrize("chosen", ["all", "most", "few", "none"])
@pytest.mark.parametrize("zeros", [False, True])
def test_fused_is_unfused(
    block: int, temperature: float, drop: int | None, chosen: str, zeros: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BLOCK_SIZE, "cpu", block)
    teacher = draw(1, 2, 4, 7).log_softmax(-1)
    if zeros:
        teacher[0, 1, 2:5] = -torch.inf
    made = interpolate(teacher, torch.tensor([4, 3]), ratio=1.5, size=6)
    mask = torch.arange(12).view(2, 6) < {"all": 12, "most": 8, "few": 2, "none": 0}[chosen]
    rows, results = mask.nonzero(as_tuple=True), []
    for target in (made, made.dense(normalised=True)):
        student = draw(0, 2, 6, 7).requires_grad_()
        value = selected_kl(student, target, rows, temperature, drop)
        (value * torch.arange(1.0, len(value) + 1)).sum().backward()
        results.append((value.detach(), student.grad))
    for fused, plain in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-9, atol=1e-9)


def test_gradient_by_finite_differences() -> None:
    made = interpolate(draw(1, 2, 4, 7).log_softmax(-1), torch.tensor([4, 3]), ratio=1.5, size=6)
    rows = torch.ones(2, 6).nonzero(as_tuple=True)
    assert torch.autograd.gradcheck(lambda x: selected_kl(x, made, rows, 2.0), draw(0, 2, 6, 7).requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_frames_of_any_type_are_mixed_in_float32(dtype: torch.dtype) -> None:
    teacher = draw(1, 2, 4, 7).log_softmax(-1).to(dtype)
    made = interpolate(teacher, torch.tensor([4, 3]), ratio=2.0, size=8)
    exact = interpolate(teacher.double(), torch.tensor([4, 3]), ratio=2.0, size=8).dense(normalised=True)
    rows = torch.ones(2, 8).nonzero(as_tuple=True)
    student = draw(0, 2, 8, 7).float()
    value = selected_kl(student, made, rows, 2.0)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), selected_kl(student.double(), exact, rows, 2.0), rtol=1e-4, atol=1e-5)


def test_what_a_frame_is_made_of() -> None:
    """A quarter and three quarters of the way, the ends repeated; log-probabilities below the lowest count as it."""
    frames = torch.tensor([[[0.0], [4.0], [-torch.inf]]])
    made = interpolate(frames, torch.tensor([2]), ratio=2.0, size=5)
    assert made.dense().flatten().tolist() == [0.0, 1.0, 3.0, 4.0, 4.0]
    assert interpolate(frames, torch.tensor([3]), ratio=1.0, size=3).dense().flatten().tolist() == [0.0, 4.0, -1e4]
