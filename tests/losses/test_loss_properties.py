"""What must hold for every registered loss; a new one is covered by being in the table."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from loss_scene import MATCHED, REFERENCES, Scene, build_loss, make_scene, registered

from kd_asr_slr.losses.base import Loss
from kd_asr_slr.losses.ctc_target import FrameDistillation
from kd_asr_slr.losses.settings import RATE_MATCHINGS, LossSettings
from kd_asr_slr.losses.table import LOSSES

EVERY = [*sorted(LOSSES), *MATCHED]  # the table, and what compares frames by every way to match them
FROM_TEACHERS = [name for name in EVERY if registered(name).kind in ("soft", "feature")]
SOFT = [name for name in EVERY if registered(name).kind == "soft"]
# Their least value is where the student is sure of what the teachers say best, not where it says the same.
HARD_TARGETS = {"pseudo_labels", "sequence_kd"}
SIGNAL_NEEDS = {"log_probs", "decoder_log_probs", "hidden_states"}


def value_of(loss: Loss, scene: Scene, temperature: float = 2.0) -> torch.Tensor:
    return loss(scene.output, scene.signal, scene.batch, temperature)


def gradients(loss: Loss, scene: Scene, temperature: float = 2.0) -> dict[str, torch.Tensor]:
    """Gradient of the batch's sum with respect to each student tensor that the loss reads."""
    leaves = scene.student_leaves()
    total = value_of(loss, scene, temperature).sum()
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return {name: gradient for name, gradient in zip(leaves, found, strict=True) if gradient is not None}


def valid_positions(scene: Scene, leaf: str) -> torch.Tensor:
    lengths = scene.output.decoder_lengths if leaf == "decoder_logits" else scene.output.logit_lengths
    size = scene.student_leaves()[leaf].shape[1]
    return torch.arange(size) < lengths.unsqueeze(1)


def test_every_loss_has_a_reference() -> None:
    assert set(REFERENCES) == set(LOSSES)


def test_every_loss_on_frames_is_matched_in_every_way() -> None:
    frames = [name for name, loss in LOSSES.items() if issubclass(loss, FrameDistillation)]
    assert set(MATCHED) == {f"{name}:{way}" for name in frames for way in RATE_MATCHINGS if way != "equal"}


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_declarations(name: str) -> None:
    loss = LOSSES[name]
    assert loss.name == name
    assert loss.kind in ("soft", "hard", "feature", "self")
    assert loss.needs <= SIGNAL_NEEDS | {"decoder_logits", "auxiliary_logits", "other_view_logits"}
    assert bool(loss.needs & SIGNAL_NEEDS) == (name in FROM_TEACHERS)
    assert loss.weight_option is None or getattr(LossSettings(), loss.weight_option) == 0
    assert (loss.kind == "self") <= (loss.weight_option is not None)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("name", EVERY)
def test_value_by_brute_force(name: str, temperature: float) -> None:
    scene = make_scene()
    value = value_of(build_loss(name), scene, temperature)
    assert value.shape == (3,)
    np.testing.assert_allclose(value.detach().numpy(), (REFERENCES | MATCHED)[name](scene, temperature), rtol=1e-10)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("name", [name for name in FROM_TEACHERS if name.partition(":")[0] not in HARD_TARGETS])
def test_zero_with_zero_gradient_when_student_equals_teacher(name: str, temperature: float) -> None:
    loss, scene = build_loss(name), make_scene(same=True)
    assert value_of(loss, scene, temperature).abs().max() < 1e-12
    assert all(gradient.abs().max() < 1e-12 for gradient in gradients(loss, scene, temperature).values())
    assert value_of(loss, make_scene(), temperature).min() > 1e-3


