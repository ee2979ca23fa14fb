"""The compiled divergence against the plain formula in float64: value, gradient, choice of rows, what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kd_asr_slr.kernels.compiling import compiled as compile_loop
from kd_asr_slr.kernels.compiling import exp
from kd_asr_slr.losses import kl_blocks
from kd_asr_slr.losses.kl import row_kl, selected_kl
from kd_asr_slr.losses.row_sources import LOG_ZERO, interpolate

pytestmark = pytest.mark.usefixtures("compiled")


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the compiled loop may answer."""
    for name in ("_plain_exponentials", "_softmaxes"):
        monkeypatch.delattr(kl_blocks, name)


def draw(seed: int, *size: int) -> torch.Tensor:
    return 3 * torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def plain(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0, drop: int | None = None
) -> torch.Tensor:
    """KL(teacher_T || student_T) * T^2 of rows, in float64."""
    keep = [index for index in range(student.shape[-1]) if index != drop]
    ours, theirs = ((side.double()[:, keep] / temperature).log_softmax(-1) for side in (student, teacher))
    return F.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1) * temperature**2


def assert_same(student: torch.Tensor, ours: Callable, expected: Callable, atol: float = 4e-6) -> None:
    """Values, and the gradient of their weighted sum, twice (retain_graph)."""
    leaf, other = student.clone().requires_grad_(), student.double().requires_grad_()
    values, wanted = ours(leaf), expected(other)
    torch.testing.assert_close(values.double(), wanted, rtol=1e-5, atol=atol)
    weights = torch.linspace(0.5, 2, len(values))
    (gradient,) = torch.autograd.grad((wanted * weights).sum(), other)
    for _ in range(2):
        (found,) = torch.autograd.grad((values * weights).sum(), leaf, retain_graph=True)
        torch.testing.assert_close(found.double(), gradient, rtol=1e-4, atol=atol)


def test_exponential() -> None:
    """Over all of its range, and beyond it."""

    @compile_loop
    def all_of(values: np.ndarray, out: np.ndarray) -> None:
        for index in range(len(values)):
            out[index] = exp(values[index])

    values = np.linspace(-87, 88, 200_001, dtype=np.float32)
    out = np.empty_like(values)
    all_of(values, out)
    expected = np.exp(values.astype(np.float64))
    assert np.abs(out / expected - 1).max() < 3e-7
    beyond = np.array([-np.inf, -1000, 1000, np.inf], np.float32)
    all_of(beyond, out)
    assert out[:4].tolist() == pytest.approx([1.6458e-38, 1.6458e-38, 1.6516e38, 1.6516e38], rel=1e-3)


@pytest.mark.usefixtures("only")
@pytest.mark.parametrize("classes", [2, 7, 64, 1229])
@pytest.mark.parametrize(("temperature", "drop"), [(1.0, None), (2.0, 0), (4.0, 1), (0.5, -1)])
def test_rows(classes: int, temperature: float, drop: int | None) -> None:
    drop = classes - 1 if drop == -1 else drop
    student, teacher = draw(0, 9, classes), draw(1, 9, classes).log_softmax(-1)
    sides = temperature, drop
    assert_same(student, lambda x: row_kl(x, teacher, *sides), lambda x: plain(x, teacher, *sides))


@pytest.mark.usefixtures("only")
@pytest.mark.parametrize("chosen", [[0], [1, 4, 5, 11], list(range(12))], ids=["one", "some", "all"])
@pytest.mark.parametrize("time_first", [False, True])
def test_selected_rows(chosen: list[int], time_first: bool) -> None:
    """What is not selected may hold anything, and gets a gradient of 0."""
    student, teacher = draw(0, 3, 4, 20), draw(1, 3, 5, 20).log_softmax(-1)
    rows = torch.tensor(chosen) // 4, torch.tensor(chosen) % 4
    others = torch.ones(3, 4, dtype=torch.bool).index_put(rows, torch.tensor(False))
    student[others] = torch.nan
    if time_first:
        student = student.transpose(0, 1).contiguous().transpose(0, 1)
    assert_same(student, lambda x: selected_kl(x, teacher, rows, 2.0), lambda x: plain(x[rows], teacher[rows], 2.0))


@pytest.mark.usefixtures("only")
def test_interpolated_rows() -> None:
    student, teacher = draw(0, 2, 6, 11), draw(1, 2, 3, 11).log_softmax(-1)
    teacher[1, 1, 4] = -torch.inf
    rows = torch.ones(2, 6, dtype=torch.bool).nonzero(as_tuple=True)
    between = interpolate(teacher, torch.tensor([3, 3]), ratio=2.0, size=6)
    finite = teacher.double().clamp(min=LOG_ZERO).transpose(1, 2)
    expected = F.interpolate(finite, scale_factor=2.0, mode="linear", align_corners=False).transpose(1, 2)[rows]
    assert_same(
        student, lambda x: selected_kl(x, between, rows, 2.0), lambda x: plain(x[rows], expected, 2.0), atol=1e-4
    )


