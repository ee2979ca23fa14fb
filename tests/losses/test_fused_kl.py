"""The fused divergence against the plain formula: value, gradient, selection, blocks, types and memory layout."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kd_asr_slr.blocks import BLOCK_SIZE
from kd_asr_slr.losses.kl import row_kl, selected_kl


def draw(seed: int, *size: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return (3 * torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).to(dtype)


def plain(student: torch.Tensor, teacher: torch.Tensor, temperature: float, drop: int | None = None) -> torch.Tensor:
    """log-softmax, softmax, kl_div: nothing of the package."""
    keep = [index for index in range(student.shape[-1]) if index != drop]
    log_student = F.log_softmax(student[:, keep] / temperature, dim=-1)
    soft_targets = F.softmax(teacher[:, keep] / temperature, dim=-1)
    return F.kl_div(log_student, soft_targets, reduction="none").sum(-1) * temperature**2


@pytest.fixture(params=[1, 60, 10**6], ids=["row-by-row", "two-rows", "at-once"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BLOCK_SIZE, "cpu", request.param)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("drop", [None, 0, 3])
def test_gradient_by_finite_differences(temperature: float, drop: int | None) -> None:
    teacher = draw(1, 5, 7).log_softmax(-1)
    assert torch.autograd.gradcheck(lambda x: row_kl(x, teacher, temperature, drop), draw(0, 5, 7).requires_grad_())


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("count", [1, 4, 9, 12])
def test_selected_rows_by_finite_differences(count: int) -> None:
    """Few, most and all rows of [B, T]; the gradient of the others is 0."""
    teacher = draw(1, 3, 5, 7).log_softmax(-1)
    chosen = torch.randperm(12, generator=torch.Generator().manual_seed(2))[:count].sort().values
    rows = chosen // 4, chosen % 4
    assert torch.autograd.gradcheck(lambda x: selected_kl(x, teacher, rows, 2.0), draw(0, 3, 4, 7).requires_grad_())


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_value_and_gradient_in_float32(temperature: float) -> None:
    student, teacher = draw(0, 40, 300, dtype=torch.float32), draw(1, 40, 300, dtype=torch.float32).log_softmax(-1)
    results = []
    for function in (row_kl, plain):
        leaf = student.clone().requires_grad_()
        value = function(leaf, teacher, temperature)
        (value * torch.linspace(0.5, 2, 40)).sum().backward()
        results.append((value.detach(), leaf.grad))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-5, atol=0)
    assert (results[0][1] - results[1][1]).norm() <= 1e-5 * results[1][1].norm()


def test_a_divergence_near_zero_is_not_lost_in_rounding() -> None:
    """Logits and log-probabilities that say nearly the same at other levels: in the sum, terms of 30 cancel."""
    student = 20 + draw(0, 20, 1000, dtype=torch.float32)
    teacher = (student + 0.01 * draw(1, 20, 1000, dtype=torch.float32)).log_softmax(-1)
    exact = plain(student.double(), teacher.double(), 1.0)
    assert 0 < exact.max() < 2e-3
    assert (row_kl(student, teacher).double() - exact).abs().max() < 5e-6


def test_improbable_first_class() -> None:
    """The log-normaliser is not read off a class whose probability has underflowed."""
    student, teacher = draw(0, 4, 6, dtype=torch.float32), draw(1, 4, 6, dtype=torch.float32)
    student[:2, 0], teacher[1:3, 0] = -500.0, -float("inf")
    keep = torch.tensor([0, 2, 3])  # in row 1 both sides give it nothing, in row 0 the teacher gives it what costs 500
    exact = plain(student.double(), teacher.double().clamp(min=-1e4), 1.0)
    torch.testing.assert_close(row_kl(student, teacher).double()[keep], exact[keep], rtol=1e-5, atol=1e-6)
    assert row_kl(student, teacher).isfinite().all()


@pytest.mark.parametrize("level", [-200.0, -60.0, 0.0, 60.0, 200.0])
def test_scores_at_any_level(level: float) -> None:
    """Beyond what float32 can take the exponential of, on either side, in some rows or in all."""
    student, teacher = draw(0, 6, 300, dtype=torch.float32), draw(1, 6, 300, dtype=torch.float32)
    for moved in (student, teacher, student[:2], teacher[3:]):
        moved += level
        exact = plain(student.double(), teacher.double(), 1.0)
        leaf = student.clone().requires_grad_()
        value = row_kl(leaf, teacher)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        torch.testing.assert_close(value.double(), exact, rtol=3e-5, atol=1e-6)
        expected = student.double().softmax(-1) - teacher.double().softmax(-1)
        torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-7)
        moved -= level


@pytest.mark.parametrize("blocked", [1, 10**6])
@pytest.mark.parametrize("count", [3, 9, 12])
def test_a_probability_of_zero_in_one_row_only(count: int, blocked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows before it are worked on again: nothing counts twice."""
    monkeypatch.setitem(BLOCK_SIZE, "cpu", blocked)
    student, teacher = draw(0, 3, 4, 7).requires_grad_(), draw(1, 3, 4, 7).log_softmax(-1)
    teacher[0, 2, 3] = -float("inf")
    rows = torch.arange(count) // 4, torch.arange(count) % 4
    value = selected_kl(student, teacher, rows, 2.0)
    torch.testing.assert_close(value, plain(student[rows], teacher[rows], 2.0))
    (gradient,) = torch.autograd.grad(value.sum(), student, retain_graph=True)
    (expected,) = torch.autograd.grad(plain(student[rows], teacher[rows], 2.0).sum(), student)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_the_gradient(dtype: torch.dtype) -> None:
    """Logits of 40, whose exponential a float16 cannot hold."""
    student = (draw(0, 5, 50) + 40).to(dtype)
    teacher, leaf = draw(1, 5, 50).log_softmax(-1), student.clone().requires_grad_()
    row_kl(leaf, teacher, 2.0).sum().backward()
    expected = 2 * ((student.double() / 2).softmax(-1) - (teacher / 2).softmax(-1))
    assert leaf.grad.dtype == dtype
    assert (leaf.grad.double() - expected).norm() < 0.02 * expected.norm()


