"""Encoder weights out of a `.nemo` file: a tar with model_config.yaml and model_weights.ckpt. Nothing is unpacked."""

from __future__ import annotations

import io
import lzma
import math
import pickle
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.models.nemo_hybrid.configuration_nemo_hybrid import NemoHybridConfig
from kd_asr_slr.models.options import option_problems

CONFIG_MEMBER, WEIGHTS_MEMBER = "model_config.yaml", "model_weights.ckpt"
LARGEST_MEMBER = {CONFIG_MEMBER: 2**24, WEIGHTS_MEMBER: 2**34}  # bytes
KEPT_PREFIXES = ("encoder.", "preprocessor.")
LISTED = 10  # problems with tensors named in one message

# NeMo's name of an option -> ours
PREPROCESSOR_FIELDS = {
    "sample_rate": "sampling_rate",
    "window_size": "window_seconds",
    "window_stride": "hop_seconds",
    "window": "window",
    "n_fft": "n_fft",
    "features": "num_mel_bins",
    "preemph": "preemphasis",
    "normalize": "normalisation",
}
ENCODER_FIELDS = {
    "n_layers": "encoder_layers",
    "d_model": "d_model",
    "n_heads": "encoder_heads",
    "ff_expansion_factor": "encoder_ffn_factor",
    "use_bias": "encoder_bias",
    "self_attention_model": "attention_model",
    "untie_biases": "untie_biases",
    "xscaling": "scale_inputs",
    "pos_emb_max_len": "max_source_positions",
    "subsampling": "subsampling_type",
    "subsampling_factor": "subsampling_factor",
    "subsampling_conv_channels": "subsampling_channels",
    "conv_kernel_size": "conv_kernel_size",
    "conv_norm_type": "conv_norm_type",
    "dropout": "dropout",
    "dropout_att": "attention_dropout",
}
# What weights do not depend on, so that the user may choose another value than the file's.
FREE_FIELDS = frozenset({"dropout", "attention_dropout", "max_source_positions", "dither"})
# Options that change what an encoder or a front end computes, and the values that `NemoHybridForASR` computes.
ONLY_VALUES: dict[str, dict[str, tuple[Any, ...]]] = {
    "encoder": {
        "reduction": (None,),
        "causal_downsampling": (False,),
        "att_context_style": ("regular",),
        "att_context_size": (None, [-1, -1], [[-1, -1]]),
        "conv_context_size": (None,),
        "global_tokens": (0,),
        "stochastic_depth_drop_prob": (0, 0.0),
    },
    "preprocessor": {
        "log": (True,),
        "frame_splicing": (1,),
        "exact_pad": (False,),
        "lowfreq": (0, 0.0),
        "highfreq": (None,),
        "mag_power": (2, 2.0),
        "mel_norm": ("slaney",),
    },
}


@dataclass(frozen=True)
class NemoCheckpoint:
    """What a `.nemo` file says about its encoder.

    Attributes:
        path: the file.
        fields: its front end and encoder as fields of `NemoHybridConfig`.
        weights: its state dict, the names as in the file.
    """

    path: Path
    fields: dict[str, Any]
    weights: dict[str, torch.Tensor]

    def with_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """The file's fields and the user's options together.

        Raises:
            UserError: if an option is unknown or contradicts the file, or a value is of another type.
        """
        raise_all(option_problems(NemoHybridConfig, self.fields), f"the encoder in {self.path}")
        problems = option_problems(NemoHybridConfig, options)
        problems += [
            f"{name} is {value!r}, but the file's encoder has {self.fields[name]!r}"
            for name, value in options.items()
            if name in self.fields and name not in FREE_FIELDS and value != self.fields[name]
        ]
        raise_all(problems, f"the options for {self.path}")
        return {**self.fields, **options}


