"""LSTMs with int8 weights: a quarter of the bytes, one scale for eight rows, one bias for two, the same outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kd_asr_slr.export.formats import CtcNetwork, export, runner_of
from kd_asr_slr.models.auto import build_model

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


class Recurrent(nn.Module):
    """A bare LSTM as a network; `states` are those it begins with."""

    def __init__(self, states: float | None = None, **options: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.LSTM(**{"input_size": 32, "hidden_size": 32, "batch_first": True, **options})
        self.states = states
        self.eval()

    def forward(self, inputs: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.layer(inputs, self.begin(inputs))[0], attention_mask.sum(1)

    def begin(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        if self.states is None:
            return None
        layer = self.layer
        directions = 1 + layer.bidirectional
        states = torch.full((directions * layer.num_layers, inputs.shape[0], layer.hidden_size), self.states)
        return states, states


def batch(count: int, frames: int, width: int = 32) -> dict[str, torch.Tensor]:
    features = torch.randn(count, frames, width, generator=torch.Generator().manual_seed(frames))
    return {"input_features": features, "attention_mask": torch.ones(count, frames, dtype=torch.long)}


def error(network: nn.Module, path: Path, width: int = 32) -> float:
    """Of the logits of a network with int8 weights, relative to the spread of those with float32."""
    written = export(network, batch(2, 20, width), "int8", path, threads=1)
    arrays = [value.numpy() for value in batch(3, 31, width).values()]
    exact, found = runner_of(network)(*arrays)[0], written(*arrays)[0]
    assert exact.std() > 0.05
    return float(np.sqrt(np.mean((found - exact) ** 2)) / exact.std())


def test_int8_of_a_student_is_a_quarter_of_its_float32_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "num_layers": 4}
    network = CtcNetwork(build_model("bilstm", sizes, input_size=512, vocab_size=1_229, pad_token_id=0).eval())
    with torch.no_grad():  # as after training: no two vectors alike
        for value in network.parameters():
            if value.dim() == 1:
                value.add_(0.3 * torch.randn(value.shape))
    assert error(network, tmp_path / "int8", 512) < 0.03
    export(network, batch(2, 20, 512), "onnx", tmp_path / "onnx")
    assert 4 * (tmp_path / "int8").stat().st_size < (tmp_path / "onnx").stat().st_size


LAYERS = {
    "one": {},
    "both ways": {"bidirectional": True},
    "two layers": {"bidirectional": True, "num_layers": 2},
    "no eight rows": {"hidden_size": 36},
    "no two rows": {"hidden_size": 33},
    "no biases": {"bias": False},
    "states": {"states": 0.5},
}


@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)
def test_lstms_of_all_shapes_give_the_same_outputs(options: dict[str, object], tmp_path: Path) -> None:
    assert 0 < error(Recurrent(**options), tmp_path / "int8") < 0.02


def test_both_biases_count(tmp_path: Path) -> None:
    network = Recurrent()
    with torch.no_grad():  # sums within 1.5, of numbers up to 9
        network.layer.bias_ih_l0.copy_(torch.linspace(-9, 8, 128))
        network.layer.bias_hh_l0.copy_(torch.linspace(8, -9, 128) + torch.linspace(2, -0.5, 128))
    assert error(network, tmp_path / "int8") < 0.02


def test_eight_rows_have_the_scale_of_their_largest_weight(tmp_path: Path) -> None:
    network = Recurrent()
    with torch.no_grad():
        network.layer.weight_ih_l0[8:16] *= 20  # which the rows around them do not notice
    export(network, batch(2, 20), "int8", tmp_path / "int8")
    held = {item.name: onnx.numpy_helper.to_array(item) for item in onnx.load(tmp_path / "int8").graph.initializer}
    (scales,) = (value for value in held.values() if value.shape == (32, 1))
    weights = [value for value in held.values() if value.shape == (1, 32, 128)]
    assert len(weights) == 2
    rows = network.layer.weight_ih_l0.detach().numpy()
    order = np.concatenate([rows[:32], rows[96:], rows[32:64], rows[64:96]])  # i, f, g, o of torch; i, o, f, c of ONNX
    expected = np.abs(order).reshape(16, -1).max(1) / 127
    found = scales.ravel()[:16]
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert found[1] > 15 * found[[0, 2]].max()
    near = [np.abs(value[0].T * found.repeat(8)[:, None] - order) / found.repeat(8)[:, None] for value in weights]
    assert min(value.max() for value in near) < 0.6


def test_states_of_zeros_are_left_out_with_all_they_were_made_of_and_others_are_not(tmp_path: Path) -> None:
    for states, kept in ((None, False), (0.0, False), (0.5, True)):
        export(Recurrent(states=states), batch(2, 20), "int8", tmp_path / "int8")
        graph = onnx.load(tmp_path / "int8").graph
        (lstm,) = (node for node in graph.node if node.op_type == "DynamicQuantizeLSTM")
        assert all(bool(name) is kept for name in lstm.input[5:7])
        used = {item.name for item in graph.output} | {name for node in graph.node for name in node.input}
        assert all(used & set(node.output) for node in graph.node)
        assert all(item.name in used for item in graph.initializer)
