"""The CTC classifier within the encoder: what it reads, what it costs, what it leaves alone, and whom it teaches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kd_asr_slr.errors import UserError
from kd_asr_slr.losses.base import Loss, LossContext
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.losses.table import LOSSES
from kd_asr_slr.models.auto import build_model, load_model
from kd_asr_slr.outputs import CTCOutput

LABELS = torch.tensor([[3, 4, 4], [5, -100, -100]])
CLASSES = 7
OPTIONS: dict[str, dict[str, object]] = {
    "bilstm": {"input_size": 6, "hidden_size": 8, "num_layers": 3, "vocab_size": CLASSES, "dropout": 0.0},
    "nemo_hybrid": {
        "num_mel_bins": 16, "encoder_layers": 3, "d_model": 16, "encoder_heads": 2, "conv_kernel_size": 7,
        "decoder_layers": 1, "decoder_heads": 2, "decoder_ffn_dim": 16, "max_source_positions": 200,
        "max_target_positions": 16, "vocab_size": CLASSES, "dropout": 0.0, "attention_dropout": 0.0,
    },
}  # fmt: skip
HEADS = {"bilstm": "auxiliary_head", "nemo_hybrid": "intermediate_head"}
LAYERS = {"bilstm": "layers", "nemo_hybrid": "encoder.layers"}
NETWORKS = pytest.mark.parametrize("name", OPTIONS)


def build(name: str, **options: object) -> nn.Module:
    torch.manual_seed(1)
    return build_model(name, {**OPTIONS[name], **options}).eval()


def batch(name: str) -> dict[str, torch.Tensor]:
    generator, frames = torch.Generator().manual_seed(2), {"bilstm": (12, 7), "nemo_hybrid": (9600, 5000)}[name]
    width = (6,) if name == "bilstm" else ()
    values = torch.randn(2, frames[0], *width, generator=generator)
    mask = (torch.arange(frames[0]) < torch.tensor(frames)[:, None]).long()
    return {"input_features" if name == "bilstm" else "input_values": values, "attention_mask": mask}


@NETWORKS
def test_the_main_output_is_the_same_given_the_same_weights(name: str) -> None:
    plain, middle = build(name), build(name, intermediate_layer=2)
    missing, unexpected = middle.load_state_dict(plain.state_dict(), strict=False)
    assert unexpected == [] and all(key.startswith(f"{HEADS[name]}.") for key in missing)
    with torch.no_grad():
        one, other = plain(**batch(name)), middle(**batch(name))
    assert torch.equal(one.logits, other.logits) and torch.equal(one.logit_lengths, other.logit_lengths)
    assert one.auxiliary_logits is None and other.auxiliary_logits.shape == one.logits.shape
    assert other.hidden_states is None
    # One LayerNorm and one linear layer.
    assert middle.num_parameters() - plain.num_parameters() == 2 * 16 + 16 * CLASSES + CLASSES


@NETWORKS
@pytest.mark.parametrize("layer", [1, 2])
def test_it_reads_the_output_of_the_layer_that_is_named(name: str, layer: int) -> None:
    model = build(name, intermediate_layer=layer)
    norm, linear = getattr(model, HEADS[name])
    with torch.no_grad():
        for weight in norm.parameters():
            weight.uniform_(0.5, 1.5)
        output = model(**batch(name), output_hidden_states=True)
        hidden = output.hidden_states[layer - 1]
        expected = F.layer_norm(hidden, hidden.shape[-1:], norm.weight, norm.bias) @ linear.weight.T + linear.bias
    torch.testing.assert_close(output.auxiliary_logits, expected)
    assert len(output.hidden_states) == 3


@NETWORKS
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    model = build(name, intermediate_layer=2)
    model.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    assert loaded.config.intermediate_layer == 2
    with torch.no_grad():
        ours, theirs = model(**batch(name)), loaded(**batch(name))
    assert torch.equal(ours.auxiliary_logits, theirs.auxiliary_logits) and torch.equal(ours.logits, theirs.logits)


@NETWORKS
def test_padding_changes_nothing(name: str) -> None:
    model, inputs = build(name, intermediate_layer=1), batch(name)
    with torch.no_grad():
        together = model(**inputs)
        length = int(inputs["attention_mask"][1].sum())
        alone = model(next(iter(inputs.values()))[1:, :length])
    frames = int(alone.logit_lengths)
    found, expected = together.auxiliary_logits[1, :frames], alone.auxiliary_logits[0, :frames]
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def loss_named(name: str) -> Loss:
    return LOSSES[name](LossSettings(), LossContext(blank_id=0))


def taught(model: nn.Module, output: CTCOutput, loss: str) -> set[str]:
    """The parts of a network that a loss gives a gradient: the layers by number, and its modules."""
    model.zero_grad()
    loss_named(loss)(output, None, {"labels": LABELS, "ids": ["a", "b"]}).sum().backward()
    return {name for name, value in model.named_parameters() if value.grad is not None and value.grad.any()}


@NETWORKS
@pytest.mark.parametrize("loss", ["auxiliary_ctc", "auxiliary_kd"])
def test_its_losses_teach_the_lower_layers_only(name: str, loss: str) -> None:
    model = build(name, intermediate_layer=2)
    found = taught(model, model(**batch(name)), loss)
    reached = {number for number in range(3) if any(key.startswith(f"{LAYERS[name]}.{number}.") for key in found)}
    assert reached == {0, 1}
    main = {"bilstm": "head.", "nemo_hybrid": "ctc_head."}[name]
    assert not any(key.startswith((main, "decoder.")) for key in found)
    assert {key for key in found if key.startswith(HEADS[name])} == {
        f"{HEADS[name]}.{part}" for part in ("0.weight", "0.bias", "1.weight", "1.bias")
    }
    assert not any(key.startswith(HEADS[name]) for key in taught(model, model(**batch(name)), "ctc"))


def test_it_can_have_normalised_classes() -> None:
    model = build("bilstm", intermediate_layer=1, normalise_classifier=True)
    assert model.num_parameters() - build("bilstm", normalise_classifier=True).num_parameters() == 2 * 16 + 16 * CLASSES


@NETWORKS
@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_that_is_none_within_is_refused(name: str, layer: int) -> None:
    with pytest.raises(
        UserError, match=rf"intermediate_layer is {layer} and \w+_layers is 3; expected 0 \(none\) to 2"
    ):
        build(name, intermediate_layer=layer)


def test_one_auxiliary_output_is_enough() -> None:
    with pytest.raises(UserError, match="auxiliary_classifier and intermediate_layer are both given"):
        build("bilstm", intermediate_layer=1, auxiliary_classifier=True, front="k5p2")
