"""What models and teachers hand to the losses.

Dimension legend, used in every docstring and comment of the package:
    B utterances in a batch        T frames at the model's output rate
    U labels of an utterance       V vocabulary size (the blank included)
    D width of a hidden state      K teachers
    S waveform samples             F features a frame
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


@dataclass
class CTCOutput(ModelOutput):
    """Output of a CTC model.

    Attributes:
        loss: scalar; mean CTC loss, only where labels were given.
        logits: [B, T, V], raw; nobody has applied a log-softmax to them.
        logit_lengths: [B], valid frames of each utterance.
        hidden_states: one [B, T, D] per layer, only where asked for.
        auxiliary_logits: [B, T, V], raw, of a second classifier below the recurrent layers; only of networks that
            have one (`config.auxiliary_classifier`).
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    logit_lengths: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    auxiliary_logits: torch.Tensor | None = None


@dataclass
class HybridOutput(CTCOutput):
    """Output of a CTC + attention model: a `CTCOutput` and the decoder, teacher-forced on the labels.

    Attributes:
        decoder_logits: [B, U+1, V], raw; position u predicts label u, position U the end of sequence.
        decoder_lengths: [B], valid decoder positions of each utterance (its labels + 1).
    """

    decoder_logits: torch.Tensor | None = None
    decoder_lengths: torch.Tensor | None = None


@dataclass
class TeacherSignal:
    """What the teachers say of one batch; a live teacher and a cached one give the same type.

    All distributions are log-probabilities at temperature 1, already combined over teachers.

    Attributes:
        log_probs: [B, T, V], float32, each valid frame sums to 1 in probability.
        lengths: [B], valid frames of each utterance.
        vocabulary: fingerprint of the token list (see `processing.tokenization`).
        frame_seconds: seconds between two frames (sign corpora: frames of the input video per output
            frame, where the video's rate is unknown).
        weight: [B], 1 where a teacher speaks for the utterance, 0 where none may (policy "skip").
        decoder_log_probs: [B, U+1, V] of teachers that have a decoder, else None.
        decoder_lengths: [B], valid decoder positions.
        hidden_states: layer index -> [B, T, D], only where a loss asked for it.
    """

    log_probs: torch.Tensor
    lengths: torch.Tensor
    vocabulary: str
    frame_seconds: float
    weight: torch.Tensor
    decoder_log_probs: torch.Tensor | None = None
    decoder_lengths: torch.Tensor | None = None
    hidden_states: dict[int, torch.Tensor] | None = None
