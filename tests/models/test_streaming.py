"""Streams against the same utterance at once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kd_asr_slr.errors import UserError
from kd_asr_slr.models.auto import build_model, load_model
from kd_asr_slr.models.streaming import ExactStream, WindowStream, can_stream, open_stream

AHEAD = {"bidirectional": False, "hidden_size": 8, "num_layers": 3, "dropout": 0.3}
FRONTS = [
    {},
    {"stride": 2},
    {"stride": 4},
    {"stride": 4, "conv_layers": 3, "conv_kernel": 3},
    {"stride": 4, "conv_kernel": 1},
    {"front": "k5p2k5p2"},
    {"front": "k3k5p3"},
]


def network(**options: object):
    torch.manual_seed(0)
    return build_model("bilstm", {**AHEAD, **options}, input_size=6, vocab_size=5, pad_token_id=0).eval()


def streamed(stream, inputs: torch.Tensor, sizes: list[int]) -> tuple[torch.Tensor, list[int]]:
    """The logits of an utterance that comes in chunks of these sizes and a last one, and how many each has given."""
    parts = [stream.accept(chunk) for chunk in inputs.split([*sizes, len(inputs) - sum(sizes)])]
    parts.append(stream.finish())
    return torch.cat(parts), [len(part) for part in parts]


@pytest.mark.parametrize("front", FRONTS, ids=str)
@pytest.mark.parametrize("frames", [1, 2, 3, 7, 31, 32])
def test_a_network_that_reads_ahead_gives_the_same_in_chunks_of_any_size(front: dict, frames: int) -> None:
    model, inputs = network(**front), torch.randn(frames, 6)
    wanted = model(inputs[None]).logits[0]
    stream = ExactStream(model)
    for sizes in ([], [1] * (frames - 1), [frames // 2, 0], [frames]):
        found, _ = streamed(stream, inputs, sizes)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
        assert found.argmax(-1).tolist() == wanted.argmax(-1).tolist()


@pytest.mark.parametrize("front", FRONTS, ids=str)
def test_a_frame_waits_no_longer_than_is_said(front: dict) -> None:
    model = network(**front)
    stream, rate = ExactStream(model), model.config.subsampling
    _, counts = streamed(stream, torch.randn(40, 6), [1] * 39)
    given, waits = 0, []
    for last, count in enumerate(counts[:-1]):  # input frames 0 to `last` have come
        waits += [last - rate * (given + place) for place in range(count)]
        given += count
    assert waits and max(waits) == stream.latency


def test_reading_ahead_is_the_lstm_of_torch_and_looks_at_no_later_frame() -> None:
    model, inputs = network(num_layers=1), torch.randn(2, 9, 6)
    reference = nn.LSTM(8, 8, batch_first=True)
    reference.load_state_dict(model.layers[0].ahead.state_dict())
    embedded = model.norm(model.projection(inputs))
    torch.testing.assert_close(model(inputs).logits, model.head(embedded + reference(embedded)[0]))
    changed = inputs.clone()
    changed[:, 5:] = 0
    assert torch.equal(model(inputs).logits[:, :5], model(changed).logits[:, :5])


def test_a_network_that_reads_ahead_is_saved_and_read(tmp_path) -> None:
    model = network(stride=2)
    model.save_pretrained(tmp_path)
    again = load_model(str(tmp_path))
    assert again.config.bidirectional is False and can_stream(again)
    inputs = torch.randn(1, 8, 6)
    assert torch.equal(again(inputs).logits, model(inputs).logits)


@pytest.mark.parametrize("frames", [3, 16, 37])
def test_windows_that_hold_the_whole_utterance_give_the_same(frames: int) -> None:
    model, inputs = network(bidirectional=True, stride=2), torch.randn(frames, 6)
    found, counts = streamed(WindowStream(model, chunk=20, left=0, right=0), inputs, [frames // 3, frames // 3])
    torch.testing.assert_close(found, model(inputs[None]).logits[0], atol=1e-5, rtol=0)
    assert sum(counts[:-1]) == 0


def test_windows_are_the_network_on_the_chunk_and_its_context() -> None:
    model, inputs = network(bidirectional=True, stride=2), torch.randn(45, 6)
    stream = WindowStream(model, chunk=4, left=3, right=2)
    assert (stream.latency, stream.exact) == (11, False)
    found, counts = streamed(stream, inputs, [1] * 44)
    wanted = []
    for start in range(0, 23, 4):
        begin, end = max(start - 3, 0), min(start + 4 + 2, 23)
        logits = model(inputs[None, 2 * begin : 2 * end]).logits[0]
        # The last windows reach the end and keep everything; until then the chunk alone is kept.
        wanted.append(logits[start - begin : start - begin + 4])
    torch.testing.assert_close(found, torch.cat(wanted)[: len(found)], atol=1e-5, rtol=0)
    assert len(found) == 23 and counts[11] == 4 and counts[:11] == [0] * 11


def test_windows_of_a_network_of_transformers_that_takes_waveforms() -> None:
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    sizes |= {"conv_dim": (8,) * 7, "feat_extract_norm": "layer", "do_stable_layer_norm": True}
    config = Wav2Vec2Config(**sizes, vocab_size=6)
    model, waveform = Wav2Vec2ForCTC(config).eval(), torch.randn(16000)
    wanted = model(waveform[None]).logits[0]
    found, counts = streamed(WindowStream(model, chunk=10, left=10, right=5), waveform, [1600] * 9)
    with pytest.raises(UserError, match="a chunk with 0 frames behind it is too short for Wav2Vec2ForCTC"):
        WindowStream(model, chunk=10, left=10, right=0)
    assert found.shape == wanted.shape and counts[:4] == [0, 0, 10, 0]


def test_which_stream_a_network_gets() -> None:
    assert isinstance(open_stream(network(), 8, 8, 4), ExactStream)
    assert isinstance(open_stream(network(bidirectional=True), 8, 8, 4), WindowStream)
    neighbours = {"hidden_size": 8, "num_layers": 1, "bidirectional": False, "stream_width": 8}
    landmarks = build_model("i3d", neighbours, input_size=6, vocab_size=5, pad_token_id=0)
    assert not can_stream(landmarks) and not can_stream(SimpleNamespace())
    with pytest.raises(ValueError, match="needs whole utterances"):
        ExactStream(landmarks)
    with pytest.raises(ValueError, match="chunk 0, left 1, right 1"):
        WindowStream(network(), 0, 1, 1)
