"""What is written is the network: the same numbers at other lengths and batch sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kd_asr_slr.errors import UserError
from kd_asr_slr.export import formats
from kd_asr_slr.export.formats import CtcNetwork, export, runner_of
from kd_asr_slr.export.leaner import make_leaner
from kd_asr_slr.export.parity import compare
from kd_asr_slr.models.auto import build_model
from kd_asr_slr.models.bilstm.configuration_bilstm import BiLstmConfig
from kd_asr_slr.models.bilstm.modeling_bilstm import BiLstmForCTC

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
NAMES = ("input_features", "attention_mask")
SIZES = ((2, 20), (3, 37), (1, 9))


def bilstm(**options: object) -> CtcNetwork:
    torch.manual_seed(0)
    sizes = {"input_size": 12, "hidden_size": 16, "num_layers": 2, "vocab_size": 9}
    return CtcNetwork(BiLstmForCTC(BiLstmConfig(**{**sizes, **options})).eval())


def batch(count: int, frames: int, width: int = 12) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(count * frames)
    mask = torch.ones(count, frames, dtype=torch.long)
    mask[-1, (2 * frames) // 3 :] = 0
    return {"input_features": torch.randn(count, frames, width, generator=generator), "attention_mask": mask}


def items(width: int = 12) -> list[dict[str, object]]:
    return [
        {**batch(count, frames, width), "ids": [f"{frames}-{row}" for row in range(count)]} for count, frames in SIZES
    ]


def text_of(best: np.ndarray) -> str:
    return " ".join(map(str, best.tolist()))


OPTIONS = {"plain": {}, "stride": {"stride": 4}, "front": {"front": "k5p2k5p2"}, "ahead": {"bidirectional": False}}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_onnx_gives_the_same_numbers_at_other_lengths(options: dict[str, object], tmp_path: Path) -> None:
    network = bilstm(**options)
    written = export(network, batch(2, 24), "onnx", tmp_path / "student")
    same = compare(runner_of(network), written, items(), "input_features", text_of)
    assert same.difference < 1e-5
    assert all(first == second for first, second in same.hypotheses.values())
    assert len(same.hypotheses) == sum(count for count, _ in SIZES)
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


@pytest.mark.parametrize("kind", ["i3d", "mobilenet"])
def test_onnx_of_landmark_networks_gives_the_same_numbers_at_other_lengths(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_layers": 1, "stream_width": 16}
    network = CtcNetwork(build_model(kind, sizes, input_size=12, vocab_size=9, pad_token_id=0).eval())
    written = export(network, batch(2, 24), "onnx", tmp_path / "student")
    same = compare(runner_of(network), written, items(), "input_features", text_of)
    assert same.difference < 1e-5
    assert all(first == second for first, second in same.hypotheses.values())


class Convolution(nn.Module):
    """A network without an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv1d(12, 9, 3, padding=1)

    def forward(self, inputs: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.layer(inputs.transpose(1, 2)).transpose(1, 2), attention_mask.sum(1)


def test_torch_export_gives_the_same_numbers_at_other_lengths(tmp_path: Path) -> None:
    network = Convolution()
    written = export(network, batch(2, 24), "torch_export", tmp_path / "student")
    assert compare(runner_of(network), written, items(), "input_features", text_of).difference < 1e-5


def test_torch_export_says_that_it_unrolls_lstms(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unrolls aten::lstm"):
        export(bilstm(num_layers=1), batch(2, 8), "torch_export", tmp_path / "student")
    assert not list(tmp_path.iterdir())


def test_int8_weights_are_a_quarter_and_nearly_the_same(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    network = bilstm(input_size=64, hidden_size=128)
    whole = export(network, batch(2, 24, 64), "onnx", tmp_path / "whole.onnx")
    small = export(network, batch(2, 24, 64), "int8", tmp_path / "small.onnx")
    share = (tmp_path / "small.onnx").stat().st_size / (tmp_path / "whole.onnx").stat().st_size
    assert 0.2 < share < 0.3
    same = compare(whole, small, items(64), "input_features", text_of)
    assert 0 < same.difference < 0.1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.onnx", "whole.onnx"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["onnx", "int8"])
def test_an_operator_that_onnx_does_not_have_is_named_and_no_graph_printed(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Unusual(nn.Module):
        def forward(self, inputs: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.linalg.eigvals(inputs @ inputs.transpose(1, 2)).real, attention_mask.sum(1)

    with pytest.raises(UserError, match=r"cannot be written as onnx: it has no aten::linalg_eigvals"):
        export(Unusual(), batch(2, 8), kind, tmp_path / "student.onnx")
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_other_lengths_and_other_numbers_are_seen() -> None:
    network = runner_of(bilstm())

    def shifted(inputs: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, lengths = network(inputs, mask)
        return logits + np.eye(9, dtype=np.float32)[0], lengths

    def shorter(inputs: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, lengths = network(inputs, mask)
        return logits, lengths - 1

    assert compare(network, shifted, items(), "input_features", text_of).difference > 0.5
    with pytest.raises(UserError, match="frames"):
        compare(network, shorter, items(), "input_features", text_of)


@pytest.fixture
def plain_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    """int8 as onnxruntime's quantisation leaves it."""
    for name in ("drop_zero_states", "drop_defaults", "group_rows", "pack_lstms", "make_leaner"):
        monkeypatch.setattr(formats, name, lambda model: None)


def test_what_int8_leaves_is_made_small_at_the_same_outputs(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    network, wide = bilstm(hidden_size=96, vocab_size=300), batch(3, 37)
    lean = export(network, batch(2, 24), "int8", tmp_path / "lean")
    request.getfixturevalue("plain_int8")
    plain = export(network, batch(2, 24), "int8", tmp_path / "plain")
    arrays = [value.numpy() for value in wide.values()]
    exact, before, after = (run(*arrays)[0] for run in (runner_of(network), plain, lean))
    lost = np.linalg.norm(before - exact)
    assert 0 < np.linalg.norm(after - exact) < 1.05 * lost
    assert lean(*arrays)[1].tolist() == plain(*arrays)[1].tolist()
    # what is no weight: less than a third of what it was
    weights = sum(value.numel() for value in network.parameters() if value.dim() > 1)
    rest, less = ((tmp_path / name).stat().st_size - weights for name in ("plain", "lean"))
    assert 0 < less < rest / 3


def test_vectors_that_float16_cannot_hold_stay() -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    small = np.full(100, 1e-7, dtype=np.float32)  # has one digit in float16
    values = {"a_scale": small, "b": small, "c": np.full(100, 1e5, np.float32), "d": np.ones(100, np.float32)}
    nodes = [
        helper.make_node("Add", ["x", "a_scale"], ["one"]),
        helper.make_node("Add", ["one", "b"], ["two"]),
        helper.make_node("Add", ["two", "c"], ["three"]),
        helper.make_node("Add", ["three", "d"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [100]) for name in "xy"]
    held = [numpy_helper.from_array(value, name) for name, value in values.items()]
    model = helper.make_model(helper.make_graph(nodes, "sums", [ends[0]], [ends[1]], held))
    make_leaner(model)
    onnx.checker.check_model(model)
    kinds = [item.data_type for item in model.graph.initializer]
    # a_scale and b have equal values and are one, a scale
    assert kinds == [TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.FLOAT16]
    assert [node.op_type for node in model.graph.node] == ["Cast", "Add", "Add", "Add", "Add"]
