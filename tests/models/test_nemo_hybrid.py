"""NemoHybridForASR: sizes, padding, saving and loading, masks."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hybrid_models import LENGTHS, TINY, alone, batch, build
from safetensors.torch import load_file, save_file

from kd_asr_slr.errors import UserError
from kd_asr_slr.models.nemo_hybrid.configuration_nemo_hybrid import NemoHybridConfig
from kd_asr_slr.models.nemo_hybrid.modeling_nemo_hybrid import NemoHybridForASR
from kd_asr_slr.models.nemo_hybrid.nemo_parts import nemo_modules


@pytest.fixture(scope="module")
def model() -> NemoHybridForASR:
    return build()


def test_default_sizes_are_those_of_the_pretrained_encoder_and_the_student() -> None:
    model = NemoHybridForASR(NemoHybridConfig(vocab_size=5000))
    assert sum(p.numel() for p in model.encoder.parameters()) == 12_972_608
    assert model.num_parameters() == pytest.approx(18.3e6, abs=0.05e6)
    assert model.config.subsampling == 640


def test_frames_are_those_of_nemos_own_pipeline(model: NemoHybridForASR) -> None:
    modules = nemo_modules()
    front_end = modules.AudioToMelSpectrogramPreprocessor(features=24, window_size=0.025, n_fft=512, pad_to=0).eval()
    encoder = modules.ConformerEncoder(
        feat_in=24, n_layers=2, d_model=32, n_heads=4, conv_kernel_size=7, pos_emb_max_len=200
    ).eval()
    encoder.load_state_dict(model.encoder.state_dict())
    inputs = batch()
    waveforms = inputs["input_values"] * inputs["attention_mask"]
    features, lengths = front_end(input_signal=waveforms, length=torch.tensor(LENGTHS))
    with torch.no_grad():
        expected, lengths = encoder(audio_signal=features, length=lengths)
        frames, own_lengths, layers = model.encode(inputs["input_values"], inputs["attention_mask"], keep_layers=True)
    assert torch.equal(own_lengths, lengths)
    assert torch.equal(frames, expected.transpose(1, 2)[:, : frames.shape[1]])
    assert len(layers) == 2
    assert torch.equal(layers[-1], frames)


@pytest.mark.parametrize("options", [{}, {"conv_norm_type": "layer_norm"}, {"subsampling_type": "dw_striding"}])
def test_an_utterance_alone_equals_the_same_in_a_padded_batch(options: dict[str, object]) -> None:
    model = build(**options)
    with torch.no_grad():
        together = model(**batch(), output_hidden_states=True)
        for index in range(3):
            single = model(**alone(index), output_hidden_states=True)
            frames, positions = int(together.logit_lengths[index]), int(together.decoder_lengths[index])
            assert single.logit_lengths.tolist() == [frames]
            torch.testing.assert_close(together.logits[index, :frames], single.logits[0, :frames], atol=2e-5, rtol=1e-4)
            torch.testing.assert_close(
                together.decoder_logits[index, :positions], single.decoder_logits[0], atol=1e-4, rtol=1e-4
            )
            for layer, own in zip(together.hidden_states, single.hidden_states, strict=True):
                torch.testing.assert_close(layer[index, :frames], own[0, :frames], atol=2e-5, rtol=1e-4)


def test_in_training_the_gradient_of_a_batch_is_the_mean_of_its_utterances() -> None:
    model = build(conv_norm_type="layer_norm", dropout=0.0, attention_dropout=0.0).double().train()
    model(**batch()).loss.backward()
    together = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    for index in range(3):
        (model(**alone(index)).loss / 3).backward()
    for name, parameter in model.named_parameters():
        # NeMo's front end computes in float32, so its features agree to about 1e-6.
        assert (together[name] - parameter.grad).norm() < 1e-5 * parameter.grad.norm() + 1e-12, name


def test_output_lengths_are_the_encoders_own(model: NemoHybridForASR) -> None:
    lengths = torch.tensor([160, 319, 320, 799, 800, 801, 1279, 1280, 6399, 6400, 7040, 15999])
    mask = (torch.arange(16000) < lengths[:, None]).long()
    output = model(torch.randn(len(lengths), 16000), mask)
    assert torch.equal(output.logit_lengths, model.output_lengths(lengths))
    assert output.logits.shape[1] == 25
    assert model.output_lengths(torch.tensor(0)).item() == 0


def test_without_labels_there_is_no_loss_and_a_tuple_on_request(model: NemoHybridForASR) -> None:
    inputs = batch()
    output = model(inputs["input_values"], inputs["attention_mask"])
    assert output.loss is None
    assert output.decoder_logits is None
    logits, lengths = model(inputs["input_values"], inputs["attention_mask"], return_dict=False)
    assert torch.equal(logits, output.logits)
    assert torch.equal(lengths, output.logit_lengths)


def test_eval_is_deterministic_with_dither_and_training_leaves_the_waveform_alone() -> None:
    model = build(dither=0.1)
    inputs = batch()
    assert torch.equal(model(**inputs).logits, model(**inputs).logits)
    model.train()
    before = inputs["input_values"].clone()
    model(inputs["input_values"])
    assert torch.equal(inputs["input_values"], before)


def test_a_deep_copy_uses_its_own_front_end(model: NemoHybridForASR) -> None:
    twin, inputs = copy.deepcopy(model), batch()
    expected = model(**inputs).logits
    assert torch.equal(twin(**inputs).logits, expected)
    twin.preprocessor.featurizer.fb.mul_(torch.linspace(0.1, 3.0, 257))
    assert not torch.allclose(twin(**inputs).logits, expected)
    assert torch.equal(model(**inputs).logits, expected)


def test_an_utterance_longer_than_the_positions_equals_a_model_made_for_it(model: NemoHybridForASR) -> None:
    waveforms = torch.randn(1, 48000)  # 300 mel frames, the model is made for 200
    longer = build(max_source_positions=400)
    grown = copy.deepcopy(model)
    torch.testing.assert_close(grown(waveforms).logits, longer(waveforms).logits, atol=1e-5, rtol=1e-4)


FRESH_PROCESS = """
import random, sys, warnings
import torch
import transformers
from safetensors.torch import save_file
transformers.utils.logging.disable_progress_bar()
from kd_asr_slr.models.nemo_hybrid.modeling_nemo_hybrid import NemoHybridForASR
if "nemo" in sys.modules:
    sys.exit("importing the model's module imports NeMo")
