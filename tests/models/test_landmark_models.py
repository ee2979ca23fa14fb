"""The landmark I3D and MobileNetV3, and the proven head on all networks: padding, lengths, files, sizes, learning."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from kd_asr_slr.errors import UserError
from kd_asr_slr.models.auto import build_model, frame_ratio, load_model
from kd_asr_slr.models.forward import run_ctc
from kd_asr_slr.models.i3d.blocks import CrossStreamAttention, TemporalInception, pool_neighbours, split_width
from kd_asr_slr.models.i3d.configuration_i3d import LandmarkI3DConfig
from kd_asr_slr.models.mobilenet.blocks import SMALL, BlockShape, InvertedResidual, SqueezeExcite, scaled
from kd_asr_slr.models.mobilenet.configuration_mobilenet import LandmarkMobileNetV3Config

SLICES = {"pose": [0, 3], "hands": [3, 8], "face": [8, 10], "temporal": [10, 12]}
SMALL_ONES = {
    "bilstm": {},
    "i3d": {"stream_width": 8, "num_blocks": 2, "attention_heads": 2},
    "mobilenet": {"stream_width": 8, "width_multiplier": 0.25},
}
PROVEN = {"front": "k5p2k5p2", "auxiliary_classifier": True, "shared_classifier": True, "normalise_classifier": True}
HEADS = [{}, {"stride": 2}, {"front": "k3p3", "auxiliary_classifier": True}, PROVEN]
EVERY = [(name, head) for name in SMALL_ONES for head in HEADS if name != "bilstm" or "front" in head]
LENGTHS = torch.tensor([31, 7, 1, 18])
every_network = pytest.mark.parametrize(("name", "head"), EVERY, ids=str)


def small(name: str, seed: int = 0, **options: object) -> PreTrainedModel:
    torch.manual_seed(seed)
    values = {"hidden_size": 8, "num_layers": 2, "dropout": 0.2} | SMALL_ONES[name] | options
    fixed = {} if name == "bilstm" else {"stream_slices": SLICES}
    return build_model(name, values, vocab_size=5, pad_token_id=0, input_size=12, **fixed).eval()


def padded_batch(fill: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(len(LENGTHS), 31, 12, generator=generator)
    mask = torch.arange(31) < LENGTHS[:, None]
    return features.masked_fill(~mask[..., None], fill), mask.long()


# --- padding and lengths ---


@pytest.mark.parametrize("training", [False, True])
@every_network
def test_one_utterance_alone_is_the_same_as_in_a_padded_batch(name: str, head: dict, training: bool) -> None:
    model = small(name, **head, dropout=0.0).train(training)
    features, mask = padded_batch(fill=1e4)
    together = model(features, mask, output_hidden_states=True)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = model(features[row : row + 1, :length], output_hidden_states=True)
        frames = int(alone.logit_lengths)
        assert frames == alone.logits.shape[1] == int(together.logit_lengths[row])
        torch.testing.assert_close(together.logits[row, :frames], alone.logits[0], atol=1e-5, rtol=0)
        for ours, theirs in zip(together.hidden_states, alone.hidden_states, strict=True):
            torch.testing.assert_close(ours[row, :frames], theirs[0], atol=1e-5, rtol=0)
        if "auxiliary_classifier" in head:
            auxiliary = together.auxiliary_logits[row, :frames]
            torch.testing.assert_close(auxiliary, alone.auxiliary_logits[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("fill", [1e4, float("nan"), float("inf")])
@every_network
def test_what_stands_in_the_padding_changes_neither_outputs_nor_gradients(name: str, head: dict, fill: float) -> None:
    results = []
    for value in (0.0, fill):
        model = small(name, **head).train()
        torch.manual_seed(2)  # of the dropout
        output = model(*padded_batch(value))
        valid = torch.arange(output.logits.shape[1]) < output.logit_lengths[:, None]
        outputs = [part for part in (output.logits, output.auxiliary_logits) if part is not None]
        sum(part[valid].square().sum() for part in outputs).backward()
        results.append((outputs, {key: p.grad for key, p in model.named_parameters() if p.grad is not None}))
    (clean, clean_gradients), (dirty, dirty_gradients) = results
    assert all(bool(part.isfinite().all()) for part in clean)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(clean, dirty, strict=True))
    assert clean_gradients.keys() == dirty_gradients.keys()
    assert all(torch.equal(clean_gradients[key], dirty_gradients[key]) for key in clean_gradients)


@every_network
def test_no_gradient_from_padding(name: str, head: dict) -> None:
    features, mask = padded_batch()
    features.requires_grad_()
    output = small(name, **head)(features, mask)
    valid = torch.arange(output.logits.shape[1]) < output.logit_lengths[:, None]
    output.logits[valid].square().sum().backward()
    assert features.grad[mask == 0].abs().max() == 0
    assert (features.grad[mask == 1].abs().sum(-1) > 0).all()


@every_network
def test_output_lengths_and_frame_ratio(name: str, head: dict) -> None:
    model = small(name, **head)
    for frames in range(1, 20):
        found = model(torch.zeros(1, frames, 12)).logits.shape[1]
        assert found == int(model.output_lengths(torch.tensor([frames]))) == -(-frames // model.config.subsampling)
    assert frame_ratio(model) == model.config.subsampling


@every_network
def test_every_parameter_learns_from_one_of_the_losses(name: str, head: dict) -> None:
    model = small(name, **head)
    output = model(*padded_batch())
    parts = [part for part in (output.logits, output.auxiliary_logits) if part is not None]
    sum(part[0].log_softmax(-1).square().sum() for part in parts).backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


# --- what comes out ---


@pytest.mark.parametrize("name", SMALL_ONES)
def test_logits_are_raw_and_the_head_reads_the_last_hidden_state(name: str) -> None:
    model = small(name, stride=4)
    features, mask = padded_batch()
    output = run_ctc(model, {"input_features": features, "attention_mask": mask}, output_hidden_states=True)
    assert [tuple(state.shape) for state in output.hidden_states] == [(4, 8, 16)] * 2
    heard = torch.arange(8) < output.logit_lengths.unsqueeze(1)  # padding frames are blanks in eval mode
    torch.testing.assert_close(model.head(output.hidden_states[-1])[heard], output.logits[heard])
    assert (output.logits[~heard].argmax(-1) == model.config.pad_token_id).all() and not heard.all()
    assert (output.logits.logsumexp(-1).abs() > 1e-2).any()
    assert run_ctc(model, {"input_features": features, "attention_mask": mask}).hidden_states is None


def trained(name: str, **head: object) -> PreTrainedModel:
    model = small(name, seed=3, **head)
    if name != "bilstm":
        with torch.no_grad():
            model.fusion.gate_logits.add_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
    return model


@every_network
def test_read_back_bit_for_bit(name: str, head: dict, tmp_path: Path, differing_tensors) -> None:
    model = trained(name, **head)
    model.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    assert differing_tensors(model, dict(loaded.state_dict())) == []
    assert loaded.config.to_dict() == model.config.to_dict() | {"_name_or_path": loaded.config._name_or_path}
    with torch.no_grad():
        assert torch.equal(loaded(*padded_batch()).logits, model(*padded_batch()).logits)


@pytest.mark.slow
def test_read_in_a_fresh_process_bit_for_bit(tmp_path: Path, read_in_fresh_process, differing_tensors) -> None:
    models = [trained(name, **PROVEN) for name in SMALL_ONES]
    batch = dict(zip(("input_features", "attention_mask"), padded_batch(), strict=True))
    for number, model in enumerate(models):
        model.save_pretrained(tmp_path / str(number))
    found = read_in_fresh_process({tmp_path / str(number): batch for number in range(len(models))})
    for model, (tensors, logits) in zip(models, found, strict=True):
        assert differing_tensors(model, tensors) == []
        with torch.no_grad():
            assert torch.equal(logits, model(**batch).logits)


@pytest.mark.parametrize("name", ["i3d", "mobilenet"])
def test_the_gates_of_a_new_network(name: str) -> None:
    expected = {"pose": 0.2, "hands": 0.4, "face": 0.3, "temporal": 0.1}
    assert small(name).fusion.gates() == pytest.approx(expected, abs=1e-7)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The tensor attributes")  # of nn.LSTM's flat weights, restored afterwards
@pytest.mark.parametrize("name", ["i3d", "mobilenet"])
@pytest.mark.parametrize("head", [{"stride": 4}, PROVEN], ids=["strided", "proven"])
def test_the_network_can_be_exported_with_a_free_batch_size(name: str, head: dict) -> None:
    model = small(name, **head)
    batch = {0: torch.export.Dim("batch", min=1)}
    exported = torch.export.export(model, padded_batch(), dynamic_shapes=(batch, batch), strict=False).module()
    features, mask = (tensor[:2] for tensor in padded_batch())
    torch.testing.assert_close(exported(features, mask).logits, model(features, mask).logits)


@pytest.mark.parametrize("head", [{"stride": 2}, {"front": "k5p2", **dict(list(PROVEN.items())[1:])}], ids=str)
@pytest.mark.parametrize("name", SMALL_ONES)
def test_a_few_steps_learn_the_batch(name: str, head: dict) -> None:
    model = small(name, **head, dropout=0.0, hidden_size=16).train()
    features, mask = padded_batch()
    labels = torch.tensor([[1, 2, 3], [3, -100, -100], [4, -100, -100], [2, 1, -100]])
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        loss = model(features, mask, labels=labels).loss
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize("name", SMALL_ONES)
def test_finite_in_bfloat16(name: str) -> None:
    model = small(name, **PROVEN)
    features, mask = padded_batch()
    exact = model(features, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(features, mask)
    half = model.to(torch.bfloat16)(features.bfloat16(), mask)
    for output in (mixed, half):
        for part in ("logits", "auxiliary_logits"):
            assert getattr(output, part).isfinite().all()
        assert (output.logits.float() - exact.logits).abs().max() < 0.1 * exact.logits.abs().max()


# --- sizes ---


def lstm_parameters(width: int, units: int) -> int:
    return 2 * (4 * units * (width + units) + 8 * units)


@pytest.mark.parametrize(
    ("units", "layers", "total"), [(256, 4, 7_136_333), (384, 5, 18_967_629)], ids=["student", "teacher"]
)
def test_the_users_student_and_teacher(units: int, layers: int, total: int) -> None:
    """4 x 256 and 5 x 384 on 512 features and 1,100 glosses."""
    fixed = {"input_size": 512, "vocab_size": 1101, "pad_token_id": 0}
    model = build_model("bilstm", {"hidden_size": units, "num_layers": layers}, **fixed)
    width = 2 * units
    projection, head = 512 * width + width + 2 * width, (width + 1) * 1101
    assert model.num_parameters() == projection + layers * lstm_parameters(width, units) + head == total


PHOENIX = {"pose": [0, 99], "hands": [99, 225], "face": [225, 1629], "temporal": [1629, 6516]}


@pytest.mark.parametrize(("name", "total"), [("i3d", 9_763_153), ("mobilenet", 10_959_937)])
def test_sizes_on_the_users_landmarks(name: str, total: int, tmp_path: Path) -> None:
    fixed = {"input_size": 6516, "stream_slices": PHOENIX, "vocab_size": 1101, "pad_token_id": 0}
    model = build_model(name, {}, **fixed)
    model.save_pretrained(tmp_path)
    assert model.num_parameters() == total
    assert 4 * total < (tmp_path / "model.safetensors").stat().st_size < 50e6


# --- Inception blocks and attention ---


def test_pooling_over_neighbours_by_hand() -> None:
    hidden = torch.tensor([[-3.0, -1.0, -2.0, 9.0], [-5.0, 9.0, 9.0, 9.0]])[..., None]
    found = pool_neighbours(hidden, torch.tensor([3, 1]))[..., 0]
    assert found.tolist() == [[-1.0, -1.0, -1.0, 0.0], [-5.0, 0.0, 0.0, 0.0]]


def test_an_inception_block_sees_as_far_as_its_widest_kernel() -> None:
    torch.manual_seed(0)
    block = TemporalInception(8, [3, 7], dropout=0.0)
    hidden = torch.randn(1, 21, 8, requires_grad=True)
    block(hidden, torch.tensor([21]))[0, 10].square().sum().backward()
    assert hidden.grad[0].abs().sum(-1).nonzero().flatten().tolist() == list(range(7, 14))


@pytest.mark.parametrize(("width", "parts"), [(16, 5), (15, 5), (8, 3), (5, 5)])
def test_split_width(width: int, parts: int) -> None:
    found = split_width(width, parts)
    assert sum(found) == width and len(found) == parts and max(found) - min(found) <= 1


def test_attention_between_streams_is_torchs() -> None:
    torch.manual_seed(0)
    ours, theirs = CrossStreamAttention(8, 2, dropout=0.0), torch.nn.MultiheadAttention(8, 2, batch_first=True)
    theirs.in_proj_weight.data.copy_(ours.query_key_value.weight)
    theirs.in_proj_bias.data.copy_(ours.query_key_value.bias)
    theirs.out_proj.load_state_dict(ours.output.state_dict())
    streams = [torch.randn(2, 3, 8) for _ in range(4)]
    tokens = torch.stack(streams, dim=2).flatten(0, 1)  # [B * T, N, W]
    normed = ours.norm(tokens)
    expected = (tokens + theirs(normed, normed, normed)[0]).unflatten(0, (2, 3))
    torch.testing.assert_close(torch.stack(ours(streams), dim=2), expected, atol=1e-6, rtol=1e-5)


# --- MobileNetV3 blocks ---


def test_the_table_of_the_paper() -> None:
    """Rows of table 2 and the squeezed widths of its reference implementation."""
    assert [row.expanded for row in SMALL] == [16, 72, 88, 96, 240, 240, 120, 144, 288, 576, 576]
    assert [row.width for row in SMALL] == [16, 24, 24, 40, 40, 40, 48, 48, 96, 96, 96]
    assert [row.kernel for row in SMALL] == [3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 5]
    squeezed = [scaled(row.expanded / 4) if row.squeezes else 0 for row in SMALL]
    assert squeezed == [8, 0, 0, 24, 64, 64, 32, 40, 72, 144, 144]


def test_squeeze_and_excitation_averages_valid_frames_only() -> None:
    torch.manual_seed(0)
    block = SqueezeExcite(16)
    hidden, lengths = torch.randn(2, 5, 16), torch.tensor([5, 2])
    found = block(hidden, lengths)
    for row, length in enumerate(lengths.tolist()):
        mean = sum(hidden[row, frame] for frame in range(length)) / length
        weight = F.relu6(block.excite(F.relu(block.squeeze(mean))) + 3) / 6
        torch.testing.assert_close(found[row], hidden[row] * weight)


def test_the_depthwise_convolution_joins_no_channels() -> None:
    torch.manual_seed(0)
    block = InvertedResidual(8, BlockShape(5, 16, 8, False, True), dropout=0.0)
    hidden = torch.randn(1, 9, 16)
    found = block.depthwise(hidden.transpose(1, 2)[:, :, None])[0, :, 0]
    for channel in range(16):
        row = F.pad(hidden[0, :, channel], (2, 2))
        expected = row.unfold(0, 5, 1) @ block.depthwise.weight[channel, 0, 0] + block.depthwise.bias[channel]
        torch.testing.assert_close(found[channel], expected, atol=1e-6, rtol=1e-5)
    assert block.activation is F.hardswish and block.residual


# --- what is refused ---


def test_impossible_configurations_are_refused_all_at_once() -> None:
    with pytest.raises(UserError) as error:
        LandmarkI3DConfig(
            input_size=12, stream_width=6, attention_heads=4, num_blocks=-1, block_kernels=[4], dropout=1.0
        )
    for part in ("attention_heads is 4", "num_blocks is -1", "block_kernels is [4]", "dropout is 1.0"):
        assert part in str(error.value)
    with pytest.raises(UserError, match="stream_width is 4; expected 5 or more"):
        LandmarkI3DConfig(input_size=12, stream_width=4)
    with pytest.raises(UserError, match="width_multiplier is 0"):
        LandmarkMobileNetV3Config(input_size=12, width_multiplier=0.0)


def test_streams_that_follow_from_the_features_are_not_an_option() -> None:
    with pytest.raises(UserError, match="'stream_slices' follows from the data"):
        build_model("i3d", {"stream_slices": SLICES}, input_size=12, vocab_size=5, pad_token_id=0, stream_slices=SLICES)
