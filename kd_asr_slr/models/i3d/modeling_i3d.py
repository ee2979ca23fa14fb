"""The landmark I3D. Dimension legend: see `kd_asr_slr.outputs`; D = `config.width`."""

from __future__ import annotations

import torch
from torch import nn

from kd_asr_slr.models.i3d.blocks import CrossStreamAttention, TemporalInception
from kd_asr_slr.models.i3d.configuration_i3d import LandmarkI3DConfig
from kd_asr_slr.models.parts.recogniser import CtcRecogniser
from kd_asr_slr.models.parts.streams import GatedFusion, StreamEncoders


class LandmarkI3DForCTC(CtcRecogniser):
    """Streams of landmarks through inflated-Inception blocks, attention between them, gates, BiLSTM, CTC head.

    Each stream: its columns, projected and normalised -> temporal Inception blocks. Then the streams of a frame attend
    to each other, are weighed by learned gates and joined, and go on as in every `CtcRecogniser`. The logits are raw;
    log-softmax is the loss's business. `fusion.gates()` says what the gates are.

    Example:
        >>> slices = {"hands": [0, 12], "pose": [12, 20]}
        >>> config = LandmarkI3DConfig(input_size=20, stream_slices=slices, hidden_size=32, vocab_size=9)
        >>> LandmarkI3DForCTC(config)(torch.randn(2, 40, 20)).logits.shape
        torch.Size([2, 10, 9])
    """

    config_class = LandmarkI3DConfig
    config: LandmarkI3DConfig
    base_model_prefix = "landmark_i3d"

    def __init__(self, config: LandmarkI3DConfig) -> None:
        super().__init__(config)
        streams, width = config.streams, config.stream_width
        self.encoders = StreamEncoders(streams, width, config.dropout)
        self.blocks = nn.ModuleDict({stream.name: self._blocks() for stream in streams})
        self.attention = CrossStreamAttention(width, config.attention_heads, config.dropout)
        self.fusion = GatedFusion(streams, width, config.width)
        self.build_recogniser()
        self.post_init()

    def _blocks(self) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList(
            TemporalInception(config.stream_width, config.block_kernels, config.dropout)
            for _ in range(config.num_blocks)
        )

    def embed(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """[B, T, F]: [B, T, D]."""
        streams = []
        for hidden, blocks in zip(self.encoders(features), self.blocks.values(), strict=True):
            for block in blocks.children():
                hidden = block(hidden, lengths)  # [B, T, W]
            streams.append(hidden)
        return self.fusion(self.attention(streams))
