"""BiLstmForCTC against a packed LSTM, an enumeration of CTC paths, and itself in other batches."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from kd_asr_slr.errors import UserError
from kd_asr_slr.models.bilstm.configuration_bilstm import BiLstmConfig
from kd_asr_slr.models.bilstm.modeling_bilstm import BiLstmForCTC
from kd_asr_slr.models.parts.ctc_loss import ctc_label_loss
from kd_asr_slr.models.parts.frames import reversal, valid_frames
from kd_asr_slr.models.parts.recurrent import BiLstmLayer

FRONTS = [{"stride": 1}, {"stride": 1, "conv_layers": 2}, {"stride": 2}, {"stride": 4}, {"stride": 4, "conv_layers": 3}]
LENGTHS = torch.tensor([31, 7, 1, 18])


def small(**options: object) -> BiLstmForCTC:
    torch.manual_seed(0)
    values = {"input_size": 6, "hidden_size": 8, "num_layers": 3, "vocab_size": 5, "dropout": 0.2} | options
    return BiLstmForCTC(BiLstmConfig(**values)).eval()


def padded_batch(fill: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(len(LENGTHS), 31, 6, generator=generator)
    mask = torch.arange(31) < LENGTHS[:, None]
    return features.masked_fill(~mask[..., None], fill), mask.long()


def test_reversal_turns_each_utterance_around_within_its_length() -> None:
    assert reversal(torch.tensor([3, 1, 0]), 4).tolist() == [[2, 1, 0, 3], [0, 1, 2, 3], [0, 1, 2, 3]]


def test_layer_is_the_packed_bidirectional_lstm_of_torch() -> None:
    torch.manual_seed(0)
    layer, reference = BiLstmLayer(6, 4), nn.LSTM(6, 4, batch_first=True, bidirectional=True)
    for name, parameter in layer.ahead.named_parameters():
        reference.get_parameter(name).data.copy_(parameter)
    for name, parameter in layer.behind.named_parameters():
        reference.get_parameter(f"{name}_reverse").data.copy_(parameter)
    features, mask = padded_batch()
    packed = pack_padded_sequence(features, LENGTHS, batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(reference(packed)[0], batch_first=True)
    found = layer(features, reversal(LENGTHS, 31)) * mask[..., None]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    weights = torch.randn(found.shape)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    gradient = reference.weight_hh_l0_reverse.grad
    torch.testing.assert_close(layer.behind.weight_hh_l0.grad, gradient, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("front", FRONTS, ids=str)
def test_one_utterance_alone_is_the_same_as_in_a_padded_batch(front: dict) -> None:
    model = small(**front)
    features, mask = padded_batch(fill=1e4)
    together = model(features, mask, output_hidden_states=True)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = model(features[row : row + 1, :length], output_hidden_states=True)
        frames = int(alone.logit_lengths)
        assert frames == alone.logits.shape[1] == int(together.logit_lengths[row])
        torch.testing.assert_close(together.logits[row, :frames], alone.logits[0], atol=1e-5, rtol=0)
        for ours, theirs in zip(together.hidden_states, alone.hidden_states, strict=True):
            torch.testing.assert_close(ours[row, :frames], theirs[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("front", FRONTS, ids=str)
@pytest.mark.parametrize("fill", [1e4, float("nan"), float("inf")])
def test_what_stands_in_the_padding_changes_neither_outputs_nor_gradients(front: dict, fill: float) -> None:
    labels = torch.tensor([[1, 2], [3, -100], [4, -100], [1, 4]])
    results = []
    for value in (0.0, fill):
        model = small(**front)
        features, mask = padded_batch(value)
        output = model(features, mask, labels=labels)
        output.loss.backward()
        results.append((output.logits, {name: p.grad for name, p in model.named_parameters()}))
    (clean, clean_gradients), (dirty, dirty_gradients) = results
    assert torch.equal(clean, dirty)
    assert all(torch.equal(clean_gradients[name], dirty_gradients[name]) for name in clean_gradients)
    assert all(bool(gradient.isfinite().all()) for gradient in clean_gradients.values())


@pytest.mark.parametrize("front", FRONTS, ids=str)
def test_no_gradient_from_padding(front: dict) -> None:
    features, mask = padded_batch()
    features.requires_grad_()
    output = small(**front)(features, mask)
    valid = torch.arange(output.logits.shape[1]) < output.logit_lengths[:, None]
    output.logits[valid].square().sum().backward()
    assert features.grad[mask == 0].abs().max() == 0
    assert (features.grad[mask == 1].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("front", FRONTS, ids=str)
def test_output_lengths_are_the_frames_that_come_out(front: dict) -> None:
    model = small(**front)
    for frames in range(1, 20):
        found = model(torch.zeros(1, frames, 6)).logits.shape[1]
        assert found == int(model.output_lengths(torch.tensor([frames]))) == -(-frames // model.config.subsampling)


def test_hidden_states_are_one_a_layer_and_the_head_reads_the_last() -> None:
    model = small(stride=2)
    features, mask = padded_batch()
    output = model(features, mask, output_hidden_states=True)
    assert [tuple(state.shape) for state in output.hidden_states] == [(4, 16, 16)] * 3
    valid = valid_frames(output.logit_lengths, 16)
    torch.testing.assert_close(model.head(output.hidden_states[-1])[valid], output.logits[valid])
    assert model(features, mask).hidden_states is None


def test_an_argmax_over_padding_reads_blanks() -> None:
    model = small(stride=2, pad_token_id=3)
    features, mask = padded_batch()
    output = model(features, mask)
    best = output.logits.argmax(-1)[~valid_frames(output.logit_lengths, 16)]
    assert len(best) and (best == 3).all()
    training = model.train()(features, mask).logits  # where the loss reads valid frames only, nothing is copied
    assert (training.argmax(-1)[~valid_frames(output.logit_lengths, 16)] != 3).any()


def test_every_layer_adds_to_what_it_read() -> None:
    model = small()
    with torch.no_grad():
        for parameter in model.layers[1].parameters():
            parameter.zero_()
    output = model(*padded_batch(), output_hidden_states=True)
    assert torch.equal(output.hidden_states[0], output.hidden_states[1])


def test_ctc_loss_is_the_sum_over_all_paths() -> None:
    torch.manual_seed(2)
    logits, blank = torch.randn(2, 4, 3), 1
    lengths, labels = torch.tensor([4, 3]), torch.tensor([[0, 2], [2, -100]])
    expected = []
    for row, targets in enumerate(([0, 2], [2])):
        log_probs = logits[row, : lengths[row]].log_softmax(-1)
        total = 0.0
        for path in itertools.product(range(3), repeat=int(lengths[row])):
            if [label for label, _ in itertools.groupby(path) if label != blank] == targets:
                total += float(sum(log_probs[frame, label] for frame, label in enumerate(path)).exp())
        expected.append(-torch.tensor(total).log() / len(targets))
    torch.testing.assert_close(ctc_label_loss(logits, lengths, labels, blank).mean(), torch.stack(expected).mean())


def test_an_utterance_too_short_for_its_labels_is_not_silenced() -> None:
    features, mask = padded_batch()
    labels = torch.full((4, 3), -100)
    labels[2] = 1  # three labels, one frame
    assert small()(features, mask, labels=labels).loss.isinf()


def test_without_return_dict_a_plain_tuple() -> None:
    features, mask = padded_batch()
    model = small()
    logits, lengths = model(features, mask, return_dict=False)
    assert torch.equal(logits, model(features, mask).logits) and lengths.tolist() == LENGTHS.tolist()


def test_a_few_steps_learn_the_batch() -> None:
    model = small(dropout=0.0, hidden_size=16).train()
    features, mask = padded_batch()
    labels = torch.tensor([[1, 2, 3], [3, -100, -100], [4, -100, -100], [2, 1, -100]])
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        loss = model(features, mask, labels=labels).loss
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1


def test_the_network_can_be_exported_with_a_free_batch_size() -> None:
    # torch.export fixes the frames of any nn.LSTM (2.13); utterances are padded to them.
    model = small(stride=4)
    batch = {0: torch.export.Dim("batch", min=1)}
    exported = torch.export.export(model, padded_batch(), dynamic_shapes=(batch, batch), strict=False).module()
    features, mask = (tensor[:2] for tensor in padded_batch())
    torch.testing.assert_close(exported(features, mask).logits, model(features, mask).logits)


def test_impossible_configurations_are_refused_all_at_once() -> None:
    with pytest.raises(UserError) as error:
        BiLstmConfig(hidden_size=0, dropout=1.0, stride=3, conv_kernel=4, vocab_size=3, pad_token_id=3)
    for part in (
        "hidden_size is 0",
        "dropout is 1.0",
        "stride is 3",
        "conv_kernel is 4",
        "pad_token_id (the blank) is 3",
    ):
        assert part in str(error.value)
    with pytest.raises(UserError, match="stride 4 takes 2 or more"):
        BiLstmConfig(stride=4, conv_layers=1)
