"""Padding of distributions: uniform, so that it is finite in every loss that reads it by mistake or under a mask."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from kd_asr_slr.outputs import SparseTargets


def padding_mask(lengths: torch.Tensor, frames: int) -> torch.Tensor:
    """[B, T], true behind the valid frames; `lengths` is [B]."""
    return torch.arange(frames, device=lengths.device)[None, :] >= lengths[:, None]


def fill_padding(log_probs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Overwrite everything behind the valid frames with the uniform distribution, in place.

    Args:
        log_probs: [B, T, V].
        lengths: [B], valid frames.
    """
    uniform = -math.log(log_probs.shape[2])
    if log_probs.device.type == "cpu":  # a mask would go through the valid frames, too
        for utterance, length in zip(log_probs, lengths.tolist(), strict=True):
            utterance[length:] = uniform
        return log_probs
    padding = padding_mask(lengths.to(log_probs.device), log_probs.shape[1])
    return log_probs.masked_fill_(padding[..., None], uniform)


def pad_log_probs(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack distributions of several lengths, each [T_b, V], to [B, T, V]; padding is uniform."""
    value = -math.log(rows[0].shape[1])
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)


def pad_states(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack hidden states of several lengths, each [T_b, D], to [B, T, D]; padding is 0."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)


def pad_sparse(rows: Sequence[SparseTargets], filling: SparseTargets) -> SparseTargets:
    """Stack sparse distributions of several lengths, each [T_b, k_b], to [B, T, k].

    Args:
        rows: at least one.
        filling: [1, 1], the frame that stands behind the valid ones (`TargetFormat.uniform`).
    """
    frames, width = (max(row.ids.shape[axis] for row in rows) for axis in (0, 1))
    stacked = filling.map(lambda part: part[None].repeat(len(rows), frames, 1))
    more = (0, max(width, 1) - 1)  # places that are left over repeat the first class
    stacked.ids = F.pad(stacked.ids, more, value=int(filling.ids))
    for name in ("log_probs", "log_weights"):
        if getattr(stacked, name) is not None:
            setattr(stacked, name, F.pad(getattr(stacked, name), more, value=-math.inf))
    for number, row in enumerate(rows):
        count = len(row)
        if count:
            stacked.ids[number, :count] = row.ids[:, :1]
            for name in ("ids", "log_probs", "log_weights", "tail"):
                part = getattr(row, name)
                if part is not None:
                    getattr(stacked, name)[number, :count, : part.shape[1]] = part
    return stacked
