"""The decoder's probability of given sequences, and generation: alone, in a batch, and after a rebuild."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from kd_asr_slr.models.auto import load_model
from kd_asr_slr.models.nemo_hybrid import candidates
from kd_asr_slr.models.nemo_hybrid.configuration_nemo_hybrid import NemoHybridConfig
from kd_asr_slr.models.nemo_hybrid.modeling_nemo_hybrid import NemoHybridForASR

LENGTHS = (16000, 9000, 4321)


@pytest.fixture(scope="module")
def model() -> NemoHybridForASR:
    torch.manual_seed(3)
    sizes = {"encoder_layers": 1, "d_model": 32, "conv_kernel_size": 7, "decoder_layers": 2, "decoder_ffn_dim": 48}
    model = NemoHybridForASR(
        NemoHybridConfig(vocab_size=6, num_mel_bins=24, conv_norm_type="layer_norm", max_target_positions=32, **sizes)
    )
    with torch.no_grad():  # as after training: what the decoder says depends on what it hears and has said
        for name, weight in model.decoder.transformer.named_parameters():
            if "norm" not in name:
                weight.mul_(3 if "embed_tokens" in name else 40 if "embed_positions" in name else 20)
        model.decoder.head.weight.mul_(3)
        model.decoder.head.bias[2] -= 1.5
    return model.eval()


def waveforms() -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.randn(3, max(LENGTHS), generator=torch.Generator().manual_seed(4))
    return values, (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()


@torch.no_grad()
def one_by_one(model: NemoHybridForASR, frames: torch.Tensor, sequences: list[list[int]]) -> list[float]:
    """Each sequence teacher-forced by itself, without a cache."""
    totals = []
    for labels in sequences:
        encoded = BaseModelOutput(last_hidden_state=frames[None])
        scores = model.decoder(torch.tensor([[1, *labels]]), encoder_outputs=encoded).logits[0].log_softmax(-1)
        totals.append(sum(float(scores[place, label]) for place, label in enumerate([*labels, 2])))
    return totals


def test_every_sequence_as_if_it_were_alone(model: NemoHybridForASR, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = model.encode(waveforms()[0])[0][0].detach()
    sequences = [[3], [], [4, 5, 5, 3], [5, 4], [3, 3, 3, 3, 3, 3, 3]]
    expected = one_by_one(model, frames, sequences)
    assert model.sequence_log_probs(frames, sequences).tolist() == pytest.approx(expected, abs=1e-4)
    assert model.sequence_log_probs(frames, [[]]).tolist() == pytest.approx([expected[1]], abs=1e-4)
    monkeypatch.setattr(candidates, "AT_ONCE", 2)
    assert model.sequence_log_probs(frames, sequences).tolist() == pytest.approx(expected, abs=1e-4)


def test_sequences_and_those_still_open_are_certain_together(model: NemoHybridForASR) -> None:
    frames = model.encode(waveforms()[0])[0][0].detach()
    others = [token for token in range(6) if token != 2]
    ended = [list(labels) for length in range(4) for labels in itertools.product(others, repeat=length)]
    with torch.no_grad():
        open_ = torch.tensor([[1, *labels] for labels in itertools.product(others, repeat=3)])
        scores = model.decoder(
            open_, encoder_outputs=BaseModelOutput(last_hidden_state=frames.expand(len(open_), -1, -1))
        ).logits.log_softmax(-1)
    spelled = scores[:, :3].gather(2, open_[:, 1:, None]).sum(dim=(1, 2))
    going_on = (spelled.exp() * (1 - scores[:, 3, 2].exp())).sum()
    assert float(model.sequence_log_probs(frames, ended).exp().sum() + going_on) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
def test_generation_alone_equals_generation_in_a_batch(model: NemoHybridForASR, beams: int) -> None:
    values, mask = waveforms()
    together = model.generate(values, mask, max_new_tokens=10, num_beams=beams).tolist()
    for index, length in enumerate(LENGTHS):
        alone = model.generate(values[index : index + 1, :length], max_new_tokens=10, num_beams=beams)[0].tolist()
        end = len(alone)
        assert together[index][:end] == alone
        assert set(together[index][end:]) <= {0}
    assert len({tuple(row) for row in together}) > 1 and len(together[0]) > 3


def test_a_batch_stops_when_all_have_ended(model: NemoHybridForASR, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    hook = model.decoder.register_forward_hook(lambda *_: steps.append(1))
    monkeypatch.setattr(model.decoder.head.bias, "data", torch.tensor([0.0, 0, 1e4, 0, 0, 0]))
    rows = model.generate(*waveforms(), max_new_tokens=20)
    hook.remove()
    assert rows.tolist() == [[1, 2]] * 3
    assert len(steps) == 1


def test_rebuilt_from_its_folder_it_decodes_bit_for_bit(model: NemoHybridForASR, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    rebuilt = load_model(str(tmp_path))
    values, mask = waveforms()
    sequences = [[3], [4, 5, 5, 3]]
    for beams in (1, 4):
        expected = model.generate(values, mask, max_new_tokens=8, num_beams=beams)
        assert torch.equal(rebuilt.generate(values, mask, max_new_tokens=8, num_beams=beams), expected)
    with torch.no_grad():
        frames, expected = (network.encode(values, mask)[0] for network in (rebuilt, model))
        assert torch.equal(rebuilt(values, mask).logits, model(values, mask).logits)
    assert torch.equal(frames, expected)
    ours = rebuilt.sequence_log_probs(frames[0], sequences)
    assert torch.equal(ours, model.sequence_log_probs(expected[0], sequences))
    assert all(math.isfinite(score) for score in ours.tolist())