@pytest.mark.parametrize("offset", [400.0, -400.0])
def test_scores_whose_exponentials_leave_float32(offset: float) -> None:
    student, teacher = draw(0, 5, 30), draw(1, 5, 30).log_softmax(-1)
    student[3] += offset
    assert_same(student, lambda x: row_kl(x, teacher), lambda x: plain(x, teacher), atol=1e-4)


def test_a_probability_of_zero() -> None:
    student, teacher = draw(0, 5, 30), draw(1, 5, 30)
    teacher[2, 7:] = -torch.inf
    teacher = teacher.log_softmax(-1)
    assert_same(student, lambda x: row_kl(x, teacher, 2.0), lambda x: plain(x, teacher.clamp(min=-1e9), 2.0))


def test_what_is_not_a_number_stays_so() -> None:
    student, teacher = draw(0, 5, 30), draw(1, 5, 30).log_softmax(-1)
    student[1, 2] = torch.nan
    assert row_kl(student, teacher).isnan().tolist() == [False, True, False, False, False]


@pytest.mark.usefixtures("only")
def test_of_equal_sides_it_is_zero() -> None:
    """Up to the rounding of the difference between logits and log-probabilities, which is 13 here."""
    logits = draw(0, 6, 500)
    assert row_kl(logits, logits.log_softmax(-1), 2.0).abs().max() < 4e-6


@pytest.mark.usefixtures("only")
def test_without_a_gradient_none_is_made() -> None:
    with torch.no_grad():
        values = row_kl(draw(0, 4, 8).requires_grad_(), draw(1, 4, 8).log_softmax(-1))
    assert not values.requires_grad


@pytest.mark.usefixtures("only")
@pytest.mark.parametrize(("offset", "temperature"), [(0.1, 1.5), (-0.7, 2.0)])
def test_many_nearly_equal_scores(offset: float, temperature: float) -> None:
    """Of sums of 32000 numbers that are rounded the same way; a student that has just begun looks like that."""
    teacher = torch.full((2, 32000), offset)
    student = 0.01 * draw(0, 2, 32000)
    leaf, other = student.clone().requires_grad_(), student.double().requires_grad_()
    found, expected = row_kl(leaf, teacher, temperature), plain(other, teacher, temperature)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=4e-6)
    (gradient,), (wanted,) = torch.autograd.grad(found.sum(), leaf), torch.autograd.grad(expected.sum(), other)
    assert (gradient - wanted).norm() < 1e-4 * wanted.norm()


@pytest.mark.parametrize("place", [20, -1])
def test_rows_that_do_not_exist_are_refused_and_not_written(place: int) -> None:
    student, rows = draw(0, 2, 4, 8).requires_grad_(), (torch.tensor([0, 1]), torch.tensor([0, place]))
    teacher = draw(1, 2, 40, 8)
    with pytest.raises((IndexError, RuntimeError)):
        selected_kl(student, teacher, rows if place > 0 else (torch.tensor([0, 0]), rows[1]))


def test_classes_that_do_not_exist() -> None:
    """As torch has it: refused, or counted from the end."""
    student, teacher = draw(0, 4, 8), draw(1, 4, 8)
    with pytest.raises(IndexError):
        row_kl(student, teacher, drop_class=8)
    torch.testing.assert_close(row_kl(student, teacher, drop_class=-1), row_kl(student, teacher, drop_class=7))


@pytest.mark.parametrize("drop", [None, 0, 3, 7])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_rows_that_are_far_from_0_as_a_whole(temperature: float, drop: int | None) -> None:
    student, teacher = (draw(seed, 4, 8) + offset for seed, offset in ((0, -1e4), (1, 1e4)))
    assert_same(
        student, lambda x: row_kl(x, teacher, temperature, drop), lambda x: plain(x, teacher, temperature, drop)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["compiled", "torch"])
def test_totals_whose_ratio_leaves_float32(dtype: torch.dtype) -> None:
    student = (torch.tensor([[0.0, -1.0, 48.0, 47.5]])).to(dtype)
    teacher = torch.tensor([[-43.0, -43.5, -43.25, -44.0]])
    assert_same(
        student,
        lambda x: row_kl(x, teacher),
        lambda x: plain(x, teacher),
        atol=1e-4 if dtype == torch.float32 else 1e-2,
    )
