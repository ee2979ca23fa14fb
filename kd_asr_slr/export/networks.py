"""The part of a recogniser that is exported, and what makes its input where that is not the recogniser's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from kd_asr_slr.export.formats import CtcNetwork
from kd_asr_slr.export.mel import MelFrontEnd, front_end_of
from kd_asr_slr.models.nemo_hybrid.modeling_nemo_hybrid import NemoHybridForASR
from kd_asr_slr.models.parts.frames import blank_padding


class HybridCtcNetwork(nn.Module):
    """The encoder of a NeMo hybrid with its CTC head, from log-mel features [B, T, F] and their mask [B, T].

    Args:
        model: in eval mode.
    """

    def __init__(self, model: NemoHybridForASR) -> None:
        super().__init__()
        self.encoder, self.ctc_head = model.encoder, model.ctc_head
        self.blank: int = model.config.pad_token_id
        self.eval()

    def forward(self, features: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Recognise a batch: logits [B, T', V] and their lengths [B]."""
        frames, lengths = self.encoder(audio_signal=features.transpose(1, 2), length=attention_mask.sum(-1))
        return blank_padding(self.ctc_head(frames.transpose(1, 2)), lengths, self.blank), lengths


@dataclass(frozen=True)
class Exported:
    """What is exported of a model.

    Attributes:
        network: from inputs and mask to logits and lengths.
        input_name: of its input, "input_features" or "input_values".
        front_end: makes its input of a waveform, outside of the exported file; None where the network takes what the
            model takes.
        longest: input frames that it has positions for; None where any number will do.
    """

    network: nn.Module
    input_name: str
    front_end: MelFrontEnd | None = None
    longest: int | None = None

    def feed(self, inputs: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The network's input and mask, of the model's."""
        return self.front_end.of_batch(inputs, mask) if self.front_end else (inputs, mask)

    def example(self, inputs: np.ndarray, mask: np.ndarray) -> dict[str, torch.Tensor]:
        """The first two utterances of a batch (the same twice, where there is one) as the exporter wants them."""
        rows = [0, min(1, len(mask) - 1)]  # a batch of one would be taken as one for ever
        values = self.feed(inputs[rows], mask[rows])
        return dict(zip((self.input_name, "attention_mask"), map(torch.from_numpy, values), strict=True))


def exported_part(model: PreTrainedModel, input_name: str) -> Exported:
    """The part of a model that is exported: the encoder and the CTC head of a hybrid, else the whole network.

    Args:
        model: any recogniser of the toolkit, in eval mode, on the CPU.
        input_name: of its own input.
    """
    if isinstance(model, NemoHybridForASR):
        return Exported(
            HybridCtcNetwork(model), "input_features", front_end_of(model), model.config.max_source_positions
        )
    return Exported(CtcNetwork(model), input_name)
