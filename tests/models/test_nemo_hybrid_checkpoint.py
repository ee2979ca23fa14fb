"""Encoder weights out of `.nemo` files, and what is refused."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from kd_asr_slr.errors import UserError
from kd_asr_slr.models.nemo_hybrid.checkpoint import find_nemo_file, read_nemo_file
from kd_asr_slr.models.nemo_hybrid.modeling_nemo_hybrid import NemoHybridForASR
from kd_asr_slr.models.nemo_hybrid.nemo_parts import nemo_modules

# As in the files NVIDIA publishes, at tiny sizes.
PREPROCESSOR = {
    "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
    "sample_rate": 16000,
    "normalize": "per_feature",
    "window_size": 0.025,
    "window_stride": 0.01,
    "window": "hann",
    "features": 24,
    "n_fft": 512,
    "log": True,
    "frame_splicing": 1,
    "dither": 1e-05,
    "pad_to": 0,
    "pad_value": 0.0,
}
ENCODER = {
    "_target_": "nemo.collections.asr.modules.ConformerEncoder",
    "feat_in": 24,
    "feat_out": -1,
    "n_layers": 2,
    "d_model": 32,
    "subsampling": "striding",
    "subsampling_factor": 4,
    "subsampling_conv_channels": 16,
    "ff_expansion_factor": 2,
    "self_attention_model": "rel_pos",
    "n_heads": 4,
    "att_context_size": [-1, -1],
    "xscaling": True,
    "untie_biases": True,
    "pos_emb_max_len": 300,
    "conv_kernel_size": 9,
    "dropout": 0.1,
    "dropout_emb": 0.0,
    "dropout_att": 0.1,
}
OPTIONS = {"vocab_size": 9, "decoder_layers": 1, "decoder_ffn_dim": 16}
Members = dict[str, bytes]


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """The state dict of a NeMo CTC model: its front end, its encoder and its own CTC head."""
    modules = nemo_modules()
    torch.manual_seed(5)
    front_end = modules.AudioToMelSpectrogramPreprocessor(**{k: v for k, v in PREPROCESSOR.items() if k != "_target_"})
    encoder = modules.ConformerEncoder(**{k: v for k, v in ENCODER.items() if k != "_target_"})
    for name, buffer in encoder.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    state = {f"preprocessor.{name}": tensor for name, tensor in front_end.state_dict().items()}
    state |= {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    return state | {"decoder.decoder_layers.0.weight": torch.zeros(30, 32, 1)}


def saved(weights: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    return buffer.getvalue()


def settings(**changes: Any) -> bytes:
    """model_config.yaml with some entries of its encoder or preprocessor changed (`encoder__n_heads=8`)."""
    sections = {"sample_rate": 16000, "preprocessor": dict(PREPROCESSOR), "encoder": dict(ENCODER)}
    for name, value in changes.items():
        section, _, key = name.partition("__")
        sections[section][key] = value
    return yaml.safe_dump(sections).encode()


def write(path: Path, members: Members, mode: str = "w", prefix: str = "./") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(prefix + name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.fixture
def members(weights: dict[str, torch.Tensor]) -> Members:
    return {"model_config.yaml": settings(), "tokenizer.model": b"pieces", "model_weights.ckpt": saved(weights)}


@pytest.mark.parametrize(("mode", "prefix"), [("w", "./"), ("w:gz", "")])
def test_the_encoder_of_a_nemo_file_arrives(
    tmp_path: Path, members: Members, weights: dict[str, torch.Tensor], mode: str, prefix: str
) -> None:
    model = NemoHybridForASR.from_nemo(write(tmp_path / "model.nemo", members, mode, prefix), **OPTIONS)
    own = model.state_dict()
    kept = [name for name in weights if not name.startswith("decoder.")]
    assert sorted(kept) == sorted(name for name in own if name.startswith(("encoder.", "preprocessor.")))
    assert all(torch.equal(own[name], weights[name]) for name in kept)
    assert (model.config.vocab_size, model.config.encoder_ffn_factor, model.config.conv_kernel_size) == (9, 2, 9)


def test_a_model_from_a_nemo_file_hears_what_nemo_hears(
    tmp_path: Path, members: Members, weights: dict[str, torch.Tensor]
) -> None:
    model = NemoHybridForASR.from_nemo(write(tmp_path / "model.nemo", members), **OPTIONS).eval()
    modules = nemo_modules()
    front_end = modules.AudioToMelSpectrogramPreprocessor(**{k: v for k, v in PREPROCESSOR.items() if k != "_target_"})
    encoder = modules.ConformerEncoder(**{k: v for k, v in ENCODER.items() if k != "_target_"})
    encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in weights.items() if k.startswith("encoder.")})
    waveform = torch.randn(1, 8000)
    with torch.no_grad():
        features, lengths = front_end.eval()(input_signal=waveform, length=torch.tensor([8000]))
        expected, _ = encoder.eval()(audio_signal=features, length=lengths)
        frames, _, _ = model.encode(waveform)
    assert torch.equal(frames, expected.transpose(1, 2)[:, : frames.shape[1]])


def test_options_may_set_what_the_file_leaves_open(tmp_path: Path, members: Members) -> None:
    path = write(tmp_path / "model.nemo", members)
    assert NemoHybridForASR.from_nemo(path, **OPTIONS, dropout=0.3, d_model=32).config.dropout == 0.3
    with pytest.raises(UserError) as caught:
        NemoHybridForASR.from_nemo(path, **OPTIONS, d_model=64, layers=3)
    assert "d_model is 64, but the file's encoder has 32" in str(caught.value)
    assert "no option 'layers'" in str(caught.value)


def test_nemos_own_defaults_stand_where_the_file_says_nothing(tmp_path: Path, members: Members) -> None:
    sections = yaml.safe_load(members["model_config.yaml"])
    for section, name in (("preprocessor", "n_fft"), ("preprocessor", "window_size"), ("encoder", "dropout_att")):
        del sections[section][name]
    members["model_config.yaml"] = yaml.safe_dump(sections).encode()
    fields = read_nemo_file(write(tmp_path / "model.nemo", members)).fields
    assert (fields["window_seconds"], fields["n_fft"], fields["attention_dropout"]) == (0.02, 512, 0.0)


def test_files_without_the_constant_filters_get_fresh_ones(
    tmp_path: Path, members: Members, weights: dict[str, torch.Tensor]
) -> None:
    members["model_weights.ckpt"] = saved({k: v for k, v in weights.items() if k.startswith("encoder.")})
    model = NemoHybridForASR.from_nemo(write(tmp_path / "model.nemo", members), **OPTIONS)
    assert torch.equal(model.preprocessor.featurizer.fb, weights["preprocessor.featurizer.fb"])


class Trap:
    """Unpickling this would run something."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return Path.touch, (Path("touched-by-a-checkpoint"),)


