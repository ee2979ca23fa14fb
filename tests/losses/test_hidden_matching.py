"""Hidden-state matching: projections, layer maps, distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from loss_scene import BLANK, LAYER_MAP, LENGTHS, build_loss, make_scene
from torch import nn

from kd_asr_slr.errors import UserError
from kd_asr_slr.losses.base import LossContext
from kd_asr_slr.losses.hidden import HiddenStateMatching, build_projections
from kd_asr_slr.losses.row_sources import interpolate
from kd_asr_slr.losses.settings import LossSettings

WIDE = 9


def wide_scene(weight: list[float] | None = None):
    """The usual scene with a teacher of another width."""
    scene = make_scene(dtype=torch.float32, weight=weight)
    generator = torch.Generator().manual_seed(3)
    states = scene.signal.hidden_states
    scene.signal.hidden_states = {layer: torch.randn(3, 8, WIDE, generator=generator) for layer in states}
    return scene


def matching(projections: nn.Module | None, **options: object) -> HiddenStateMatching:
    return HiddenStateMatching(
        LossSettings(layer_map=LAYER_MAP, **options), LossContext(BLANK, projections=projections)
    )


def test_projections_only_where_widths_differ() -> None:
    projections = build_projections([4, 6], [6, 9, 8], {0: 2, 1: 0})
    assert isinstance(projections.layers["0"], nn.Linear)
    assert isinstance(projections.layers["1"], nn.Identity)
    assert projections(torch.zeros(2, 4), 0).shape == (2, 8)
    assert {name for name, _ in projections.named_parameters()} == {"layers.0.weight", "layers.0.bias"}


def test_layers_that_do_not_exist_are_named_all_at_once() -> None:
    with pytest.raises(UserError) as caught:
        build_projections([4, 6], [6, 9, 8], {2: 0, 1: 3})
    assert "layer 2 of the student, which has layers 0 to 1" in str(caught.value)
    assert "layer 3 of the teacher, which has layers 0 to 2" in str(caught.value)


@pytest.mark.parametrize("distance", ["mse", "cosine"])
def test_projected_value_by_hand_and_gradient_of_the_projection(distance: str) -> None:
    scene = wide_scene()
    projections = build_projections([6, 6], [WIDE, WIDE], LAYER_MAP)
    value = matching(projections, hidden_distance=distance)(scene.output, scene.signal, scene.batch)
    for row, length in enumerate(LENGTHS):
        parts = []
        for student, teacher in LAYER_MAP.items():
            linear = projections.layers[str(student)]
            weight, bias = linear.weight.detach().numpy(), linear.bias.detach().numpy()
            for t in range(length):
                a = scene.output.hidden_states[student][row, t].detach().numpy() @ weight.T + bias
                b = scene.signal.hidden_states[teacher][row, t].numpy()
                if distance == "mse":
                    a, b = ((x - x.mean()) / np.sqrt(x.var() + 1e-5) for x in (a, b))
                    parts.append(((a - b) ** 2).mean())
                else:
                    parts.append(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        assert value[row].item() == pytest.approx(np.mean(parts), rel=1e-4)
    value.sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in projections.parameters())


def test_projections_stay_on_the_graph_when_no_teacher_speaks() -> None:
    scene = wide_scene(weight=[0.0, 0.0, 0.0])
    projections = build_projections([6, 6], [WIDE, WIDE], LAYER_MAP)
    matching(projections)(scene.output, scene.signal, scene.batch).sum().backward()
    assert all((parameter.grad == 0).all() for parameter in projections.parameters())


def test_training_the_projection_lowers_the_loss() -> None:
    scene = wide_scene()
    torch.manual_seed(0)
    projections = build_projections([6, 6], [WIDE, WIDE], LAYER_MAP)
    loss, optimizer = matching(projections), torch.optim.Adam(projections.parameters(), lr=0.05)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(scene.output, scene.signal, scene.batch).mean()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.6 * values[0]


def test_cosine_is_zero_when_student_equals_teacher() -> None:
    scene = make_scene(same=True)
    value = build_loss("hidden", hidden_distance="cosine")(scene.output, scene.signal, scene.batch)
    assert value.abs().max() < 1e-12


def test_student_in_bfloat16_with_projections_in_float32() -> None:
    scene = make_scene(dtype=torch.bfloat16)
    scene.signal.hidden_states = wide_scene().signal.hidden_states
    value = matching(build_projections([6, 6], [WIDE, WIDE], LAYER_MAP))(scene.output, scene.signal, scene.batch)
    assert value.dtype == torch.float32
    assert value.isfinite().all()


def test_resampled_states() -> None:
    scene = make_scene(same=True)
    old = scene.signal.hidden_states
    doubled = [2 * length for length in LENGTHS]
    scene.output.logits = torch.zeros(3, max(doubled), 5)
    scene.output.logit_lengths = torch.tensor(doubled)
    scene.output.hidden_states = tuple(
        interpolate(old[LAYER_MAP[layer]], scene.signal.lengths, 2.0, max(doubled)).dense() for layer in (0, 1)
    )
    settings = LossSettings(layer_map=LAYER_MAP, rate_matching="resample")
    loss = HiddenStateMatching(settings, LossContext(BLANK, frame_seconds=0.02))
    assert loss(scene.output, scene.signal, scene.batch).abs().max() < 1e-12


def test_widths_without_projections_and_missing_layers_are_refused() -> None:
    scene = wide_scene()
    with pytest.raises(ValueError, match="width 6, teacher layer 1 9.*build_projections"):
        matching(None)(scene.output, scene.signal, scene.batch)
    del scene.signal.hidden_states[1]
    with pytest.raises(ValueError, match=r"teacher gives hidden states \[0\], layer_map names 1"):
        matching(None)(scene.output, scene.signal, scene.batch)


def test_teacher_layers() -> None:
    settings = LossSettings(layer_map={0: 4, 1: 2, 2: 4})
    assert HiddenStateMatching(settings, LossContext(BLANK)).teacher_layers == (2, 4)
