"""Arguments about the network and its labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kd_asr_slr.arguments.fields import at_least, one_of, option


@dataclass
class ModelArguments:
    """Which network, from which weights, hearing or seeing what, writing which labels."""

    model: str = option("bilstm", "a type to build (bilstm, nemo_hybrid), or a run folder or hub name to start from")
    model_revision: str | None = option(None, "revision of a hub name")
    model_options: dict[str, Any] | str | None = option(None, "options of the model's configuration, as JSON")
    pretrained_encoder: str | None = option(
        None, "encoder weights of a model to build: a .nemo file, or a NeMo name on the hub (nemo_hybrid)"
    )
    features: str | None = option(
        None,
        "log_mel or waveform for speech, raw or a landmark layout (mediapipe_holistic, coco_wholebody, ...) for sign; "
        "default: what the model takes",
    )
    feature_options: dict[str, Any] | str | None = option(None, "options of the feature extractor, as JSON")
    tokenizer_kind: str = option("words", "labels are words (or glosses), characters, or pieces (SentencePiece)")
    vocabulary_size: int | None = option(None, "pieces: how many tokens, blank and special tokens included")
    piece_algorithm: str = option("unigram", "pieces: unigram or bpe")
    vocabulary: str | None = option(
        None,
        "a word list (one label a line), a SentencePiece .model or SpeechBrain's tokenizer.ckpt, a run folder to share "
        "labels with, or glosses as cleaned, raw or vac1296; default: the training transcripts",
    )

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        found = one_of("tokenizer_kind", self.tokenizer_kind, ("words", "characters", "pieces"))
        found += one_of("piece_algorithm", self.piece_algorithm, ("unigram", "bpe"))
        if self.tokenizer_kind == "pieces":
            if self.vocabulary_size is None and self.vocabulary is None:
                found.append("tokenizer_kind pieces needs a size; set --vocabulary_size N, or --vocabulary FILE.model")
        elif self.vocabulary_size is not None:
            found.append(
                f"vocabulary_size is {self.vocabulary_size} and tokenizer_kind '{self.tokenizer_kind}' has no use for "
                "it; set --tokenizer_kind pieces"
            )
        return found + (at_least(self, 2, "vocabulary_size") if self.vocabulary_size is not None else [])
