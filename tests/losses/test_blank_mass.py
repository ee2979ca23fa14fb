"""Matching of the blank mass: the chain rule of the divergence, its gradient by hand, and what it does not look at."""

from __future__ import annotations

import math

import pytest
import torch
from loss_scene import BLANK, build_loss, make_scene

from kd_asr_slr.losses.base import LossContext
from kd_asr_slr.losses.blank_mass import BlankMass
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.outputs import CTCOutput, TeacherSignal

ONE_FRAME = {"lengths": [1, 1, 1], "labels": [[3], [4], [1]]}


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_chain_rule_of_the_divergence(temperature: float) -> None:
    """KL(frame) = KL(blank or label) + (1 - p(blank)) * KL(which label), at any temperature."""
    scene = make_scene(**ONE_FRAME)
    parts = {
        name: build_loss(loss, drop_blank_class=name == "labels")(scene.output, scene.signal, scene.batch, temperature)
        for name, loss in {"whole": "ctc_kd", "labels": "ctc_kd", "blank": "blank_mass"}.items()
    }
    blank = (scene.signal.log_probs[:, 0] / temperature).softmax(-1)[:, BLANK]
    torch.testing.assert_close(parts["whole"], parts["blank"] + (1 - blank) * parts["labels"], rtol=1e-12, atol=0)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 50.0])
def test_gradient_by_hand(temperature: float) -> None:
    """With q and p the blank probabilities: T * (q - p) at the blank, shared out with the other sign at the labels."""
    scene = make_scene(**ONE_FRAME)
    build_loss("blank_mass")(scene.output, scene.signal, scene.batch, temperature).sum().backward()
    student = (scene.output.logits[:, 0].detach() / temperature).softmax(-1)
    teacher = (scene.signal.log_probs[:, 0] / temperature).softmax(-1)
    difference = temperature * (student[:, BLANK] - teacher[:, BLANK])
    expected = -difference[:, None] * student / (1 - student[:, BLANK, None])
    expected[:, BLANK] = difference
    torch.testing.assert_close(scene.output.logits.grad[:, 0], expected)


def test_gradcheck() -> None:
    scene = make_scene(padding=0, weight=[1.0, 0.0, 0.5])

    def loss(logits: torch.Tensor) -> torch.Tensor:
        scene.output.logits = logits
        return build_loss("blank_mass")(scene.output, scene.signal, scene.batch, 2.0)

    assert torch.autograd.gradcheck(loss, (scene.output.logits.detach().requires_grad_(),))


@pytest.mark.parametrize(
    "options", [{"frame_selection": "threshold", "blank_threshold": 0.01}, {"drop_blank_class": True}], ids=str
)
def test_the_choice_of_frames_and_classes_is_for_ctc_kd(options: dict[str, object]) -> None:
    scene = make_scene()
    plain, chosen = (
        build_loss("blank_mass", **extra)(scene.output, scene.signal, scene.batch) for extra in ({}, options)
    )
    assert torch.equal(plain, chosen)


def test_which_label_makes_no_difference() -> None:
    scene = make_scene()
    loss = build_loss("blank_mass")
    expected = loss(scene.output, scene.signal, scene.batch, 2.0)
    labels = [symbol for symbol in range(5) if symbol != BLANK]
    scene.signal.log_probs[..., labels] = scene.signal.log_probs[..., labels].roll(1, -1)
    torch.testing.assert_close(loss(scene.output, scene.signal, scene.batch, 2.0), expected, rtol=1e-12, atol=0)


def test_a_teacher_that_is_certain() -> None:
    """-log of the student's own blank or label mass, where the teachers give probability 0 to the other."""
    teacher = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]]).log()
    student = torch.tensor([[[0.7, 0.2, 0.1], [0.4, 0.35, 0.25]]]).double().log().requires_grad_()
    signal = TeacherSignal(teacher, torch.tensor([2]), "v", 0.04, torch.ones(1))
    loss = BlankMass(LossSettings(), LossContext(blank_id=BLANK))
    value = loss(CTCOutput(logits=student, logit_lengths=torch.tensor([2])), signal, {"ids": ["a"]})
    assert value.item() == pytest.approx(-(math.log(0.7) + math.log(0.6)) / 2)
    value.sum().backward()
    assert student.grad.isfinite().all()
