"""The shared divergence against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from kd_asr_slr.losses.kl import row_kl


def rows(seed: int, count: int = 4, size: int = 7) -> torch.Tensor:
    return 3 * torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_two_classes_by_hand() -> None:
    teacher = torch.tensor([[0.75, 0.25]]).double().log()
    student = torch.tensor([[0.5, 0.5]]).double().log()
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert row_kl(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    # At T = 2 the teacher's odds 3 become sqrt(3); the student stays even.
    p = math.sqrt(3) / (1 + math.sqrt(3))
    expected = 4 * (p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)))
    assert row_kl(student, teacher, temperature=2.0).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
def test_gradient_in_closed_form(temperature: float) -> None:
    student, teacher = rows(0).requires_grad_(), rows(1)
    row_kl(student, teacher.log_softmax(-1), temperature).sum().backward()
    expected = temperature * ((student / temperature).softmax(-1) - (teacher / temperature).softmax(-1))
    torch.testing.assert_close(student.grad, expected, rtol=1e-10, atol=1e-12)


def test_at_high_temperature_the_gradient_is_the_difference_of_logits_over_v() -> None:
    """Hinton et al. 2015, equation 4, with logits of zero mean, times T^2."""
    student, teacher = rows(0), rows(1)
    student, teacher = student - student.mean(-1, keepdim=True), teacher - teacher.mean(-1, keepdim=True)
    student.requires_grad_()
    row_kl(student, teacher.log_softmax(-1), temperature=1e4).sum().backward()
    torch.testing.assert_close(student.grad, (student - teacher).detach() / 7, rtol=1e-2, atol=1e-3)


def test_log_probs_and_logits_of_a_teacher_are_the_same_target() -> None:
    student, teacher = rows(0), rows(1)
    torch.testing.assert_close(row_kl(student, teacher, 3.0), row_kl(student, teacher.log_softmax(-1), 3.0))


def test_probability_zero_in_the_teacher_is_finite() -> None:
    teacher = torch.tensor([[0.5, 0.5, 0.0]]).double().log()
    student = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    value = row_kl(student, teacher, temperature=2.0)
    value.sum().backward()
    assert value.item() == pytest.approx(4 * math.log(1.5), rel=1e-12)
    torch.testing.assert_close(student.grad, 2 * torch.tensor([[-1 / 6, -1 / 6, 1 / 3]]).double())


def test_dropped_class_is_renormalised_away() -> None:
    student, teacher = rows(0).requires_grad_(), rows(1).log_softmax(-1)
    value = row_kl(student, teacher, 2.0, drop_class=3)
    keep = [0, 1, 2, 4, 5, 6]
    torch.testing.assert_close(value, row_kl(student[:, keep], teacher[:, keep].log_softmax(-1), 2.0))
    value.sum().backward()
    assert (student.grad[:, 3] == 0).all()
    assert (student.grad[:, keep] != 0).all()


def test_the_teacher_gets_no_gradient() -> None:
    teacher = rows(1).requires_grad_()
    row_kl(rows(0).requires_grad_(), teacher).sum().backward()
    assert teacher.grad is None


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        row_kl(rows(0), rows(1), temperature)


def test_other_vocabulary_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 7\).*\(4, 1\)"):
        row_kl(rows(0), rows(1)[:, :1])
