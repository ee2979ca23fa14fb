"""MobileNetV3's blocks over time. C is a block's width, E its expanded width."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from kd_asr_slr.models.parts.frames import silence


@dataclass(frozen=True)
class BlockShape:
    """One row of MobileNetV3's table.

    Attributes:
        kernel: frames the depthwise convolution sees.
        expanded: E.
        width: C of the output.
        squeezes: it has squeeze-and-excitation.
        hard_swish: its activation; else ReLU.
    """

    kernel: int
    expanded: int
    width: int
    squeezes: bool
    hard_swish: bool


STEM_WIDTH, LAST_WIDTH = 16, 576
# Table 2 of the paper, without the strides: they halve an image, and time is shortened in the front.
SMALL = (
    BlockShape(3, 16, 16, True, False),
    BlockShape(3, 72, 24, False, False),
    BlockShape(3, 88, 24, False, False),
    BlockShape(5, 96, 40, True, True),
    BlockShape(5, 240, 40, True, True),
    BlockShape(5, 240, 40, True, True),
    BlockShape(5, 120, 48, True, True),
    BlockShape(5, 144, 48, True, True),
    BlockShape(5, 288, 96, True, True),
    BlockShape(5, 576, 96, True, True),
    BlockShape(5, 576, 96, True, True),
)


def scaled(width: float) -> int:
    """The nearest multiple of 8 that is no more than a tenth smaller, as MobileNet rounds its widths; at least 8.

    Example:
        >>> [scaled(width) for width in (3, 24, 36, 44)]
        [8, 24, 40, 48]
    """
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


class SqueezeExcite(nn.Module):
    """Channels weighed by what the utterance says on average, over its valid frames only.

    Source:
        Hu et al. 2018 (1709.01507), with a quarter of the channels and a hard sigmoid as in MobileNetV3.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        squeezed = scaled(width / 4)
        self.squeeze = nn.Linear(width, squeezed)
        self.excite = nn.Linear(squeezed, width)

    def forward(self, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """[B, T, E] and its lengths [B]: [B, T, E]."""
        frames = lengths.clamp(min=1)[:, None].to(hidden.dtype)
        mean = silence(hidden, lengths).sum(1) / frames  # [B, E]
        weight = F.hardsigmoid(self.excite(F.relu(self.squeeze(mean))))
        return hidden * weight[:, None]


class InvertedResidual(nn.Module):
    """Expand, convolve each channel over time, squeeze and excite, project; with a residual where widths agree.

    LayerNorm per frame stands where MobileNetV3 has BatchNorm, which would mix in padding and neighbours.

    Args:
        width: C of the input.
        shape: of the block, its widths multiplied already.
        dropout: probability, on what is added to the input.

    Source:
        Howard et al. 2019, "Searching for MobileNetV3" (1905.02244), figure 4.
    """

    def __init__(self, width: int, shape: BlockShape, dropout: float) -> None:
        super().__init__()
        self.residual = width == shape.width
        self.activation = F.hardswish if shape.hard_swish else F.relu
        self.expand = nn.Linear(width, shape.expanded)
        self.expand_norm = nn.LayerNorm(shape.expanded)
        # Over an image of height 1: torch's depthwise Conv1d takes 2 to 14 times as long on a CPU.
        reach = (0, shape.kernel // 2)
        self.depthwise = nn.Conv2d(
            shape.expanded, shape.expanded, (1, shape.kernel), padding=reach, groups=shape.expanded
        )
        self.depthwise_norm = nn.LayerNorm(shape.expanded)
        self.squeeze_excite = SqueezeExcite(shape.expanded) if shape.squeezes else None
        self.project = nn.Linear(shape.expanded, shape.width)
        self.project_norm = nn.LayerNorm(shape.width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """[B, T, C] and its lengths [B]: [B, T, C of the output]."""
        inner = silence(self.activation(self.expand_norm(self.expand(hidden))), lengths)  # [B, T, E]
        inner = self.depthwise(inner.transpose(1, 2)[:, :, None])[:, :, 0].transpose(1, 2)
        inner = self.activation(self.depthwise_norm(inner))
        if self.squeeze_excite is not None:
            inner = self.squeeze_excite(inner, lengths)
        projected = self.project_norm(self.project(inner))  # [B, T, C]
        return hidden + self.dropout(projected) if self.residual else projected


class SmallTrunk(nn.Module):
    """The blocks of MobileNetV3-Small with the pointwise layers before and behind them.

    Args:
        width: D, of input and output.
        multiplier: times the widths of the table.
        dropout: probability.
    """

    def __init__(self, width: int, multiplier: float, dropout: float) -> None:
        super().__init__()
        rows = [
            BlockShape(row.kernel, scaled(row.expanded * multiplier), scaled(row.width * multiplier), *flags(row))
            for row in SMALL
        ]
        stem, last = scaled(STEM_WIDTH * multiplier), scaled(LAST_WIDTH * multiplier)
        widths = [stem, *(row.width for row in rows)]
        self.stem = nn.Linear(width, stem)
        self.stem_norm = nn.LayerNorm(stem)
        self.blocks = nn.ModuleList(InvertedResidual(w, row, dropout) for w, row in zip(widths, rows, strict=False))
        self.last = nn.Linear(widths[-1], last)
        self.last_norm = nn.LayerNorm(last)
        self.output = nn.Linear(last, width)

    def forward(self, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """[B, T, D] and its lengths [B]: [B, T, D]."""
        hidden = F.hardswish(self.stem_norm(self.stem(hidden)))
        for block in self.blocks:
            hidden = block(hidden, lengths)
        return self.output(F.hardswish(self.last_norm(self.last(hidden))))


def flags(row: BlockShape) -> tuple[bool, bool]:
    """Whether a block squeezes, and whether its activation is the hard swish."""
    return row.squeezes, row.hard_swish
