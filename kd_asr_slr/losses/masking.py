"""Selection of valid positions: what is not selected is never read, so padding can hold anything.

Rows are *selected* rather than multiplied by a 0/1 mask, because NaN * 0 is NaN, in the value and in the gradient.
"""

from __future__ import annotations

import torch

Rows = tuple[torch.Tensor, ...]  # (utterance, position) of every selected row, [N] each


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """Which positions lie within each utterance.

    Args:
        lengths: [B], valid positions.
        size: T, positions of the padded batch.

    Returns:
        [B, T], boolean.
    """
    positions = torch.arange(size, device=lengths.device)
    return positions < lengths.unsqueeze(1)  # [B, T]


def speaking_mask(lengths: torch.Tensor, weight: torch.Tensor, size: int) -> torch.Tensor:
    """`length_mask`, without the utterances for which no teacher speaks (weight 0).

    Args:
        lengths: [B], valid positions.
        weight: [B], `TeacherSignal.weight`.
        size: T, positions of the padded batch.

    Returns:
        [B, T], boolean.
    """
    return length_mask(lengths, size) & (weight > 0).unsqueeze(1)


def mean_per_utterance(values: torch.Tensor, rows: Rows, mask: torch.Tensor) -> torch.Tensor:
    """The mean of the selected rows of each utterance; 0, still on the graph, for one without any.

    Args:
        values: [N], one value per selected row.
        rows: the selected positions, `mask.nonzero(as_tuple=True)`.
        mask: [B, T], boolean.

    Returns:
        [B].
    """
    if len(values) == mask.numel() > 0:
        return values.view(mask.shape).mean(1)
    # A grid of distinct positions and not index_add, whose order of summation varies on a GPU.
    grid = values.new_zeros(mask.shape).index_put(rows, values)  # [B, T]
    return grid.sum(1) / mask.sum(1).clamp(min=1)


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in float32, or as it is where it is float64 already."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