def test_a_second_backward_gives_the_same() -> None:
    student, teacher = draw(0, 5, 7).requires_grad_(), draw(1, 5, 7).log_softmax(-1)
    value = row_kl(student, teacher, 2.0).sum()
    (first,) = torch.autograd.grad(value, student, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(3 * value, student)
    assert torch.equal(first, kept)
    torch.testing.assert_close(second, 3 * kept)


@pytest.mark.parametrize("chosen", [0, 1, 2, 3])
@pytest.mark.parametrize("padding", [0, 2])
def test_time_first_in_memory_and_other_padding(chosen: int, padding: int) -> None:
    """[B, T, V] as a view of [T, B, V], as recurrent networks give it, and a teacher padded further."""
    student, teacher = draw(0, 3, 2, 7), draw(1, 2, 3 + padding, 7).log_softmax(-1)
    rows = torch.ones(2, 3).triu(2 - chosen).nonzero(as_tuple=True)
    assert len(rows[0]) == {0: 1, 1: 3, 2: 5, 3: 6}[chosen]
    leaf = student.requires_grad_()
    value = selected_kl(leaf.transpose(0, 1), teacher, rows, 2.0)
    torch.testing.assert_close(value, plain(student.transpose(0, 1)[rows], teacher[rows], 2.0))
    shares = torch.arange(1.0, len(value) + 1)
    (gradient,) = torch.autograd.grad((value * shares).sum(), leaf)
    plainly = plain(leaf.transpose(0, 1)[rows], teacher[rows], 2.0)
    (expected,) = torch.autograd.grad((plainly * shares).sum(), leaf)
    torch.testing.assert_close(gradient, expected)


def test_no_row_selected() -> None:
    student, none = draw(0, 2, 4, 7).requires_grad_(), torch.empty(0, dtype=torch.long)
    value = selected_kl(student, draw(1, 2, 4, 7), (none, none))
    value.sum().backward()
    assert value.shape == (0,) and (student.grad == 0).all()


def test_under_autocast_in_bfloat16() -> None:
    """A bfloat16 layer under autocast: a float32 loss, and a gradient of its weight near that of float32 throughout."""
    frames, teacher = draw(0, 60, 32, dtype=torch.float32), draw(1, 60, 200, dtype=torch.float32).log_softmax(-1)
    gradients = []
    for enabled in (True, False):
        torch.manual_seed(0)
        layer = torch.nn.Linear(32, 200)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            logits = layer(frames)
            value = row_kl(logits, teacher, 2.0)
        assert logits.dtype == (torch.bfloat16 if enabled else torch.float32) and value.dtype == torch.float32
        value.mean().backward()
        gradients.append(layer.weight.grad)
    assert gradients[0].isfinite().all()
    assert (gradients[0] - gradients[1]).norm() < 0.02 * gradients[1].norm()


def test_other_batch_or_vocabulary_is_refused() -> None:
    rows = torch.tensor([0]), torch.tensor([0])
    with pytest.raises(ValueError, match="B and V must agree"):
        selected_kl(draw(0, 2, 4, 7), draw(1, 2, 4, 6), rows)


def test_a_teacher_that_says_nothing_but_the_dropped_class_is_no_target() -> None:
    teacher = torch.tensor([[0.0, -torch.inf, -torch.inf], [-1.0, -1.0, -2.0]])
    leaf = draw(0, 2, 3).requires_grad_()
    values = row_kl(leaf, teacher, temperature=2.0, drop_class=0)
    values.sum().backward()
    assert values[0] == 0 and leaf.grad[0].eq(0).all()
    torch.testing.assert_close(values[1], plain(leaf.detach(), teacher.double(), 2.0, drop=0)[1])
