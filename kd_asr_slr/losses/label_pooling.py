"""One distribution per label: frames pooled along a forced alignment, so that frame rates do not matter."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from kd_asr_slr.losses.masking import at_least_float32


def pool_labels(logits: torch.Tensor, positions: torch.Tensor, counts: torch.Tensor, size: int) -> torch.Tensor:
    """The mean of the logits over the frames of each label.

    log_softmax of a mean of logits is the renormalised mean of log-probabilities, at every temperature; so a constant
    that is common to a frame does not matter, and a frame that comes twice counts as the same label said longer.

    Args:
        logits: [B, T, V], raw, or log-probabilities.
        positions: [B, T], the label of each frame, rising within an utterance; -1: none (see `label_frames`).
        counts: [B], labels of each utterance that are pooled; 0 leaves it out.
        size: U, labels of the longest one.

    Returns:
        [B, U, V], at least float32, with gradient; 0 where there is no label. Frames of no label are not read.

    Example:
        >>> logits = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [9.0, 9.0]]])
        >>> pool_labels(logits, torch.tensor([[0, 0, -1]]), torch.tensor([1]), size=1)
        tensor([[[2., 0.]]])
    """
    batch, frames, width = logits.shape
    used = (positions >= 0) & (counts > 0).unsqueeze(1)
    utterance, frame = used.nonzero(as_tuple=True)  # [N] each, in order of time
    places = utterance * size + positions[utterance, frame]  # [N], rising: frames of a label lie side by side
    labels, lengths = torch.unique_consecutive(places, return_counts=True)
    pooled = logits.new_zeros(batch * size, width, dtype=torch.promote_types(logits.dtype, torch.float32))
    if len(labels):
        means = _MeansOfRuns.apply(logits.flatten(0, 1), utterance * frames + frame, lengths)
        pooled = pooled.index_copy(0, labels, means)
    else:
        pooled = pooled + logits.flatten(0, 1)[:0].sum()  # nothing, but on the graph
    return pooled.view(batch, size, width)


class _MeansOfRuns(torch.autograd.Function):
    """The means of runs of rows: rows [M, V]; places [N] of the first run's rows, of the second's, ...; lengths [L].

    First rows are added up, then second ones where there are, and so on: a label has few frames, and no sum gets two at
    a time, so that the order is the same on every device.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, places: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        starts = lengths.cumsum(0) - lengths  # [L]
        total = at_least_float32(rows.index_select(0, places[starts]))
        for later in range(1, int(lengths.max())):
            longer = (lengths > later).nonzero().squeeze(1)
            total.index_add_(0, longer, rows.index_select(0, places[starts[longer] + later]).to(total.dtype))
        ctx.save_for_backward(places, lengths)
        ctx.like = rows.shape, rows.dtype
        return total.div_(lengths.unsqueeze(1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        places, lengths = ctx.saved_tensors
        shape, dtype = ctx.like
        shares = (weights / lengths.unsqueeze(1)).to(dtype)  # [L, V]
        gradient = weights.new_zeros(shape, dtype=dtype)
        return gradient.index_copy_(0, places, shares.repeat_interleave(lengths, 0)), None, None