def without(name: str) -> Callable[[Members], Members]:
    return lambda members: {key: value for key, value in members.items() if key != name}


def config(content: bytes) -> Callable[[Members], Members]:
    return lambda members: members | {"model_config.yaml": content}


def checkpoint(content: bytes) -> Callable[[Members], Members]:
    return lambda members: members | {"model_weights.ckpt": content}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without("model_weights.ckpt"), "0 members model_weights.ckpt"),
        (without("model_config.yaml"), "0 members model_config.yaml"),
        (config(b"encoder: [1,"), "no YAML"),
        (config(b"\xff\xfe\x00"), "no YAML"),
        (config(b"- 1\n"), "without encoder and preprocessor"),
        (config(b"encoder: {d_model: 3}\n"), "without encoder and preprocessor"),
        (config(settings(encoder___target_="nemo.SqueezeformerEncoder")), "SqueezeformerEncoder"),
        (config(settings(encoder__att_context_size=[70, 1])), r"att_context_size is \[70, 1\]"),
        (config(settings(encoder__causal_downsampling=True)), "causal_downsampling"),
        (config(settings(preprocessor__log=False)), "preprocessor.log is False"),
        (config(settings(encoder__subsampling="vggnet")), "vggnet"),
        (config(settings(encoder__n_layers="two", preprocessor__features=None)), "2 problems"),
        (config(settings(encoder__n_layers=3)), "encoder.layers.2.* is missing"),
        (config(settings(encoder__n_layers=1)), "is not part of such an encoder"),
        (config(settings(encoder__conv_kernel_size=7)), r"expected \(32, 1, 7\)"),
        (checkpoint(b"not a checkpoint"), "cannot be read as tensors only"),
        (checkpoint(b""), "cannot be read as tensors only"),
        (checkpoint(saved({"encoder": Trap()})), "cannot be read as tensors only"),
        (checkpoint(saved([1, 2])), "no table of tensors"),
        (checkpoint(saved({"epoch": 3})), "no table of tensors"),
    ],
)
def test_damaged_and_foreign_files_are_refused(
    tmp_path: Path,
    members: Members,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Members], Members],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "model.nemo", damage(members))
    with pytest.raises(UserError, match=words):
        NemoHybridForASR.from_nemo(path, **OPTIONS)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.nemo"]


def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, members: Members, weights: dict[str, torch.Tensor]
) -> None:
    broken = weights | {"encoder.layers.0.norm_out.weight": torch.full((32,), float("nan"))}
    path = write(tmp_path / "model.nemo", members | {"model_weights.ckpt": saved(broken)})
    with pytest.raises(UserError, match="encoder.layers.0.norm_out.weight has values that are not finite"):
        NemoHybridForASR.from_nemo(path, **OPTIONS)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_file_cut_short_is_refused(tmp_path: Path, members: Members, mode: str) -> None:
    path = write(tmp_path / "model.nemo", members, mode)
    content = path.read_bytes()
    for size in (0, 100, 700, len(content) // 2):
        path.write_bytes(content[:size])
        with pytest.raises(UserError, match="a .nemo file of a CTC Conformer"):
            read_nemo_file(path)


def test_a_link_instead_of_weights_is_refused(tmp_path: Path, members: Members) -> None:
    path = tmp_path / "model.nemo"
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("model_config.yaml")
        entry.size = len(members["model_config.yaml"])
        archive.addfile(entry, io.BytesIO(members["model_config.yaml"]))
        link = tarfile.TarInfo("model_weights.ckpt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(UserError, match="no plain file"):
        read_nemo_file(path)


def test_a_wav_file_is_no_nemo_file(tmp_path: Path) -> None:
    path = tmp_path / "speech.nemo"
    path.write_bytes(b"RIFF" + bytes(2000))
    with pytest.raises(UserError, match="cannot be read as a tar") as caught:
        read_nemo_file(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["missing.nemo", "models/missing.nemo", "/nowhere/at/all", "plainname"])
def test_a_missing_file_is_named(source: str) -> None:
    with pytest.raises(UserError, match=source):
        find_nemo_file(source)


def test_a_hub_name_without_a_network_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as caught:
        find_nemo_file("nvidia/stt_en_conformer_ctc_small")
    assert "hf download nvidia/stt_en_conformer_ctc_small stt_en_conformer_ctc_small.nemo" in str(caught.value)


def test_a_hub_name_fetched_before_is_found_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "models--nvidia--small"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "small.nemo").write_bytes(b"x")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    assert find_nemo_file("nvidia/small") == snapshot / "small.nemo"
