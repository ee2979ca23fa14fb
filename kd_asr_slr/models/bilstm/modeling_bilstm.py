"""Bidirectional LSTM with residuals and a CTC head. Dimension legend: see `kd_asr_slr.outputs`; D = `config.width`."""

from __future__ import annotations

import torch
from torch import nn

from kd_asr_slr.models.bilstm.configuration_bilstm import BiLstmConfig
from kd_asr_slr.models.parts.recogniser import CtcRecogniser


class BiLstmForCTC(CtcRecogniser):
    """Input projection and LayerNorm, then as every `CtcRecogniser`: convolutions, bidirectional LSTM, CTC head.

    Example:
        >>> model = BiLstmForCTC(BiLstmConfig(input_size=80, hidden_size=64, num_layers=2, stride=2, vocab_size=12))
        >>> model(torch.randn(3, 100, 80)).logits.shape
        torch.Size([3, 50, 12])
    """

    config_class = BiLstmConfig
    config: BiLstmConfig
    base_model_prefix = "bilstm"
    embeds_frames_alone = True

    def __init__(self, config: BiLstmConfig) -> None:
        super().__init__(config)
        width = config.width
        self.projection = nn.Linear(config.input_size, width)
        self.norm = nn.LayerNorm(width)
        self.build_recogniser()
        self.post_init()

    def embed(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """[B, T, F]: [B, T, D]."""
        return self.norm(self.projection(features))
