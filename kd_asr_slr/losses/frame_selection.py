"""Which frames of a CTC target are matched: all, those that are not surely blank, or those around the labels."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from kd_asr_slr.losses.settings import LossSettings

FrameSelection = Callable[[torch.Tensor, torch.Tensor, int, LossSettings], torch.Tensor]


def all_frames(log_probs: torch.Tensor, valid: torch.Tensor, blank_id: int, settings: LossSettings) -> torch.Tensor:
    """Every valid frame."""
    return valid


def below_blank_threshold(
    log_probs: torch.Tensor, valid: torch.Tensor, blank_id: int, settings: LossSettings
) -> torch.Tensor:
    """Drop the frames whose combined blank probability is at least `settings.blank_threshold`.

    Example:
        >>> log_probs = torch.tensor([[[0.96, 0.04], [0.90, 0.10]]]).log()
        >>> below_blank_threshold(log_probs, torch.ones(1, 2, dtype=bool), 0, LossSettings(blank_threshold=0.95))
        tensor([[False,  True]])
    """
    return valid & (log_probs[..., blank_id].exp() < settings.blank_threshold)


def around_labels(log_probs: torch.Tensor, valid: torch.Tensor, blank_id: int, settings: LossSettings) -> torch.Tensor:
    """Symmetric selection: frames whose best class is a label, and `settings.neighbours` frames on both sides.

    Source:
        Hilmes et al. 2025 (arXiv 2506.01503), symmetric blank selection.
    """
    label = valid & (log_probs.argmax(-1) != blank_id)  # [B, T]
    reach = settings.neighbours
    grown = F.max_pool1d(label.float().unsqueeze(1), 2 * reach + 1, stride=1, padding=reach).squeeze(1)  # [B, T]
    return valid & (grown > 0)


FRAME_SELECTIONS: dict[str, FrameSelection] = {
    "all": all_frames,
    "threshold": below_blank_threshold,
    "symmetric": around_labels,
}


def select_frames(log_probs: torch.Tensor, valid: torch.Tensor, blank_id: int, settings: LossSettings) -> torch.Tensor:
    """The frames that count, by the selection the settings name.

    Args:
        log_probs: [B, T, V], combined teacher, at temperature 1.
        valid: [B, T], boolean; frames that are neither padding nor without a teacher.
        blank_id: index of the blank.
        settings: `frame_selection`, `blank_threshold`, `neighbours`.

    Returns:
        [B, T], boolean; a subset of `valid`.
    """
    return FRAME_SELECTIONS[settings.frame_selection](log_probs, valid, blank_id, settings)
