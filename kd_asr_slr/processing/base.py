"""What every feature extractor and processor of this package shares.

A processor is what is saved beside a model: a feature extractor (media of an utterance -> model input) and a tokenizer.
`foreign.ForeignProcessor` has the same properties around a processor of transformers itself.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from transformers import BatchFeature, ProcessorMixin
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor

from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.tokenization import LabelTokenizer


def configuration_fingerprint(configuration: Mapping[str, Any]) -> str:
    """Name a feature configuration by its content, fitted statistics included.

    Args:
        configuration: what decides the features; numbers, strings, lists of them.

    Returns:
        The first 16 hexadecimal digits of a SHA-256.
    """
    content = json.dumps(configuration, sort_keys=True, default=repr)
    return hashlib.sha256(content.encode("utf-8")).hexdigest()[:16]


class UtteranceExtractor(SequenceFeatureExtractor):
    """Base of our feature extractors: `extract` treats one utterance, so a batch cannot change its result.

    Subclasses name in `decisive` the settings that decide the features; their values make the fingerprint.
    """

    decisive: tuple[str, ...]
    input_name = "input_features"
    frame_seconds: float
    needs_fitting = False

    @property
    def model_input_names(self) -> list[str]:
        """Names of what a call returns."""
        return [self.input_name, "attention_mask"]

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the features."""
        settings = {name: getattr(self, name) for name in self.decisive}
        return configuration_fingerprint({"extractor": type(self).__name__, **settings})

    @abstractmethod
    def extract(self, media: np.ndarray) -> np.ndarray:
        """Model input of one utterance: [T, F], or [S] for waveforms."""

    def read_frames(self, media: np.ndarray) -> np.ndarray:
        """What augmentations of the media work on; `extract_frames` makes features of it."""
        return media

    def extract_frames(self, frames: np.ndarray) -> np.ndarray:
        """Model input of what `read_frames` gave, augmented or not."""
        return self.extract(frames)

    def fit(self, utterances: Iterable[np.ndarray]) -> UtteranceExtractor:
        """Fit statistics on the training split; nothing to do unless `needs_fitting`."""
        del utterances
        return self

    def __call__(
        self,
        media: np.ndarray | Sequence[np.ndarray],
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        padding: bool | str = True,
        return_attention_mask: bool = True,
    ) -> BatchFeature:
        """Extract and pad, as transformers' own extractors do.

        Args:
            media: one utterance, or a list of them.
            sampling_rate: in Hz; compared with the extractor's.
            return_tensors: "pt", "np" or None.
            padding: see `SequenceFeatureExtractor.pad`.
            return_attention_mask: whether to return it.
        """
        if sampling_rate is not None and self.sampling_rate and sampling_rate != self.sampling_rate:
            raise UserError(f"audio of {sampling_rate} Hz", f"{self.sampling_rate} Hz", fix="resample it")
        utterances = [media] if isinstance(media, np.ndarray) else list(media)
        inputs = BatchFeature({self.input_name: [self.extract(np.asarray(item)) for item in utterances]})
        return self.pad(
            inputs, padding=padding, return_attention_mask=return_attention_mask, return_tensors=return_tensors
        )


class RecogniserProcessor(ProcessorMixin):
    """A feature extractor and a label tokenizer, saved in one folder beside the model.

    Args:
        feature_extractor: ours, for speech or for sign.
        tokenizer: the labels.
    """

    def __init__(self, feature_extractor: UtteranceExtractor, tokenizer: LabelTokenizer) -> None:
        super().__init__(feature_extractor, tokenizer)

    @property
    def input_name(self) -> str:
        """ "input_features" or "input_values"."""
        return self.feature_extractor.input_name

    @property
    def feature_size(self) -> int:
        """Values a frame: F; 1 for waveforms."""
        return self.feature_extractor.feature_size

    @property
    def sampling_rate(self) -> int | None:
        """Hz of the audio it takes; None for sign."""
        return self.feature_extractor.sampling_rate or None

    @property
    def frame_seconds(self) -> float:
        """Seconds between two input frames (sign of unknown frame rate: 1.0, a frame of the video)."""
        return self.feature_extractor.frame_seconds

    @property
    def fingerprint(self) -> str:
        """Hash of the feature configuration with its fitted statistics (the vocabulary has its own)."""
        return self.feature_extractor.fingerprint

    @property
    def needs_fitting(self) -> bool:
        """Whether `fit` has to see the training split before anything can be extracted."""
        return self.feature_extractor.needs_fitting

    @property
    def tokens(self) -> list[str]:
        """The vocabulary, in index order."""
        return self.tokenizer.tokens

    @property
    def blank_id(self) -> int:
        """Index of the CTC blank."""
        return self.tokenizer.blank_id

    def fit(self, utterances: Iterable[np.ndarray]) -> RecogniserProcessor:
        """Fit the features' statistics on the training split, where there are any.

        Args:
            utterances: media of each training utterance; read once, one at a time.
        """
        self.feature_extractor.fit(utterances)
        return self

    def extract(self, media: np.ndarray) -> np.ndarray:
        """Model input of one utterance: [T, F], or [S] for waveforms; float32."""
        return self.feature_extractor.extract(media)

    def encode_labels(self, text: str, unknown: str = "error") -> list[int]:
        """See `LabelTokenizer.encode_labels`."""
        return self.tokenizer.encode_labels(text, unknown)

    def decode_labels(self, ids: Iterable[int]) -> str:
        """See `LabelTokenizer.decode_labels`."""
        return self.tokenizer.decode_labels(ids)

    def __call__(
        self,
        media: np.ndarray | Sequence[np.ndarray] | None = None,
        text: str | Sequence[str] | None = None,
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Features of one or several utterances, labels of one or several transcripts, or both.

        Args:
            media: as for the feature extractor.
            text: becomes `labels`, as lists of indices.
            sampling_rate: in Hz, for audio.
            return_tensors: "pt", "np" or None, for the features.
        """
        if media is None and text is None:
            raise ValueError("give media, text, or both")
        output = BatchFeature()
        if media is not None:
            output = self.feature_extractor(media, sampling_rate=sampling_rate, return_tensors=return_tensors)
        if text is not None:
            texts = [text] if isinstance(text, str) else text
            output["labels"] = [self.encode_labels(item) for item in texts]
        return output
