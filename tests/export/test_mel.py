"""The front end in numpy gives NeMo's own features, and the encoder on them what the whole hybrid gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kd_asr_slr.errors import UserError
from kd_asr_slr.export.formats import CtcNetwork, export, runner_of
from kd_asr_slr.export.mel import front_end_of
from kd_asr_slr.export.networks import exported_part
from kd_asr_slr.export.parity import compare
from kd_asr_slr.models.nemo_hybrid.configuration_nemo_hybrid import NemoHybridConfig
from kd_asr_slr.models.nemo_hybrid.modeling_nemo_hybrid import NemoHybridForASR

SIZES = {"d_model": 32, "conv_kernel_size": 7, "decoder_layers": 1, "decoder_ffn_dim": 16}
OPTIONS = {
    "default": {},
    "plain": {"normalisation": "none", "preemphasis": None, "window": "hamming"},
    "8 kHz": {"sampling_rate": 8000, "n_fft": 256},
    "other encoder": {"attention_model": "abs_pos", "subsampling_type": "dw_striding", "subsampling_factor": 8},
}


def hybrid(**options: object) -> NemoHybridForASR:
    torch.manual_seed(3)
    sizes = {"vocab_size": 7, "num_mel_bins": 24, "encoder_layers": 1, "max_source_positions": 300, **SIZES}
    return NemoHybridForASR(NemoHybridConfig(**{**sizes, **options})).eval()


def recording(length: int) -> np.ndarray:
    """Noise that comes and goes, with digital silence in it."""
    rng = np.random.default_rng(length)
    samples = rng.standard_normal(length) * np.abs(np.sin(np.arange(length) / 900)) ** 3
    samples[length // 3 : length // 2] = 0
    return (0.2 * samples).astype(np.float32)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_features_are_those_of_nemo(options: dict[str, object]) -> None:
    model = hybrid(**options)
    front_end = front_end_of(model)
    for length in (16000, 9001, 4321, 480, 321):
        samples = recording(length)
        expected, count = model.preprocessor(
            input_signal=torch.from_numpy(samples)[None], length=torch.tensor([length])
        )
        found = front_end(samples)
        assert found.shape == (int(count), 24) and found.dtype == np.float32
        np.testing.assert_allclose(found, expected[0, :, : int(count)].T.numpy(), atol=2e-4)


def test_a_recording_shorter_than_a_frame_is_refused() -> None:
    with pytest.raises(UserError, match="a waveform has 100 samples; expected 160 or more"):
        front_end_of(hybrid())(np.zeros(100))


@pytest.mark.parametrize(("kind", "name"), [*(("onnx", name) for name in OPTIONS), ("torch_export", "other encoder")])
def test_waveforms_of_other_lengths_give_the_same_numbers(
    kind: str, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = hybrid(**OPTIONS[name])
    part = exported_part(model, "input_values")
    batches = [batch(*lengths) for lengths in ((8000, 5000), (12345, 7000, 4321), (3333,))]
    first = batches[0]
    example = part.example(first["input_values"].numpy(), first["attention_mask"].numpy())
    written = export(part.network, example, kind, tmp_path / "student")
    same = compare(
        runner_of(CtcNetwork(model)), written, batches, "input_values", lambda best: str(best.tolist()), part.feed
    )
    lengths = [length for batch in batches for length in batch["attention_mask"].sum(1).tolist()]
    assert same.difference < 1e-4
    assert same.frames == int(model.output_lengths(torch.tensor(lengths)).sum())
    assert all(ours == theirs for ours, theirs in same.hypotheses.values())
    assert capfd.readouterr() == ("", "")


def batch(*lengths: int) -> dict[str, object]:
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    waveforms = torch.zeros(mask.shape)
    for row, length in enumerate(lengths):
        waveforms[row, :length] = torch.from_numpy(recording(length))
    return {"input_values": waveforms, "attention_mask": mask, "ids": [str(length) for length in lengths]}
