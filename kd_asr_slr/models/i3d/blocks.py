"""Inception blocks over time, and attention between streams. W is the width of a stream, N the number of streams."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from kd_asr_slr.models.parts.frames import silence, valid_frames


class TemporalInception(nn.Module):
    """Inception's parallel branches over time, with a residual: pointwise, one convolution a kernel, pooled.

    Every branch sees padding as absent: the convolutions as silence, the pooling not at all.

    Args:
        width: W, of input and output; the branches share it.
        kernels: frames that the convolutions see.
        dropout: probability, on what is added to the input.

    Source:
        Szegedy et al. 2015, "Going Deeper with Convolutions", figure 2b; Carreira & Zisserman 2017, "Quo Vadis, Action
        Recognition?" (1705.07750), which inflates it into time. Here time is the only dimension.
    """

    def __init__(self, width: int, kernels: Sequence[int], dropout: float) -> None:
        super().__init__()
        pointwise, *convolved, pooled = split_width(width, len(kernels) + 2)
        reduced = max(width // 2, 1)
        self.norm = nn.LayerNorm(width)
        self.pointwise = nn.Linear(width, pointwise)
        self.reductions = nn.ModuleList(nn.Linear(width, reduced) for _ in kernels)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(reduced, size, kernel, padding=kernel // 2)
            for kernel, size in zip(kernels, convolved, strict=True)
        )
        self.pooled = nn.Linear(width, pooled)
        self.mixed_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """[B, T, W] and its lengths [B]: [B, T, W]."""
        normed = self.norm(hidden)
        branches = [self.pointwise(normed)]
        for reduction, convolution in zip(self.reductions, self.convolutions, strict=True):
            seen = silence(F.relu(reduction(normed)), lengths)
            branches.append(convolution(seen.transpose(1, 2)).transpose(1, 2))
        branches.append(self.pooled(pool_neighbours(normed, lengths)))
        mixed = F.relu(self.mixed_norm(torch.cat(branches, dim=-1)))
        return hidden + self.dropout(mixed)


def pool_neighbours(hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The greatest value of each frame and its valid neighbours; zeros in the padding: [B, T, W]."""
    valid = valid_frames(lengths, hidden.shape[1])[..., None]
    # The least number, not -inf: nothing that is not finite may be on the graph.
    absent = hidden.masked_fill(~valid, torch.finfo(hidden.dtype).min)
    pooled = F.max_pool1d(absent.transpose(1, 2), 3, stride=1, padding=1).transpose(1, 2)
    return pooled.masked_fill(~valid, 0.0)


class CrossStreamAttention(nn.Module):
    """Multi-head attention between the streams of one frame, with a residual.

    Frames do not see each other here, so there is nothing to mask.

    Args:
        width: W, of input and output.
        heads: a divisor of the width.
        dropout: probability, on what is added to the input.

    Source:
        Vaswani et al. 2017 (1706.03762), equation 1.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, streams: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """One [B, T, W] per stream: as many again."""
        stacked = torch.stack(tuple(streams), dim=2)  # [B, T, N, W]
        projected = self.query_key_value(self.norm(stacked)).unflatten(-1, (3, self.heads, -1))
        query, key, value = projected.permute(3, 0, 1, 4, 2, 5).unbind()  # [B, T, heads, N, W / heads]
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5  # [B, T, heads, N, N]
        heard = (scores.softmax(-1) @ value).transpose(2, 3).flatten(-2)  # [B, T, N, W]
        return list((stacked + self.dropout(self.output(heard))).unbind(2))


def split_width(width: int, parts: int) -> list[int]:
    """A width in so many parts, the first of them one wider where it cannot be divided.

    Example:
        >>> split_width(16, 5)
        [4, 3, 3, 3, 3]
    """
    borders = [-(-width * part // parts) for part in range(parts + 1)]
    return sorted((after - before for before, after in itertools.pairwise(borders)), reverse=True)
