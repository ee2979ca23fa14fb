"""Fronts, classifiers and streams: by hand, and against plain torch modules without padding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kd_asr_slr.errors import UserError
from kd_asr_slr.models.bilstm.configuration_bilstm import BiLstmConfig
from kd_asr_slr.models.bilstm.modeling_bilstm import BiLstmForCTC
from kd_asr_slr.models.parts.classifier import NormalisedLinear
from kd_asr_slr.models.parts.front import ConvolutionFront, FrontStep, read_front
from kd_asr_slr.models.parts.streams import GatedFusion, StreamConfig, StreamEncoders, start_gates

PROVEN = {"front": "k5p2k5p2", "auxiliary_classifier": True, "shared_classifier": True, "normalise_classifier": True}


def bilstm(**options: object) -> BiLstmForCTC:
    torch.manual_seed(0)
    values = {"input_size": 6, "hidden_size": 8, "num_layers": 2, "vocab_size": 5, "dropout": 0.0} | options
    return BiLstmForCTC(BiLstmConfig(**values)).eval()


# --- the front ---


@pytest.mark.parametrize("text", ["k5p2k5p2", "K5-P2-K5-P2", "K5, P2, K5, P2"])
def test_the_fields_notation_of_a_front(text: str) -> None:
    assert read_front(text) == [FrontStep(5, pool=2)] * 2
    assert BiLstmConfig(front=text).subsampling == 4


def test_a_front_without_poolings_keeps_the_rate() -> None:
    assert read_front("k3k5p3") == [FrontStep(3), FrontStep(5, pool=3)]
    assert BiLstmConfig(front="k3k5").subsampling == 1


@pytest.mark.parametrize("text", ["", "p2k5", "k5p2x", "k", "k4p2", "k5p0"])
def test_what_is_no_front_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="front is '.*'; expected"):
        BiLstmConfig(front=text)


def test_the_front_is_torchs_convolution_and_pooling_where_nothing_is_padded() -> None:
    torch.manual_seed(0)
    front = ConvolutionFront(6, read_front("k5p2k3p2"), dropout=0.0)
    hidden = torch.randn(2, 13, 6)
    expected = hidden
    for convolution, norm in zip(front.convolutions, front.norms, strict=True):
        convolved = convolution(expected.transpose(1, 2)).transpose(1, 2)
        expected = nn.MaxPool1d(2, ceil_mode=True)(norm(convolved).relu().transpose(1, 2)).transpose(1, 2)
    found, lengths = front(hidden, torch.tensor([13, 13]))
    assert lengths.tolist() == [4, 4]
    torch.testing.assert_close(found, expected)


def test_stride_and_front_must_agree() -> None:
    assert BiLstmConfig(front="k5p2k5p2", stride=4).stride == 4
    with pytest.raises(UserError, match="stride is 2 and the poolings of front 'k5p2k5p2' make it 4"):
        BiLstmConfig(front="k5p2k5p2", stride=2)
    with pytest.raises(UserError, match="give one of the two"):
        BiLstmConfig(front="k5p2", conv_layers=2)


# --- classifiers ---


def test_normalised_classes_by_hand() -> None:
    classifier = NormalisedLinear(2, 3, scale=2.0)
    with torch.no_grad():
        classifier.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 0.5], [0.0, 0.0]]))
    assert classifier(torch.tensor([1.0, 2.0])).tolist() == pytest.approx([2 * 11 / 5, 4.0, 0.0])
    assert classifier.bias is None


def test_the_auxiliary_classifier_reads_the_convolutions_alone() -> None:
    model = bilstm(front="k5p2", auxiliary_classifier=True)
    features = torch.randn(2, 12, 6)
    before = model(features)
    assert before.auxiliary_logits.shape == before.logits.shape == (2, 6, 5)
    with torch.no_grad():
        for parameter in (*model.layers.parameters(), *model.head.parameters()):
            parameter.add_(0.5)
    after = model(features)
    assert torch.equal(before.auxiliary_logits, after.auxiliary_logits)
    assert not torch.equal(before.logits, after.logits)
    assert bilstm(front="k5p2")(features).auxiliary_logits is None


def test_a_shared_classifier_is_one_module() -> None:
    shared, separate = bilstm(**PROVEN), bilstm(**PROVEN | {"shared_classifier": False})
    assert separate.num_parameters() - shared.num_parameters() == 5 * 16
    features = torch.randn(2, 12, 6)
    with torch.no_grad():
        before = shared(features)
        shared.head.weight[1].neg_()
        after = shared(features)
    for name in ("logits", "auxiliary_logits"):
        torch.testing.assert_close(getattr(after, name)[..., 1], -getattr(before, name)[..., 1])


def test_classifier_options_that_go_nowhere_are_refused_all_at_once() -> None:
    with pytest.raises(UserError, match="auxiliary_classifier reads temporal convolutions"):
        BiLstmConfig(auxiliary_classifier=True)
    with pytest.raises(UserError) as error:
        BiLstmConfig(shared_classifier=True, classifier_scale=0.0, front="k2")
    assert all(part in str(error.value) for part in ("shared_classifier shares", "classifier_scale is 0.0", "odd"))


# --- streams ---

SLICES = {"pose": [0, 4], "hands": [4, 10], "face": [10, 13], "temporal": [13, 20]}


def test_gates_start_where_they_should() -> None:
    config = StreamConfig(input_size=20, stream_slices=SLICES)
    gates = GatedFusion(config.streams, 4, 8).gates()
    assert gates == pytest.approx({"pose": 0.2, "hands": 0.4, "face": 0.3, "temporal": 0.1}, abs=1e-7)


@pytest.mark.parametrize("missing", [{}, {"temporal": [13, 13]}])
def test_a_missing_stream_is_dropped_and_the_gates_renormalised(missing: dict) -> None:
    kept = {name: SLICES[name] for name in ("pose", "hands", "face")}
    streams = StreamConfig(input_size=20, stream_slices=kept | missing).streams
    assert [stream.name for stream in streams] == ["pose", "hands", "face"]
    found = {stream.name: stream.gate for stream in streams}
    assert found == pytest.approx({"pose": 2 / 9, "hands": 4 / 9, "face": 3 / 9})


def test_other_gates_and_streams_without_one() -> None:
    assert start_gates(["a", "b"], {}) == {"a": 0.5, "b": 0.5}
    assert start_gates(["pose", "x", "hands"], {"pose": 1, "hands": 3}) == pytest.approx(
        {"pose": 1 / 6, "x": 2 / 6, "hands": 3 / 6}
    )
    config = StreamConfig(input_size=20, stream_slices=SLICES, stream_gates=dict.fromkeys(SLICES, 0.7))
    assert [stream.gate for stream in config.streams] == [0.25] * 4


def test_without_slices_there_is_one_stream_with_every_column() -> None:
    (stream,) = StreamConfig(input_size=7).streams
    assert (stream.start, stream.stop, stream.gate) == (0, 7, 1.0)


def test_the_order_in_which_streams_are_named_changes_nothing() -> None:
    there, back = (StreamConfig(input_size=20, stream_slices=dict(order)) for order in
                   (SLICES.items(), reversed(SLICES.items())))  # fmt: skip
    assert there.streams == back.streams


def test_an_encoder_sees_its_own_columns_only() -> None:
    torch.manual_seed(0)
    encoders = StreamEncoders(StreamConfig(input_size=20, stream_slices=SLICES).streams, 4, dropout=0.0)
    features = torch.randn(1, 3, 20)
    before = encoders(features)
    features[..., 4:10] += 1.0
    changed = [not torch.equal(ours, theirs) for ours, theirs in zip(before, encoders(features), strict=True)]
    assert changed == [False, True, False, False]


def test_gates_weigh_the_streams_and_learn() -> None:
    torch.manual_seed(0)
    streams = StreamConfig(input_size=20, stream_slices=SLICES).streams
    fusion = GatedFusion(streams, 4, 8)
    values = [torch.randn(1, 3, 4) for _ in streams]
    weighed = torch.cat([4 * gate * value for gate, value in zip([0.2, 0.4, 0.3, 0.1], values, strict=True)], -1)
    torch.testing.assert_close(fusion(values), fusion.norm(fusion.projection(weighed)))
    fusion(values)[..., 0].sum().backward()
    assert fusion.gate_logits.grad.abs().min() > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stream_slices": {"pose": [0, 21]}}, r"pose: \[0, 21\]; expected .* within the 20 columns"),
        ({"stream_slices": {"pose": [5, 3]}}, r"pose: \[5, 3\]"),
        ({"stream_slices": {"pose": [5]}}, r"pose: \[5\]"),
        ({"stream_slices": {"left.hand": [0, 3]}}, "names 'left.hand'"),
        ({"stream_slices": {"pose": [0, 0]}}, "no stream with columns"),
        ({"stream_slices": {}}, "no stream with columns"),
        ({"stream_gates": {"pose": 0.0}}, "stream_gates has pose: 0.0"),
        ({"stream_width": 0}, "stream_width is 0"),
    ],
)
def test_impossible_streams_are_refused(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        StreamConfig(input_size=20, **options)
