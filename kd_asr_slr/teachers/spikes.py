"""How far apart two networks say the same labels: the offset of their spikes along a known transcript."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from kd_asr_slr.decoding.forced_alignment import label_peaks


def spike_offsets(
    one: torch.Tensor,
    other: torch.Tensor,
    labels: Sequence[int],
    blank_id: int,
    frame_seconds: float = 1.0,
    other_frame_seconds: float | None = None,
) -> list[float]:
    """Frames by which the second network says each label later than the first one.

    Args:
        one: [T, V], log-probabilities of the first network, without padding.
        other: [T', V], those of the second one.
        labels: [U], the transcript.
        blank_id: index of the blank.
        frame_seconds: seconds between two frames of the first network.
        other_frame_seconds: the same of the second one; default: as the first.

    Returns:
        [U], in frames of the first network, negative where the second one is earlier; empty where the transcript does
        not fit into one of them.
    """
    ratio = (other_frame_seconds or frame_seconds) / frame_seconds
    peaks = [label_peaks(item.float().cpu().numpy(), labels, blank_id) for item in (one, other)]
    if peaks[0] is None or peaks[1] is None:
        return []
    return (peaks[1] * ratio - peaks[0]).tolist()


def summary(offsets: Sequence[float]) -> dict[str, float]:
    """Mean and median of signed offsets, and the mean of their sizes; empty where there is none."""
    if not len(offsets):
        return {}
    return {
        "spike_offset_mean": float(np.mean(offsets)),
        "spike_offset_median": float(np.median(offsets)),
        "spike_offset_size": float(np.mean(np.abs(offsets))),
    }
