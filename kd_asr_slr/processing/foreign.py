"""Processors of transformers itself (Wav2Vec2Processor, ParakeetProcessor, ...) behind the interface of ours."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
from transformers import FeatureExtractionMixin, PreTrainedTokenizerBase

from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.base import RecogniserProcessor, configuration_fingerprint
from kd_asr_slr.processing.tokenization import token_list, unknown_labels

# Part of a saved configuration, but without influence on the features.
_NOT_DECISIVE = ("processor_class", "auto_map", "_commit_hash", "name_or_path", "return_attention_mask")
# SeamlessM4TFeatureExtractor (Wav2Vec2-BERT) has no attribute for its fixed 10 ms.
_SEAMLESS_HOP_SECONDS = 0.010


class ForeignProcessor:
    """A feature extractor and a CTC tokenizer that transformers ships, with the properties of `RecogniserProcessor`.

    Args:
        processor: anything with `feature_extractor`, `tokenizer` and `save_pretrained`.

    Raises:
        UserError: if it has no audio feature extractor or no tokenizer, or its vocabulary cannot serve CTC.
    """

    needs_fitting = False

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.feature_extractor: Any = getattr(processor, "feature_extractor", None)
        self.tokenizer: Any = getattr(processor, "tokenizer", None)
        if not isinstance(self.feature_extractor, FeatureExtractionMixin) or not isinstance(
            self.tokenizer, PreTrainedTokenizerBase
        ):
            raise UserError(f"a {type(processor).__name__}", "a processor with a feature extractor and a tokenizer")
        self.tokens, self.blank_id = token_list(self.tokenizer)
        # Not `all_special_ids`: for Wav2Vec2CTCTokenizer that has the "|" between words.
        tokenizer = self.tokenizer
        self._specials = {self.blank_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}

    @property
    def input_name(self) -> str:
        """ "input_features" or "input_values"."""
        return self.feature_extractor.model_input_names[0]

    @property
    def sampling_rate(self) -> int:
        """Hz of the audio it takes."""
        return self.feature_extractor.sampling_rate

    @property
    def feature_size(self) -> int:
        """Values a frame: F; 1 for waveforms."""
        return self.feature_extractor.feature_size * getattr(self.feature_extractor, "stride", 1)

    @property
    def frame_seconds(self) -> float:
        """Seconds between two input frames; for waveforms, between two samples.

        Raises:
            UserError: if the extractor does not say what lies between two frames.
        """
        extractor = self.feature_extractor
        if self.input_name == "input_values":
            return 1 / extractor.sampling_rate
        if hasattr(extractor, "hop_length"):
            return extractor.hop_length / extractor.sampling_rate
        if hasattr(extractor, "stride"):
            return _SEAMLESS_HOP_SECONDS * extractor.stride
        raise UserError(f"a {type(extractor).__name__}", "one whose time between frames is known (hop_length)")

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the feature configuration."""
        settings = self.feature_extractor.to_dict()
        return configuration_fingerprint({key: settings[key] for key in settings if key not in _NOT_DECISIVE})

    def fit(self, utterances: Iterable[np.ndarray]) -> ForeignProcessor:
        """Nothing to fit."""
        del utterances
        return self

    def extract(self, media: np.ndarray) -> np.ndarray:
        """Model input of one utterance: [T, F], or [S] for waveforms; float32, valid frames only.

        Args:
            media: mono waveform [S] at `sampling_rate`.
        """
        waveform = np.array(media, dtype=np.float32)
        inputs = self.feature_extractor(
            waveform, sampling_rate=self.sampling_rate, return_tensors="pt", return_attention_mask=True
        )
        values = inputs[self.input_name][0]  # [T, F] or [S]
        mask = inputs.get("attention_mask")
        frames = len(values) if mask is None else int(mask[0].sum())
        return values[:frames].numpy().astype(np.float32, copy=False)

    def encode_labels(self, text: str, unknown: str = "error") -> list[int]:
        """Indices of the labels of one transcript, without special tokens.

        Args:
            text: a transcript, normalised already.
            unknown: "error", or "drop".

        Raises:
            UserError: naming the pieces outside the vocabulary, unless they are to be dropped.
        """
        pieces = self.tokenizer.tokenize(text)
        ids = self.tokenizer.convert_tokens_to_ids(pieces)
        outside = {None, self.tokenizer.unk_token_id}
        missing = sorted({piece for piece, index in zip(pieces, ids, strict=True) if index in outside})
        if missing and unknown == "error":
            raise unknown_labels(text, missing, len(self.tokens))
        return [index for index in ids if index not in outside]

    def decode_labels(self, ids: Iterable[int]) -> str:
        """Text of a label sequence whose repeats and blanks are collapsed already; special tokens are dropped."""
        kept = [int(index) for index in ids if int(index) not in self._specials]
        # CTC tokenizers collapse repeats themselves, which would make LL out of a decoded L L.
        groups = "group_tokens" in inspect.signature(type(self.tokenizer)._decode).parameters
        options = {"group_tokens": False} if groups else {}
        return self.tokenizer.decode(kept, clean_up_tokenization_spaces=False, **options)

    def save_pretrained(self, folder: str) -> None:
        """Save the wrapped processor."""
        self.processor.save_pretrained(folder)


def wrap_processor(processor: Any) -> RecogniserProcessor | ForeignProcessor:
    """Give any transformers CTC processor the interface of ours; ours are returned as they are.

    Args:
        processor: e.g. a `Wav2Vec2Processor`.

    Raises:
        UserError: if it is no processor for CTC on audio.
    """
    return processor if isinstance(processor, (RecogniserProcessor, ForeignProcessor)) else ForeignProcessor(processor)
