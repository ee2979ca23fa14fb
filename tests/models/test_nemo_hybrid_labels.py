"""NemoHybridForASR: the losses of its labels, and what its decoder generates."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from hybrid_models import alone, batch, build
from transformers.modeling_outputs import BaseModelOutput

from kd_asr_slr.errors import UserError
from kd_asr_slr.models.nemo_hybrid.label_losses import decoder_label_loss, teacher_forcing
from kd_asr_slr.models.nemo_hybrid.modeling_nemo_hybrid import NemoHybridForASR
from kd_asr_slr.models.parts.ctc_loss import ctc_label_loss


@pytest.fixture(scope="module")
def model() -> NemoHybridForASR:
    return build()


def test_teacher_forcing_by_hand() -> None:
    inputs, targets, lengths = teacher_forcing(torch.tensor([[5, 6], [4, -100], [-100, -100]]), bos=1, eos=2, pad=0)
    assert inputs.tolist() == [[1, 5, 6], [1, 4, 0], [1, 0, 0]]
    assert targets.tolist() == [[5, 6, 2], [4, 2, -100], [2, -100, -100]]
    assert lengths.tolist() == [3, 2, 1]


def collapse(path: tuple[int, ...]) -> list[int]:
    return [label for label, _ in itertools.groupby(path) if label != 0]


def test_ctc_loss_is_the_sum_over_all_paths() -> None:
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    labels, lengths = torch.tensor([[1, 1], [2, -100]]), torch.tensor([4, 3])
    expected = []
    for index in range(2):
        probabilities = logits[index].softmax(-1)
        wanted = [label for label in labels[index].tolist() if label >= 0]
        total = sum(
            float(torch.stack([probabilities[frame, label] for frame, label in enumerate(path)]).prod())
            for path in itertools.product(range(3), repeat=int(lengths[index]))
            if collapse(path) == wanted
        )
        expected.append(-torch.tensor(total).log().item() / len(wanted))
    assert ctc_label_loss(logits, lengths, labels, blank=0).tolist() == pytest.approx(expected, rel=1e-5)


def test_ctc_loss_of_an_utterance_too_short_is_infinite() -> None:
    assert ctc_label_loss(torch.zeros(1, 2, 3), torch.tensor([2]), torch.tensor([[1, 1]]), blank=0).isinf().all()


def test_decoder_loss_by_hand() -> None:
    logits = torch.tensor([[[0.0, 1.0], [2.0, 0.0]], [[0.0, 3.0], [9.0, 9.0]]])
    losses = decoder_label_loss(logits, torch.tensor([[1, 0], [1, -100]]))
    assert losses.tolist() == pytest.approx([(0.313262 + 0.126928) / 2, 0.048587], abs=1e-5)


def test_the_loss_weighs_ctc_and_decoder(model: NemoHybridForASR) -> None:
    inputs = batch()
    output = model(**inputs)
    _, targets, _ = teacher_forcing(inputs["labels"], bos=1, eos=2, pad=0)
    ctc = ctc_label_loss(output.logits, output.logit_lengths, inputs["labels"], 0).mean()
    attention = decoder_label_loss(output.decoder_logits, targets).mean()
    torch.testing.assert_close(output.loss, 0.3 * ctc + 0.7 * attention)


def test_generation_with_a_cache_equals_a_plain_loop_without(model: NemoHybridForASR) -> None:
    inputs, steps = batch(), 12
    generated = model.generate(inputs["input_values"], inputs["attention_mask"], max_new_tokens=steps)
    for index in range(3):
        single = alone(index)
        with torch.no_grad():
            frames, _, _ = model.encode(single["input_values"])
            tokens = [1]
            while len(tokens) <= steps and tokens[-1] != 2:
                logits = model.decoder(
                    torch.tensor([tokens]), encoder_outputs=BaseModelOutput(last_hidden_state=frames)
                ).logits[0, -1]
                logits[[0, 1]] = -torch.inf  # neither the blank nor the start of sequence
                tokens.append(int(logits.argmax()))
        row = generated[index].tolist()
        assert row[: len(tokens)] == tokens
        assert set(row[len(tokens) :]) <= {0}
    assert len({tuple(row) for row in generated.tolist()}) == 3  # a decoder that hears nothing would not be a test


def sequence_scores(model: NemoHybridForASR, frames: torch.Tensor, steps: int) -> dict[tuple[int, ...], float]:
    """Log-probability of every sequence that ends within so many steps or is cut there."""
    scores: dict[tuple[int, ...], float] = {}
    open_ends = {(1,): 0.0}
    for _ in range(steps):
        longer = {}
        for tokens, score in open_ends.items():
            output = model.decoder(torch.tensor([tokens]), encoder_outputs=BaseModelOutput(last_hidden_state=frames))
            log_probs = output.logits[0, -1].log_softmax(-1)
            for token in range(2, model.config.vocab_size):
                target = scores if token == 2 else longer
                target[(*tokens, token)] = score + float(log_probs[token])
        open_ends = longer
    return scores | open_ends


@pytest.mark.parametrize("index", range(3))
def test_a_wide_beam_finds_the_best_sequence(model: NemoHybridForASR, index: int) -> None:
    waveform, steps = alone(index)["input_values"], 4
    with torch.no_grad():
        frames, _, _ = model.encode(waveform)
        totals = sequence_scores(model, frames, steps)
    scores = {tokens: total / (len(tokens) - 1) ** 2 for tokens, total in totals.items()}  # the penalty of length 2
    found = model.generate(waveform, max_new_tokens=steps, num_beams=100, length_penalty=2.0)[0].tolist()
    assert tuple(token for token in found if token != 0) == max(scores, key=scores.get)
    assert len(max(scores, key=scores.get)) > 3


def test_generation_stops_at_the_number_of_frames_by_default(model: NemoHybridForASR) -> None:
    endless = copy.deepcopy(model)
    with torch.no_grad():
        endless.decoder.head.bias[2] = -1e4
    assert endless.generate(torch.randn(1, 6400)).shape == (1, 1 + 10)
    assert endless.generate(torch.randn(1, 64000)).shape == (1, 64)  # as many positions as the decoder has
    assert endless.generate(torch.randn(1, 64000), max_length=6).shape == (1, 6)  # transformers' own name of a limit
    with pytest.raises(UserError, match="max_length is 65; expected a number from 2 to 64"):
        endless.generate(torch.randn(1, 64000), max_length=65)


def test_a_batch_too_short_for_a_frame_has_none_and_does_not_fail(model: NemoHybridForASR) -> None:
    inputs = {"input_values": torch.randn(2, 40), "attention_mask": torch.ones(2, 40, dtype=torch.long)}
    with torch.no_grad():
        output = model(**inputs, labels=torch.tensor([[3], [4]]))
    assert output.logit_lengths.tolist() == [0, 0] and output.decoder_logits.isfinite().all()
    assert output.logits.argmax(-1).eq(0).all()  # nothing but blanks
    assert model.generate(**inputs).shape[0] == 2
