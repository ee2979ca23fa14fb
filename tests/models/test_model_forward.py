"""`run_ctc` on the toolkit's networks and on tiny ones of transformers, with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import (
    HubertConfig,
    HubertForCTC,
    ParakeetCTCConfig,
    ParakeetEncoderConfig,
    ParakeetForCTC,
    PreTrainedModel,
    SEWConfig,
    SEWForCTC,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    WavLMConfig,
    WavLMForCTC,
)

from kd_asr_slr.errors import UserError
from kd_asr_slr.models.auto import build_model
from kd_asr_slr.models.forward import blank_of, frame_ratio, lengths_after, run_ctc, unwrap
from kd_asr_slr.outputs import HybridOutput

WIDTHS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 6}
WAVEFORM = WIDTHS | {
    "conv_dim": (8, 8, 8),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 2, 2),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "pad_token_id": 0,
}
LENGTHS = torch.tensor([800, 431, 640])


def parakeet() -> ParakeetForCTC:
    sizes = {key: value for key, value in WIDTHS.items() if key != "vocab_size"}
    encoder = ParakeetEncoderConfig(**sizes, num_mel_bins=16, subsampling_factor=4, subsampling_conv_channels=4)
    return ParakeetForCTC(ParakeetCTCConfig(encoder_config=encoder, vocab_size=6, pad_token_id=5))


NETWORKS = {
    "wav2vec2-group": lambda: Wav2Vec2ForCTC(Wav2Vec2Config(**WAVEFORM, feat_extract_norm="group")),
    "wav2vec2-layer": lambda: Wav2Vec2ForCTC(
        Wav2Vec2Config(**WAVEFORM, feat_extract_norm="layer", do_stable_layer_norm=True)
    ),
    "hubert-group": lambda: HubertForCTC(HubertConfig(**WAVEFORM, feat_extract_norm="group")),
    "hubert-layer": lambda: HubertForCTC(HubertConfig(**WAVEFORM, feat_extract_norm="layer")),
    "wavlm-group": lambda: WavLMForCTC(WavLMConfig(**WAVEFORM, feat_extract_norm="group")),
    "wavlm-layer": lambda: WavLMForCTC(WavLMConfig(**WAVEFORM, feat_extract_norm="layer")),
    "sew-group": lambda: SEWForCTC(SEWConfig(**WAVEFORM, feat_extract_norm="group", squeeze_factor=2)),
    "sew-layer": lambda: SEWForCTC(SEWConfig(**WAVEFORM, feat_extract_norm="layer", squeeze_factor=2)),
    "parakeet": parakeet,
    "bilstm": lambda: build_model("bilstm", {"hidden_size": 8, "stride": 4}, vocab_size=6, input_size=16),
}
RATIOS = {"parakeet": 4, "bilstm": 4}
names = pytest.mark.parametrize("name", NETWORKS)


def network(name: str) -> PreTrainedModel:
    torch.manual_seed(4)
    return NETWORKS[name]().eval()


def batch_for(model: PreTrainedModel, fill: float = 0.0) -> dict[str, object]:
    """Three utterances of different lengths, with `fill` in the padding."""
    generator = torch.Generator().manual_seed(5)
    waveform = model.main_input_name == "input_values"
    lengths = LENGTHS if waveform else LENGTHS // 16
    shape = (3, int(lengths.max())) if waveform else (3, int(lengths.max()), 16)
    mask = torch.arange(shape[1]) < lengths[:, None]
    values = torch.randn(shape, generator=generator)
    values = values.masked_fill(~(mask if waveform else mask[..., None]), fill)
    return {model.main_input_name: values, "attention_mask": mask.long(), "labels": torch.tensor([[1], [2], [3]])}


def alone(model: PreTrainedModel, batch: dict, row: int) -> dict[str, object]:
    """One utterance of a batch without its padding."""
    length = int(batch["attention_mask"][row].sum())
    cut = {key: batch[key][row : row + 1, :length] for key in (model.main_input_name, "attention_mask")}
    return cut | {"labels": batch["labels"][row : row + 1]}


@names
@torch.no_grad()
def test_one_utterance_alone_is_the_same_as_in_a_padded_batch(name: str) -> None:
    model = network(name)
    batch = batch_for(model, fill=1e4)
    together = run_ctc(model, batch, output_hidden_states=True)
    assert together.logits.shape[::2] == (3, 6)
    for row in range(3):
        single = run_ctc(model, alone(model, batch, row), output_hidden_states=True)
        frames = int(single.logit_lengths)
        assert frames == int(together.logit_lengths[row]) <= single.logits.shape[1]
        torch.testing.assert_close(together.logits[row, :frames], single.logits[0, :frames], atol=1e-5, rtol=1e-4)
        for ours, theirs in zip(together.hidden_states, single.hidden_states, strict=True):
            inner = frames // getattr(model.config, "squeeze_factor", 1)
            torch.testing.assert_close(ours[row, :inner], theirs[0, :inner], atol=1e-5, rtol=1e-4)


@names
@torch.no_grad()
def test_lengths_are_the_frames_that_come_out(name: str) -> None:
    model = network(name)
    for frames in (97, 128, 160, 163, 200, 255, 256, 257):
        shape = (1, frames * 5) if model.main_input_name == "input_values" else (1, frames, 16)
        output = run_ctc(model, {model.main_input_name: torch.zeros(shape)})
        assert output.logit_lengths.tolist() == [output.logits.shape[1]]


@names
def test_frame_ratio_and_blank(name: str) -> None:
    model = network(name)
    assert frame_ratio(model) == RATIOS.get(name, 20)
    assert blank_of(model) == (5 if name == "parakeet" else 0)


def test_frame_ratio_of_the_usual_networks() -> None:
    with torch.device("meta"):
        model = Wav2Vec2ForCTC(Wav2Vec2Config(num_hidden_layers=1))
    assert frame_ratio(model) == 320 == model.config.inputs_to_logits_ratio


@names
def test_hidden_states_only_where_asked_for_and_one_a_layer(name: str) -> None:
    model = network(name)
    batch = batch_for(model)
    assert run_ctc(model, batch).hidden_states is None
    states = run_ctc(model, batch, output_hidden_states=True).hidden_states
    # transformers also gives the input of the first layer; the bilstm has 4 layers here and gives only their outputs.
    assert len(states) == (4 if name == "bilstm" else 3)
    frames = run_ctc(model, batch).logits.shape[1] // getattr(model.config, "squeeze_factor", 1)
    assert all(state.shape == (3, frames, 16) for state in states)


def test_group_norm_networks_get_no_mask_and_train_in_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("wav2vec2-group")
    batch = batch_for(model, fill=1e4)
    calls = []
    forward = Wav2Vec2ForCTC.forward
    monkeypatch.setattr(
        Wav2Vec2ForCTC, "forward", lambda self, **kwargs: calls.append(kwargs) or forward(self, **kwargs)
    )
    run_ctc(model.train(), batch)
    run_ctc(model.eval(), batch)
    assert [call["input_values"].shape for call in calls] == [(3, 800), (1, 800), (1, 431), (1, 640)]
    assert all(call.get("attention_mask") is None for call in calls)
    assert calls[0]["input_values"].abs().max() < 10, "the padding is silence"


@names
def test_gradients_flow(name: str) -> None:
    model = network(name)
    run_ctc(model, batch_for(model)).logits.square().sum().backward()
    assert all(parameter.grad is not None for key, parameter in model.named_parameters() if "masked_spec" not in key)


def test_a_view_replaces_the_features() -> None:
    model = network("bilstm")
    batch, other = batch_for(model), batch_for(model)
    other["input_features"] = other["input_features"] + 1
    view = {key: other[key] for key in ("input_features", "attention_mask")}
    found = run_ctc(model, batch | {"views": {"abc": view}}, view="abc")
    assert torch.equal(found.logits, run_ctc(model, other).logits)
    with pytest.raises(ValueError, match="no view other"):
        run_ctc(model, batch, view="other")


def test_features_for_a_network_that_takes_waveforms() -> None:
    with pytest.raises(UserError, match="Wav2Vec2ForCTC takes input_values and the batch has input_features"):
        run_ctc(network("wav2vec2-layer"), batch_for(network("bilstm")))


def test_a_network_without_blank_or_lengths_is_named() -> None:
    model = network("wav2vec2-layer")
    model.config.pad_token_id = None
    with pytest.raises(UserError, match="names no blank"):
        blank_of(model)
    with pytest.raises(UserError, match="Linear does not say how long"):
        lengths_after(nn.Linear(2, 2), torch.tensor([3]))


class Recorder(nn.Module):
    """A network with a decoder that only writes down what it was called with."""

    main_input_name = "input_features"

    class config:
        has_decoder = True
        pad_token_id = 0

    def output_lengths(self, lengths: torch.Tensor) -> torch.Tensor:
        return lengths

    def forward(self, **kwargs: object) -> HybridOutput:
        self.seen = kwargs
        return HybridOutput()


def test_labels_go_only_to_networks_with_a_decoder() -> None:
    bilstm, recorder = network("bilstm"), Recorder()
    batch = batch_for(bilstm)
    assert run_ctc(bilstm, batch).loss is None
    assert isinstance(run_ctc(recorder, batch), HybridOutput)
    assert recorder.seen["labels"] is batch["labels"] and recorder.seen["attention_mask"] is batch["attention_mask"]


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("name", ["bilstm", "wav2vec2-group", "parakeet"])
def test_the_wrapper_is_what_is_called(name: str) -> None:
    model = network(name)
    wrapper = DistributedDataParallel(model, find_unused_parameters=True).train()
    calls = []
    wrapper.register_forward_hook(lambda *_: calls.append(1))
    batch = batch_for(model)
    output = run_ctc(wrapper, batch)
    assert calls == [1]
    assert (
        unwrap(wrapper) is model and frame_ratio(wrapper) == frame_ratio(model) and blank_of(wrapper) == blank_of(model)
    )
    assert output.logit_lengths.tolist() == run_ctc(model, batch).logit_lengths.tolist()


def test_unwrap_looks_into_a_compiled_network() -> None:
    model = network("bilstm")
    assert unwrap(torch.compile(model)) is model


def test_networks_of_transformers_are_read_back_bit_for_bit(
    tmp_path: Path, read_in_fresh_process, differing_tensors
) -> None:
    models = {name: network(name) for name in ("wavlm-layer", "parakeet", "wav2vec2-layer")}
    batches = {}
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
        batches[tmp_path / name] = {key: value for key, value in batch_for(model).items() if key != "labels"}
    for (name, model), (tensors, logits) in zip(models.items(), read_in_fresh_process(batches), strict=True):
        assert differing_tensors(model, tensors) == []
        with torch.no_grad():
            assert torch.equal(model(**batches[tmp_path / name]).logits, logits)