@pytest.mark.parametrize("name", EVERY)
def test_gradient_in_valid_positions_and_none_in_padding(name: str) -> None:
    scene = make_scene()
    found = gradients(build_loss(name), scene)
    assert found
    for leaf, gradient in found.items():
        valid = valid_positions(scene, leaf)
        assert gradient[~valid].abs().max() == 0
        every = "shift" not in name and "tokens" not in name  # those leave frames out
        moved = gradient[valid].abs().sum(-1) > 0
        assert moved.all() if every else moved.any()


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("name", EVERY)
def test_garbage_in_padding_changes_nothing(name: str, garbage: float) -> None:
    loss, clean, dirty = build_loss(name), make_scene(), make_scene(garbage=garbage)
    assert torch.equal(value_of(loss, clean), value_of(loss, dirty))
    expected, found = gradients(loss, clean), gradients(loss, dirty)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[leaf], found[leaf]) for leaf in expected)


@pytest.mark.parametrize("name", EVERY)
def test_amount_of_padding_changes_nothing(name: str) -> None:
    loss = build_loss(name)
    tight, wide = make_scene(padding=0), make_scene(padding=7)
    torch.testing.assert_close(value_of(loss, tight), value_of(loss, wide), rtol=1e-12, atol=0)
    wide_gradients = gradients(loss, wide)
    for leaf, gradient in gradients(loss, tight).items():
        torch.testing.assert_close(gradient, wide_gradients[leaf][:, : gradient.shape[1]], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", EVERY)
def test_an_utterance_does_not_depend_on_its_batch(name: str) -> None:
    loss, scene = build_loss(name), make_scene()
    together = value_of(loss, scene)
    order = torch.tensor([2, 0, 1])
    mixed = make_scene()
    for side in (mixed.output, mixed.signal):
        for field, content in vars(side).items():
            if isinstance(content, torch.Tensor):
                setattr(side, field, content[order])
    mixed.output.hidden_states = tuple(state[order] for state in mixed.output.hidden_states)
    mixed.signal.hidden_states = {layer: state[order] for layer, state in mixed.signal.hidden_states.items()}
    mixed.batch["labels"] = mixed.batch["labels"][order]
    torch.testing.assert_close(value_of(loss, mixed), together[order], rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", EVERY)
def test_float32_against_float64(name: str) -> None:
    loss = build_loss(name)
    single, double = make_scene(dtype=torch.float32), make_scene(dtype=torch.float64)
    value = value_of(loss, single)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), value_of(loss, double), rtol=2e-6, atol=1e-6)
    exact = gradients(loss, double)
    for leaf, gradient in gradients(loss, single).items():
        torch.testing.assert_close(gradient.double(), exact[leaf], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_bfloat16_is_computed_in_float32(name: str) -> None:
    loss, half = build_loss(name), make_scene(dtype=torch.bfloat16)
    value = value_of(loss, half)
    assert value.dtype == torch.float32
    exact = make_scene(dtype=torch.float64)
    for student, rounded in zip(exact.student_leaves().values(), half.student_leaves().values(), strict=True):
        student.data.copy_(rounded.data)
    exact.signal = half.signal
    torch.testing.assert_close(value.double(), value_of(loss, exact).double(), rtol=1e-5, atol=1e-6)
    for leaf, gradient in gradients(loss, half).items():
        assert gradient.dtype == torch.bfloat16
        difference = gradient.double() - gradients(loss, exact)[leaf].double()
        assert difference.norm() < 0.02 * gradients(loss, exact)[leaf].norm()


@pytest.mark.parametrize("name", EVERY)
def test_finite_under_bfloat16_autocast(name: str) -> None:
    loss, scene = build_loss(name), make_scene(dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = value_of(loss, scene)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, value_of(loss, scene))


@pytest.mark.parametrize("name", EVERY)
def test_weight_zero_silences_the_teachers_only(name: str) -> None:
    loss, scene = build_loss(name), make_scene(weight=[1.0, 0.0, 1.0])
    everyone = value_of(loss, make_scene())
    value = value_of(loss, scene)
    assert torch.equal(value[[0, 2]], everyone[[0, 2]])
    from_teachers = name in FROM_TEACHERS
    assert (value[1] == 0) == from_teachers
    assert all((gradient[1].abs().max() == 0) == from_teachers for gradient in gradients(loss, scene).values())


@pytest.mark.parametrize("name", FROM_TEACHERS)
def test_weight_scales_the_utterance(name: str) -> None:
    loss = build_loss(name)
    half = value_of(loss, make_scene(weight=[0.5, 1.0, 0.25]))
    torch.testing.assert_close(half, value_of(loss, make_scene()) * torch.tensor([0.5, 1.0, 0.25]))


@pytest.mark.parametrize("name", FROM_TEACHERS)
def test_what_a_silent_teacher_says_is_never_read(name: str) -> None:
    loss, scene = build_loss(name), make_scene(weight=[1.0, 0.0, 1.0])
    expected = value_of(loss, scene)
    for field in ("log_probs", "decoder_log_probs"):
        getattr(scene.signal, field)[1] = math.nan
    for state in scene.signal.hidden_states.values():
        state[1] = math.nan
    scene.signal.lengths[1] = 1
    scene.signal.decoder_lengths[1] = 0
    assert torch.equal(value_of(loss, scene), expected)
    assert all(gradient.isfinite().all() for gradient in gradients(loss, scene).values())


@pytest.mark.parametrize("garbage", [0.0, math.nan])
@pytest.mark.parametrize("name", EVERY)
def test_nothing_to_score_gives_zero_on_the_graph(name: str, garbage: float) -> None:
    loss = build_loss(name)
    scene = make_scene(lengths=[0, 0, 0], labels=[[], [], []], garbage=garbage, weight=[1.0, 1.0, 1.0])
    value = value_of(loss, scene)
    assert value.requires_grad
    assert torch.equal(value, torch.zeros_like(value))
    found = gradients(loss, scene)
    assert found
    assert all(gradient.abs().max() == 0 for gradient in found.values())


@pytest.mark.parametrize("name", EVERY)
def test_one_empty_utterance_beside_others(name: str) -> None:
    loss = build_loss(name)
    scene = make_scene(lengths=[5, 0, 4], labels=[[3, 3], [], [3, 4, 1]], garbage=math.nan)
    value = value_of(loss, scene)
    assert value[1] == 0
    assert value[0] > 0 and value[2] > 0
    assert all(gradient.isfinite().all() for gradient in gradients(loss, scene).values())


@pytest.mark.parametrize("name", EVERY)
def test_gradient_by_finite_differences(name: str) -> None:
    loss, scene = build_loss(name), make_scene(padding=0)
    step = 1e-6
    for leaf, gradient in gradients(loss, scene).items():
        values = scene.student_leaves()[leaf].data
        for place in [(0, 0, 1), (2, 1, 3)]:
            before = values[place].item()
            values[place] = before + step
            above = value_of(loss, scene).sum().item()
            values[place] = before - step
            below = value_of(loss, scene).sum().item()
            values[place] = before
            assert gradient[place].item() == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", EVERY)
def test_scale_of_the_gradient_hardly_depends_on_the_temperature(name: str) -> None:
    loss, scene = build_loss(name), make_scene()
    sizes = [
        math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients(loss, scene, temperature).values()))
        for temperature in (32.0, 64.0, 128.0)
    ]
    assert sizes[0] > 0
    assert max(sizes) / min(sizes) < 1.1


@pytest.mark.parametrize("name", [name for name in EVERY if name not in SOFT])
def test_temperature_is_for_soft_losses_only(name: str) -> None:
    loss, scene = build_loss(name), make_scene()
    assert torch.equal(value_of(loss, scene, 1.0), value_of(loss, scene, 5.0))


@pytest.mark.parametrize("name", [name for name in EVERY if name not in FROM_TEACHERS])
def test_other_losses_need_no_teacher(name: str) -> None:
    loss, scene = build_loss(name), make_scene()
    assert torch.equal(loss(scene.output, None, scene.batch), value_of(loss, scene))
    assert loss.diagnostics(scene.output, None, scene.batch) == {}
