"""Search and divergence in one go give what the search, and then the divergence of the frames that meet, give."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kd_asr_slr.losses import shifted_kl as module
from kd_asr_slr.losses.kl import selected_kl
from kd_asr_slr.losses.shifted_kl import shifted_kl
from kd_asr_slr.losses.shifts import best_shifts, met_frames

LENGTHS = torch.tensor([9, 6, 1])
OTHERS = torch.tensor([8, 7, 2])  # frames of the teacher


def sides(dtype: torch.dtype = torch.float64, classes: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Student [3, 10, V], whose first utterance is two frames late, teacher [3, 9, V], what counts; NaN in padding."""
    generator = torch.Generator().manual_seed(0)
    student = 2 * torch.randn(3, 10, classes, generator=generator, dtype=torch.float64)
    teacher = (2 * torch.randn(3, 9, classes, generator=generator, dtype=torch.float64)).log_softmax(-1)
    teacher[0, :7] = student[0, 2:9].log_softmax(-1) + 0.1 * teacher[0, :7]
    for row in range(3):
        student[row, LENGTHS[row] :] = teacher[row, OTHERS[row] :] = float("nan")
    counted = torch.arange(9) < OTHERS[:, None]
    counted[0, 3] = False
    return student.to(dtype), teacher.to(dtype), counted


def one_after_the_other(student: torch.Tensor, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    teacher, counted, lengths, window, temperature, drop = arguments
    shifts = best_shifts(student, *arguments)
    met, rows, teacher_rows = met_frames(shifts, counted, lengths, student.shape[1])
    return selected_kl(student, teacher, rows, temperature, drop, teacher_rows), met, shifts


def assert_same(student: torch.Tensor, *arguments: Any, **tolerance: float) -> torch.Tensor:
    """Values, frames, shifts, and the gradient of a weighted sum; twice, as with retain_graph. The shifts."""
    found = []
    for way in (shifted_kl, one_after_the_other):
        leaf = student.clone().requires_grad_()
        values, met, shifts = way(leaf, *arguments)
        total = (values * torch.arange(1, len(values) + 1)).sum()
        gradients = [torch.autograd.grad(total, leaf, retain_graph=True)[0] for _ in range(2)]
        found.append((values.detach(), met, shifts, *gradients))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, **tolerance)
    return found[0][2]


@pytest.fixture
def fallbacks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A one for every search that was made on its own."""
    calls: list[int] = []
    monkeypatch.setattr(module, "best_shifts", lambda *given: calls.append(1) or best_shifts(*given))
    return calls


@pytest.mark.parametrize("group", [1, 2**24])
@pytest.mark.parametrize("drop", [None, 0, 3])
@pytest.mark.parametrize(("window", "temperature"), [(0, 1.0), (2, 2.0), (12, 0.7)])
def test_values_and_gradients(
    window: int, temperature: float, drop: int | None, group: int, monkeypatch: pytest.MonkeyPatch, fallbacks: list[int]
) -> None:
    monkeypatch.setattr(module, "GROUP_SIZE", group)
    student, teacher, counted = sides()
    shifts = assert_same(student, teacher, counted, LENGTHS, window, temperature, drop)
    assert window < 2 or shifts[0] == 2
    assert not fallbacks


def test_of_many_classes_in_float32_and_time_first(fallbacks: list[int]) -> None:
    student, teacher, counted = sides(torch.float32, classes=700)
    student = student.transpose(0, 1).contiguous().transpose(0, 1)
    assert_same(student, teacher, counted, LENGTHS, 3, 2.0, 0, rtol=1e-4, atol=1e-6)
    assert not fallbacks


def test_scores_whose_exponentials_overflow(fallbacks: list[int]) -> None:
    """Also in a frame that no shift would like to meet."""
    student, teacher, counted = sides(torch.float32)
    student[0, 4] += 300
    assert_same(student, teacher, counted, LENGTHS, 2, 1.0, None, rtol=1e-4, atol=1e-5)
    assert fallbacks


def test_a_probability_of_zero(fallbacks: list[int]) -> None:
    student, teacher, counted = sides()
    teacher[1, 2, 4] = -torch.inf
    assert_same(student, teacher, counted, LENGTHS, 2, 2.0, None)
    assert fallbacks


def test_other_types_on_either_side(fallbacks: list[int]) -> None:
    student, teacher, counted = sides(torch.float32)
    assert_same(student.bfloat16(), teacher, counted, LENGTHS, 2, 2.0, None)
    assert fallbacks


def test_nothing_counts() -> None:
    student, teacher, counted = sides()
    leaf = student.requires_grad_()
    values, met, shifts = shifted_kl(leaf, teacher, torch.zeros_like(counted), LENGTHS, 2, 2.0, None)
    assert (len(values), int(met.sum()), shifts.tolist()) == (0, 0, [0, 0, 0])
    values.sum().backward()
    assert leaf.grad.abs().sum() == 0


def test_without_a_gradient_none_is_made() -> None:
    student, teacher, counted = sides()
    with torch.no_grad():
        values, *_ = shifted_kl(student.clone().requires_grad_(), teacher, counted, LENGTHS, 2, 2.0, None)
    torch.testing.assert_close(values, one_after_the_other(student, teacher, counted, LENGTHS, 2, 2.0, None)[0])
    assert not values.requires_grad


def test_no_frames_at_all() -> None:
    student, teacher = torch.zeros(2, 0, 4, requires_grad=True), torch.zeros(2, 0, 4)
    values, met, shifts = shifted_kl(student, teacher, torch.zeros(2, 0, dtype=torch.bool), torch.tensor([0, 0]), 2)
    assert (values.shape, met.shape, shifts.tolist()) == ((0,), (2, 0), [0, 0])
    values.sum().backward()
    assert student.grad.shape == (2, 0, 4)