def find_nemo_file(source: str | Path) -> Path:
    """The `.nemo` file of a path or of a name on the hub.

    Args:
        source: a file, or "organisation/model", whose file on the hub is `model.nemo`.

    Raises:
        UserError: if it is neither, or the hub cannot be reached.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    name = str(source)
    if name.endswith(".nemo") or name.count("/") != 1 or path.is_absolute() or name.startswith("."):
        raise UserError(
            f"no file {name}",
            expected="a .nemo file or a name on the hub",
            fix="e.g. nvidia/stt_en_conformer_ctc_small",
        )
    return _download(name)


def _download(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    filename = f"{name.split('/')[1]}.nemo"
    try:
        return Path(hf_hub_download(name, filename))
    except (OSError, HFValidationError) as error:  # no network, offline mode and hub errors are all OSErrors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{filename} of {name} is not in the hub's cache and could not be fetched ({reason.rstrip('.')})",
            expected="a network, or a file fetched before",
            fix=f"where there is a network, type `hf download {name} {filename}` and give the path it prints",
        ) from error


def read_nemo_file(path: str | Path) -> NemoCheckpoint:
    """Read a `.nemo` file without unpacking it or running anything in it.

    Args:
        path: the file.

    Raises:
        UserError: if it is no `.nemo` file, it is damaged, or its encoder is of a kind that cannot be built here.
    """
    path = Path(path)
    members = _read_members(path)
    settings = _parse_settings(members[CONFIG_MEMBER], path)
    return NemoCheckpoint(path, _fields_of(settings, path), _parse_weights(members[WEIGHTS_MEMBER], path))


def _refuse(path: Path, what: str) -> UserError:
    return UserError(
        f"{path} {what}",
        expected=f"a .nemo file of a CTC Conformer: a tar with {CONFIG_MEMBER} and {WEIGHTS_MEMBER}",
        fix="fetch it again, or save it again from NeMo with model.save_to(...)",
    )


def _read_members(path: Path) -> dict[str, bytes]:
    try:
        with tarfile.open(path, "r:*") as archive:
            return {name: _read_member(archive, name, path) for name in (CONFIG_MEMBER, WEIGHTS_MEMBER)}
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        first, *_ = str(error).splitlines() or [type(error).__name__]  # tarfile says a line for each compression
        raise _refuse(path, f"cannot be read as a tar ({first.rstrip(':')})") from error


def _read_member(archive: tarfile.TarFile, name: str, path: Path) -> bytes:
    found = [member for member in archive.getmembers() if member.name.removeprefix("./") == name]
    if len(found) != 1:
        raise _refuse(path, f"has {len(found)} members {name}")
    member = found[0]
    stream = archive.extractfile(member) if member.isfile() else None
    if stream is None:
        raise _refuse(path, f"has a member {name} that is no plain file")
    if member.size > LARGEST_MEMBER[name]:
        raise _refuse(path, f"has a member {name} of {member.size} bytes")
    content = stream.read()
    if len(content) != member.size:
        raise _refuse(path, f"ends in the middle of {name}")
    return content


def _parse_settings(content: bytes, path: Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _refuse(path, f"has a {CONFIG_MEMBER} that is no YAML") from error
    sections = [settings.get(name) if isinstance(settings, dict) else None for name in ("encoder", "preprocessor")]
    if not all(isinstance(section, dict) for section in sections):
        raise _refuse(path, f"has a {CONFIG_MEMBER} without encoder and preprocessor")
    return settings


def _parse_weights(content: bytes, path: Path) -> dict[str, torch.Tensor]:
    try:
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise _refuse(path, f"has a {WEIGHTS_MEMBER} that cannot be read as tensors only") from error
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise _refuse(path, f"has a {WEIGHTS_MEMBER} that is no table of tensors")
    return dict(weights)


def _fields_of(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """Translate NeMo's options; refuse those whose value changes what the encoder computes."""
    encoder, preprocessor = settings["encoder"], settings["preprocessor"]
    problems = [
        f"{section}.{name} is {settings[section][name]!r}, supported is {values[0]!r}"
        for section, only in ONLY_VALUES.items()
        for name, values in only.items()
        if name in settings[section] and settings[section][name] not in values
    ]
    for section, expected in (("encoder", "ConformerEncoder"), ("preprocessor", "AudioToMelSpectrogramPreprocessor")):
        target = str(settings[section].get("_target_", expected)).rpartition(".")[2]
        if target != expected:
            problems.append(f"its {section} is a {target}, supported is {expected}")
    fields = {ours: preprocessor[name] for name, ours in PREPROCESSOR_FIELDS.items() if name in preprocessor}
    fields |= {ours: encoder[name] for name, ours in ENCODER_FIELDS.items() if name in encoder}
    missing = [name for name in ("n_layers", "d_model") if name not in encoder]
    problems += [f"encoder.{name} is missing" for name in missing]
    raise_all(problems, f"the encoder in {path}")
    return _filled(fields)


def _filled(fields: dict[str, Any]) -> dict[str, Any]:
    """Put in NeMo's own defaults where they differ from ours, and our words for its special values."""
    fields = {"window_seconds": 0.02, "num_mel_bins": 64, "n_fft": None, "attention_dropout": 0.0} | fields
    if fields["n_fft"] is None:
        samples = fields["window_seconds"] * fields.get("sampling_rate", NemoHybridConfig.sampling_rate)
        fields["n_fft"] = 2 ** math.ceil(math.log2(samples))
    if fields.get("subsampling_channels") in (-1, None):
        fields["subsampling_channels"] = 0
    if fields.get("normalisation") in (None, "NA", "na", "none", "None") and "normalisation" in fields:
        fields["normalisation"] = "none"
    return fields


def load_encoder_weights(model: nn.Module, checkpoint: NemoCheckpoint) -> None:
    """Copy the weights of a `.nemo` file's front end and encoder into a model.

    Args:
        model: has `preprocessor` and `encoder` of the file's sizes.
        checkpoint: see `read_nemo_file`.

    Raises:
        UserError: if a tensor is missing, left over, of another shape or not finite.
    """
    wanted = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(KEPT_PREFIXES)}
    given = {name: tensor for name, tensor in checkpoint.weights.items() if name.startswith(KEPT_PREFIXES)}
    # A front end has no weights; older files do not store its constant window and filters.
    missing = [name for name in wanted.keys() - given.keys() if name.startswith("encoder.")]
    problems = [f"{name} is missing" for name in sorted(missing)]
    problems += [f"{name} is not part of such an encoder" for name in sorted(given.keys() - wanted.keys())]
    shared = sorted(wanted.keys() & given.keys())
    problems += [
        f"{name} is {tuple(given[name].shape)}, expected {tuple(wanted[name].shape)}"
        for name in shared
        if given[name].shape != wanted[name].shape
    ]
    problems += [f"{name} has values that are not finite" for name in shared if not given[name].isfinite().all()]
    listed = problems if len(problems) <= LISTED else [*problems[:LISTED], f"and {len(problems) - LISTED} more"]
    raise_all(listed, f"the weights in {checkpoint.path}")
    model.load_state_dict({name: given[name] for name in shared}, strict=False)
