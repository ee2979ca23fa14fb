"""Temporal convolutions between the embedding of a frame and the bidirectional LSTM."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from kd_asr_slr.models.parts.frames import divide_up, silence


@dataclass(frozen=True)
class FrontStep:
    """One convolution of a front.

    Attributes:
        kernel: frames it sees, an odd number.
        stride: input frames per output frame of the convolution.
        pool: frames of which the pooling behind it keeps the greatest value; 1: no pooling.
    """

    kernel: int
    stride: int = 1
    pool: int = 1


def read_front(text: str) -> list[FrontStep]:
    """The convolutions that a text like "k5p2k5p2" names: k is a convolution's kernel, p a pooling behind it.

    Raises:
        ValueError: with what is wrong.

    Source:
        The notation of Min et al. 2021, "Visual Alignment Constraint for Continuous Sign Language Recognition"
        (2104.02330), where K5-P2-K5-P2 is the proven front.

    Example:
        >>> read_front("k5p2")
        [FrontStep(kernel=5, stride=1, pool=2)]
    """
    letters = text.lower().replace("-", "").replace(",", "").replace(" ", "")
    if not re.fullmatch(r"(k\d+(p\d+)?)+", letters):
        raise ValueError("a text like k5p2k5p2 (k: kernel, p: pooling behind it)")
    steps = [FrontStep(int(k), pool=int(p or 1)) for k, p in re.findall(r"k(\d+)(?:p(\d+))?", letters)]
    if any(step.kernel % 2 == 0 for step in steps):
        raise ValueError("odd kernels")
    if any(step.pool < 1 for step in steps):
        raise ValueError("poolings of 1 frame or more")
    return steps


class ConvolutionFront(nn.Module):
    """Temporal convolutions that see padding as silence, so that a batch of one equals a padded batch.

    Each is masked before it reads, and normalised per frame (LayerNorm: BatchNorm would mix in padding and neighbours).
    Pooling sees valid frames only; an incomplete last window is kept, so frames are divided rounding up.

    Args:
        width: D, of input and output.
        steps: the convolutions in order.
        dropout: probability, on the output of every step.
    """

    def __init__(self, width: int, steps: Sequence[FrontStep], dropout: float) -> None:
        super().__init__()
        self.steps = tuple(steps)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, step.kernel, step.stride, padding=step.kernel // 2) for step in self.steps
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.steps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, T, D] and its lengths [B], shortened by strides and poolings."""
        for step, convolution, norm in zip(self.steps, self.convolutions, self.norms, strict=True):
            hidden = silence(hidden, lengths)
            hidden = convolution(hidden.transpose(1, 2)).transpose(1, 2)  # [B, ceil(T / stride), D]
            hidden = F.relu(norm(hidden))
            lengths = divide_up(lengths, step.stride)
            if step.pool > 1:
                hidden = _pool(hidden, lengths, step.pool)  # [B, ceil(T / pool), D]
                lengths = divide_up(lengths, step.pool)
            hidden = self.dropout(hidden)
        return hidden, lengths


def _pool(hidden: torch.Tensor, lengths: torch.Tensor, size: int) -> torch.Tensor:
    # Nothing is below 0 behind a ReLU, so zeros in the padding never win over a valid frame.
    hidden = silence(hidden, lengths).transpose(1, 2)
    return F.max_pool1d(hidden, size, ceil_mode=True).transpose(1, 2)
