"""NeMo's modules: imported late and quietly, built on the CPU, and mended where transformers would break them."""

from __future__ import annotations

import functools
import logging
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import nn
from transformers import initialization as init

from kd_asr_slr.models.nemo_hybrid.configuration_nemo_hybrid import NemoHybridConfig


@contextmanager
def _silence() -> Iterator[None]:
    """Keep banners off the terminal and leave warnings, logging and Python's random numbers as they were.

    NeMo's import takes over `warnings.showwarning` and draws random numbers, so a run that builds a NeMo model would
    otherwise shuffle differently from one that loads it.
    """
    level, state = logging.root.manager.disable, random.getstate()
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        random.setstate(state)


@functools.cache
def nemo_modules() -> ModuleType:
    """`nemo.collections.asr.modules`, imported on the first call (about 8 s) without a word on the terminal."""
    first = "nemo" not in sys.modules
    try:  # around the import itself: where this file travels with a model, transformers skips what stands in a try
        with _silence():
            import nemo.collections.asr.modules as modules
            from nemo.utils import logging as nemo_logging
    except ModuleNotFoundError as error:
        raise ImportError(
            f"this model is built around NeMo's Conformer, and there is no module {error.name}; "
            "type pip install 'nemo_toolkit[asr]'"
        ) from error
    if first:  # a program that already uses NeMo has set its logging itself
        nemo_logging.setLevel(nemo_logging.ERROR)
    return modules


def build_preprocessor(config: NemoHybridConfig) -> nn.Module:
    """NeMo's log-mel front end on the CPU: no dither outside of training, never more frames than the waveform has."""
    modules = nemo_modules()
    with torch.device("cpu"), _silence():
        preprocessor = modules.AudioToMelSpectrogramPreprocessor(
            sample_rate=config.sampling_rate,
            window_size=config.window_seconds,
            window_stride=config.hop_seconds,
            window=config.window,
            n_fft=config.n_fft,
            features=config.num_mel_bins,
            preemph=config.preemphasis,
            normalize=None if config.normalisation == "none" else config.normalisation,
            dither=config.dither,
            pad_to=0,
        )
    # NeMo hides a wrapper bound to this very object in the instance; a deep copy of the model would call the original.
    preprocessor.featurizer.__dict__.pop("forward", None)
    return preprocessor


def build_masks(config: NemoHybridConfig) -> nn.Module | None:
    """NeMo's SpecAugment on [B, F, frames], drawn from torch's random numbers; None where there are no masks."""
    if not config.time_masks and not config.freq_masks:
        return None
    with _silence():
        return nemo_modules().SpectrogramAugmentation(
            time_masks=config.time_masks,
            time_width=float(config.time_width),
            freq_masks=config.freq_masks,
            freq_width=config.freq_width,
        )


def build_encoder(config: NemoHybridConfig) -> nn.Module:
    """NeMo's ConformerEncoder on the CPU, whatever device is the default: its constructor fails on the meta device."""
    modules = nemo_modules()
    with torch.device("cpu"), _silence():
        encoder = modules.ConformerEncoder(
            feat_in=config.num_mel_bins,
            n_layers=config.encoder_layers,
            d_model=config.d_model,
            subsampling=config.subsampling_type,
            subsampling_factor=config.subsampling_factor,
            subsampling_conv_channels=config.subsampling_channels or -1,
            ff_expansion_factor=config.encoder_ffn_factor,
            self_attention_model=config.attention_model,
            n_heads=config.encoder_heads,
            xscaling=config.scale_inputs,
            untie_biases=config.untie_biases,
            pos_emb_max_len=config.max_source_positions,
            conv_kernel_size=config.conv_kernel_size,
            conv_norm_type=config.conv_norm_type,
            use_bias=config.encoder_bias,
            dropout=config.dropout,
            dropout_pre_encoder=config.dropout,
            dropout_emb=0.0,
            dropout_att=config.attention_dropout,
            # Every forward would wait for all processes; a teacher that only one of them calls would wait for ever.
            sync_max_audio_length=False,
        )
    return encoder.to(torch.get_default_dtype())  # some of NeMo's parameters are made as float32 in any case


def constant_buffers(preprocessor: nn.Module, encoder: nn.Module) -> list[str]:
    """Names of the buffers that are the same in every process; DDP need not send them before each forward.

    The positional encoding grows with the longest utterance a process has seen, so sending it could even fail.
    """
    names = [f"preprocessor.{name}" for name, _ in preprocessor.named_buffers()]
    return names + [f"encoder.{name}" for name, _ in encoder.named_buffers() if name.startswith("pos_enc.")]


def reset_module(module: Any, config: NemoHybridConfig) -> bool:
    """Give a module its initial values where loading has left uninitialised memory; loaded tensors stay as they are.

    Args:
        module: any module of the preprocessor, the encoder or the CTC head.
        config: the model's configuration.

    Returns:
        False where the module is none that is known here.
    """
    kind = type(module).__name__
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
        module.reset_parameters()  # torch's own, as NeMo does; within transformers' loading it spares loaded tensors
    elif kind in ("RelPositionalEncoding", "PositionalEncoding"):
        _rebuild_positions(module, config.max_source_positions)
    elif kind == "FilterbankFeatures":
        fresh: Any = build_preprocessor(config).featurizer
        init.copy_(module.fb, fresh.fb)
        init.copy_(module.window, fresh.window)
    elif isinstance(getattr(module, "pos_bias_u", None), nn.Parameter):
        init.zeros_(module.pos_bias_u)
        init.zeros_(module.pos_bias_v)
    else:
        return False
    return True


def _rebuild_positions(encoding: Any, length: int) -> None:
    """Compute the positional encoding anew: it is saved nowhere, and loading leaves memory of the right shape only."""
    device, dtype = encoding.pe.device, encoding.pe.dtype
    if device.type == "meta":
        return
    del encoding.pe
    with torch.device("cpu"):  # always there, so that every machine gets the same bits
        encoding.extend_pe(length, torch.device("cpu"), torch.float32)
    encoding.pe = encoding.pe.to(device=device, dtype=dtype)
