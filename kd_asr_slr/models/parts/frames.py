"""Frames of padded batches: which are valid, how many are left, in which order they stand. T frames, B utterances."""

from __future__ import annotations

import torch


def valid_frames(lengths: torch.Tensor, frames: int) -> torch.Tensor:
    """True at the valid frames: [B, T], from lengths [B]."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def input_lengths(features: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Valid frames of each utterance, [B]: those of an attention mask [B, T], or all of the features [B, T, F]."""
    if mask is None:
        return torch.full(features.shape[:1], features.shape[1], dtype=torch.long, device=features.device)
    return mask.long().sum(-1)


def silence(hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """[B, T, D] with zeros in the padding.

    Filled, not multiplied: NaN times zero is NaN, in the forward and in the backward pass.
    """
    return hidden.masked_fill(~valid_frames(lengths, hidden.shape[1])[..., None], 0.0)


def blank_padding(logits: torch.Tensor, lengths: torch.Tensor, blank: int) -> torch.Tensor:
    """[B, T, V] with 1 for the blank and 0 for the rest in the padding, so that an argmax reads nothing there.

    transformers' pipeline takes the argmax of every frame of a padded batch; it knows no lengths.
    """
    silent = logits.new_zeros(logits.shape[-1])
    silent[blank] = 1.0
    return torch.where(valid_frames(lengths, logits.shape[1])[..., None], logits, silent)


def reversal(lengths: torch.Tensor, frames: int) -> torch.Tensor:
    """For every frame of an utterance the frame that stands there in reverse; padding stays: [B, T], from [B]."""
    position = torch.arange(frames, device=lengths.device)[None]  # [1, T]
    return torch.where(position < lengths[:, None], lengths[:, None] - 1 - position, position)


def take_frames(hidden: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Frames of [B, T, D] in the order of an index [B, T]."""
    return hidden.gather(1, index[..., None].expand(-1, -1, hidden.shape[-1]))


def divide_up(lengths: torch.Tensor, divisor: int) -> torch.Tensor:
    """Integer division, rounded up."""
    return torch.div(lengths + divisor - 1, divisor, rounding_mode="floor")
