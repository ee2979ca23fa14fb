"""The table of networks: built from options, or read from a folder or the hub.

Importing this module registers the toolkit's networks with transformers, so that `AutoConfig` and `AutoModelForCTC`
read their folders. It imports no NeMo.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, AutoModelForCTC, PreTrainedConfig, PreTrainedModel

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.models.forward import frame_ratio
from kd_asr_slr.models.loading import read_model
from kd_asr_slr.models.options import option_problems

__all__ = ["MODELS", "ModelEntry", "build_model", "frame_ratio", "load_model", "register_models", "takes_waveform"]


@dataclass(frozen=True)
class ModelEntry:
    """Where a network's classes are, as "module:class", and what the rest of the toolkit must know before building it.

    Attributes:
        config: its configuration.
        model: the network itself.
        has_decoder: it has an attention decoder, so its tokenizer needs begin and end of sequence.
        waveform: it takes waveforms (`input_values`) instead of features (`input_features`).
    """

    config: str
    model: str
    has_decoder: bool = False
    waveform: bool = False

    @property
    def config_class(self) -> type[PreTrainedConfig]:
        """The configuration's class, imported now."""
        return _import(self.config)

    @property
    def model_class(self) -> type[PreTrainedModel]:
        """The network's class, imported now."""
        return _import(self.model)


_HERE = "kd_asr_slr.models"
MODELS: dict[str, ModelEntry] = {
    "bilstm": ModelEntry(
        f"{_HERE}.bilstm.configuration_bilstm:BiLstmConfig", f"{_HERE}.bilstm.modeling_bilstm:BiLstmForCTC"
    ),
    "i3d": ModelEntry(
        f"{_HERE}.i3d.configuration_i3d:LandmarkI3DConfig", f"{_HERE}.i3d.modeling_i3d:LandmarkI3DForCTC"
    ),
    "mobilenet": ModelEntry(
        f"{_HERE}.mobilenet.configuration_mobilenet:LandmarkMobileNetV3Config",
        f"{_HERE}.mobilenet.modeling_mobilenet:LandmarkMobileNetV3ForCTC",
    ),
    "nemo_hybrid": ModelEntry(
        f"{_HERE}.nemo_hybrid.configuration_nemo_hybrid:NemoHybridConfig",
        f"{_HERE}.nemo_hybrid.modeling_nemo_hybrid:NemoHybridForASR",
        has_decoder=True,
        waveform=True,
    ),
}


def build_model(
    model_type: str, options: Mapping[str, Any] | None = None, pretrained: str | None = None, **fixed: Any
) -> PreTrainedModel:
    """A network with new weights, around a pretrained encoder where one is given.

    Args:
        model_type: a name in `MODELS`.
        options: fields of its configuration, as the user gave them.
        pretrained: where the encoder's weights come from, for networks with a `from_nemo`: a `.nemo` file or hub name.
        **fixed: fields that follow from the data (`vocab_size`, `pad_token_id`, `input_size`, ...).

    Raises:
        UserError: for an unknown name, an unknown option or a value that cannot be used; all options at once.

    Example:
        >>> build_model("bilstm", {"hidden_size": 128, "stride": 2}, input_size=80, vocab_size=11, pad_token_id=0)
    """
    entry = _entry(model_type)
    options = dict(options or {})
    raise_all(option_problems(entry.config_class, options, reserved=fixed), f"the options of model '{model_type}'")
    if pretrained is None:
        return entry.model_class(entry.config_class(**options, **fixed))
    if not hasattr(entry.model_class, "from_nemo"):
        raise UserError(f"model '{model_type}' takes no pretrained encoder", fix="leave out --pretrained_encoder")
    return entry.model_class.from_nemo(pretrained, **options, **fixed)


def load_model(path_or_name: str, revision: str | None = None) -> PreTrainedModel:
    """A trained CTC network from a folder or the hub, in float32 and in eval mode.

    Args:
        path_or_name: a folder that `save_pretrained` wrote, or a name on the hub, with or without "@REVISION".
        revision: commit, tag or branch of a hub name.

    Raises:
        UserError: if there is no such network, it is no CTC network, its weights are missing, incomplete, damaged,
            pickled (reading them can run code) or not finite.
    """
    return read_model(str(path_or_name), revision)


def takes_waveform(model_type: str) -> bool:
    """Whether a network of `MODELS` takes waveforms (`input_values`) instead of features (`input_features`)."""
    return _entry(model_type).waveform


def register_models() -> None:
    """Make `AutoConfig` and `AutoModelForCTC` know the networks of `MODELS`; harmless when called again."""
    for entry in MODELS.values():
        AutoConfig.register(entry.config_class.model_type, entry.config_class, exist_ok=True)
        AutoModelForCTC.register(entry.config_class, entry.model_class, exist_ok=True)


def _entry(model_type: str) -> ModelEntry:
    if model_type not in MODELS:
        raise UserError(
            f"there is no model '{model_type}' to build", expected=" or ".join(MODELS), fix="set --model to one of them"
        )
    return MODELS[model_type]


def _import(place: str) -> Any:
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


register_models()
