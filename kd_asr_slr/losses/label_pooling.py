"""One distribution per label: frames pooled along a forced alignment, so that frame rates do not matter."""

from __future__ import annotations

import torch

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
    rows = at_least_float32(logits.flatten(0, 1).index_select(0, utterance * frames + frame))  # [N, V]
    places = utterance * size + positions[utterance, frame]  # [N], rising: frames of a label lie side by side
    labels, lengths = torch.unique_consecutive(places, return_counts=True)
    pooled = rows.new_zeros(batch * size, width)
    if len(labels):
        means = torch.segment_reduce(rows, "mean", lengths=lengths, axis=0)  # not index_add: its order varies on a GPU
        pooled = pooled.index_copy(0, labels, means)
    else:
        pooled = pooled + logits.flatten(0, 1)[:0].sum()  # nothing, but on the graph
    return pooled.view(batch, size, width)