torch.full((4096, 4096), float("nan"))  # freed memory that is not zero, for whatever reads uninitialised memory
random_state, show = random.getstate(), warnings.showwarning
model = NemoHybridForASR.from_pretrained(sys.argv[1]).eval()
if random.getstate() != random_state or warnings.showwarning is not show:
    sys.exit("building the model changes the random numbers or the warnings of the process")
inputs = torch.load(sys.argv[1] + "/inputs.pt")
tensors = {"tensor." + name: tensor for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
with torch.no_grad():
    output = model(**inputs)
tensors |= {"logits": output.logits, "decoder_logits": output.decoder_logits}
tensors["generated"] = model.generate(inputs["input_values"], inputs["attention_mask"], num_beams=2)
save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, sys.argv[1] + "/fresh.safetensors")
"""


@pytest.mark.slow
def test_a_fresh_process_loads_the_same_bits_and_says_nothing(
    model: NemoHybridForASR, tmp_path: Path, repository: Path
) -> None:
    model.save_pretrained(tmp_path)
    torch.save(batch(), tmp_path / "inputs.pt")
    run = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    fresh = load_file(tmp_path / "fresh.safetensors")
    with torch.no_grad():
        output = model(**batch())
    inputs = batch()
    expected = {"tensor." + name: tensor for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    expected |= {"logits": output.logits, "decoder_logits": output.decoder_logits}
    expected["generated"] = model.generate(inputs["input_values"], inputs["attention_mask"], num_beams=2)
    assert fresh.keys() == expected.keys()
    assert any(name.endswith("pos_enc.pe") for name in fresh)
    different = [name for name in fresh if not torch.equal(fresh[name], expected[name])]
    assert different == []


def test_weights_missing_from_a_checkpoint_are_initialised_and_the_others_kept(
    model: NemoHybridForASR, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    gone = [name for name in weights if name.startswith(("encoder.layers.1.", "preprocessor.", "ctc_head."))]
    save_file(
        {name: weights[name] for name in weights if name not in gone}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    reloaded = NemoHybridForASR.from_pretrained(tmp_path)
    assert torch.equal(reloaded.encoder.pos_enc.pe, model.encoder.pos_enc.pe)
    loaded = reloaded.state_dict()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights if name not in gone)
    assert torch.equal(loaded["preprocessor.featurizer.fb"], weights["preprocessor.featurizer.fb"])
    assert torch.equal(loaded["preprocessor.featurizer.window"], weights["preprocessor.featurizer.window"])
    assert loaded["encoder.layers.1.self_attn.pos_bias_u"].eq(0).all()
    assert loaded["encoder.layers.1.conv.batch_norm.running_var"].eq(1).all()
    linear = loaded["encoder.layers.1.feed_forward1.linear1.weight"]
    assert 0 < linear.abs().max() <= 32**-0.5  # torch's bound for 32 inputs


def test_half_precision_keeps_the_front_end_in_float32(model: NemoHybridForASR, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    half = NemoHybridForASR.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    assert torch.equal(half.preprocessor.featurizer.fb, model.preprocessor.featurizer.fb)
    with torch.no_grad():
        logits, expected = half(**batch()).logits, model(**batch()).logits
    assert logits.dtype == torch.bfloat16
    assert (logits - expected).abs().mean() < 0.05 * expected.abs().mean()


def test_buffers_left_out_of_ddp_exist_and_are_constant(model: NemoHybridForASR) -> None:
    ignored = set(model._ddp_params_and_buffers_to_ignore)
    assert ignored <= {name for name, _ in model.named_buffers()}
    assert "encoder.pos_enc.pe" in ignored
    assert not any("batch_norm" in name for name in ignored)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"d_model": 30}, ["encoder_heads = 4", "decoder_heads = 4"]),
        ({"subsampling_factor": 3}, ["power of 2"]),
        ({"subsampling_type": "stacking", "conv_norm_type": "group_norm4"}, ["stacking", "group_norm4", "layer_norm"]),
        ({"bos_token_id": None}, ["bos_token_id is None", "<s>"]),
        ({"eos_token_id": 1}, ["index each"]),
        ({"vocab_size": 2}, ["eos_token_id is 2"]),
        ({"ctc_weight": 1.5, "conv_kernel_size": 8}, ["ctc_weight is 1.5", "odd"]),
        ({"n_fft": 256, "decoder_layers": 0}, ["n_fft is 256", "decoder_layers is 0"]),
    ],
)
def test_options_out_of_range_are_refused_all_at_once(options: dict[str, object], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        NemoHybridConfig(**{**TINY, **options})
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model(torch.randn(1, 16000), labels=torch.full((1, 64), 3)),
        lambda model: model.generate(torch.randn(1, 16000), max_new_tokens=64),
    ],
)
def test_more_labels_than_positions_are_refused(
    model: NemoHybridForASR, call: Callable[[NemoHybridForASR], object]
) -> None:
    with pytest.raises(UserError, match="6[34]"):
        call(model)


def test_masks_zero_bands_of_the_features_while_training_only() -> None:
    masked = build(time_masks=1, time_width=0.2, freq_masks=1, freq_width=6)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    masked.masks.register_forward_hook(
        lambda _module, _args, kwargs, out: seen.append((kwargs["input_spec"], out)), with_kwargs=True
    )
    masked.encode(alone(0)["input_values"])
    assert not seen
    for seed in range(10):
        torch.manual_seed(seed)
        masked.train().encode(alone(0)["input_values"])
    for clean, drawn in seen:
        zeroed = (drawn == 0) & (clean != 0)  # [1, F, frames]
        assert torch.equal(drawn[~zeroed], clean[~zeroed])
        assert zeroed[0].all(1).sum() <= 6 and zeroed[0].all(0).sum() <= 0.2 * 100 + 1
    assert any((drawn != clean).any() for clean, drawn in seen)


def test_masks_follow_torch_s_random_numbers() -> None:
    masked = build(time_masks=2, freq_masks=2, freq_width=8, dropout=0.0, attention_dropout=0.0).train()
    first, again, second = [], [], []
    for drawn, seed in ((first, 1), (again, 1), (second, 2)):
        torch.manual_seed(seed)
        drawn.append(masked.encode(alone(0)["input_values"])[0])
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], second[0])


@pytest.mark.parametrize("options", [{"time_masks": -1}, {"time_width": 2.0}, {"freq_masks": 1, "freq_width": 99}])
def test_masks_that_cannot_be_drawn(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(options)) if "freq_width" not in options else "freq_width"):
        NemoHybridConfig(**{**TINY, **options})
