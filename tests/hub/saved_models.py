"""Small models with their processors and their code, as a finished run leaves them, and media for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from kd_asr_slr.hub.custom_code import write_custom_code
from kd_asr_slr.models.auto import build_model
from kd_asr_slr.processing.base import RecogniserProcessor
from kd_asr_slr.processing.pieces import PieceTokenizer
from kd_asr_slr.processing.sign import SignFeatureExtractor, SignProcessor
from kd_asr_slr.processing.speech import SpeechFeatureExtractor, SpeechProcessor
from kd_asr_slr.processing.tokenization import LabelTokenizer

TEXTS = ["ZERO ONE TWO THREE", "REGEN MORGEN ÜBER"]
SMALL = {"hidden_size": 8, "num_layers": 1}
# name -> (model type, its options)
MODELS = {
    "bilstm": ("bilstm", {**SMALL, "stride": 2}),
    "i3d": ("i3d", {**SMALL, "stream_width": 8}),
    "mobilenet": ("mobilenet", {**SMALL, "stream_width": 8, "width_multiplier": 0.25}),
    "pieces": ("bilstm", {**SMALL, "stride": 2}),
    "nemo_hybrid": ("nemo_hybrid", {"encoder_layers": 1, "d_model": 16, "decoder_layers": 1}),
}
SIGN = ("i3d", "mobilenet")


def save(name: str, folder: Path) -> Path:
    """Save the model of that name with its processor, and the code of both."""
    kind, options = MODELS[name]
    processor = build_processor(name)
    tokenizer = processor.tokenizer
    fixed = {"vocab_size": len(tokenizer.tokens), "pad_token_id": tokenizer.blank_id}
    if name == "nemo_hybrid":
        fixed |= {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    else:
        fixed["input_size"] = processor.feature_size
    torch.manual_seed(0)
    model = build_model(kind, options, **fixed)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_custom_code(folder)
    return folder


def build_processor(name: str) -> RecogniserProcessor:
    decoder = name == "nemo_hybrid"
    if name == "pieces":
        tokenizer = PieceTokenizer.from_texts(TEXTS * 3, vocabulary_size=18)
    else:
        tokenizer = LabelTokenizer.from_texts(TEXTS, decoder_specials=decoder)
    if name in SIGN:
        return SignProcessor(SignFeatureExtractor(layout="raw"), tokenizer).fit(media_of(name))
    return SpeechProcessor(SpeechFeatureExtractor(kind="waveform" if decoder else "log_mel"), tokenizer)


def media_of(name: str) -> list[np.ndarray]:
    """Two utterances of different lengths: waveforms, or frames of features."""
    generator = np.random.default_rng(1)
    shapes = [(40, 12), (23, 12)] if name in SIGN else [(16000,), (9000,)]
    return [generator.standard_normal(shape).astype(np.float32) for shape in shapes]
