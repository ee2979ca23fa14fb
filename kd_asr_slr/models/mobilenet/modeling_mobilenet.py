"""The landmark MobileNetV3. Dimension legend: see `kd_asr_slr.outputs`; D = `config.width`."""

from __future__ import annotations

import torch
from torch import nn

from kd_asr_slr.models.mobilenet.blocks import SmallTrunk
from kd_asr_slr.models.mobilenet.configuration_mobilenet import LandmarkMobileNetV3Config
from kd_asr_slr.models.parts.recogniser import CtcRecogniser
from kd_asr_slr.models.parts.streams import GatedFusion, StreamEncoders


class LandmarkMobileNetV3ForCTC(CtcRecogniser):
    """Streams of landmarks, joined by learned gates, MobileNetV3-Small blocks over time, BiLSTM, CTC head.

    What the blocks make of a frame is added to what the streams say of it, since the narrow first blocks of
    MobileNetV3 would otherwise let little of it through. `fusion.gates()` says what the gates are.

    Example:
        >>> config = LandmarkMobileNetV3Config(input_size=20, hidden_size=32, vocab_size=9, width_multiplier=0.5)
        >>> LandmarkMobileNetV3ForCTC(config)(torch.randn(2, 40, 20)).logits.shape
        torch.Size([2, 10, 9])
    """

    config_class = LandmarkMobileNetV3Config
    config: LandmarkMobileNetV3Config
    base_model_prefix = "landmark_mobilenet_v3"

    def __init__(self, config: LandmarkMobileNetV3Config) -> None:
        super().__init__(config)
        width = config.width
        self.encoders = StreamEncoders(config.streams, config.stream_width, config.dropout)
        self.fusion = GatedFusion(config.streams, config.stream_width, width)
        self.trunk = SmallTrunk(width, config.width_multiplier, config.dropout)
        self.norm = nn.LayerNorm(width)
        self.build_recogniser()
        self.post_init()

    def embed(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """[B, T, F]: [B, T, D]."""
        fused = self.fusion(self.encoders(features))
        return self.norm(fused + self.trunk(fused, lengths))
