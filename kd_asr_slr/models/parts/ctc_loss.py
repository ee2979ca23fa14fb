"""The CTC loss on labels that `forward(labels=...)` of the toolkit's own networks returns."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def ctc_label_loss(logits: torch.Tensor, lengths: torch.Tensor, labels: torch.Tensor, blank: int) -> torch.Tensor:
    """CTC loss of each utterance, divided by its number of labels.

    An utterance too short for its labels gives infinity: it must be found before training, not silenced here.

    Args:
        logits: [B, T, V], raw.
        lengths: [B], valid frames.
        labels: [B, U], padded on the right with -100.
        blank: index of the blank.

    Returns:
        [B].

    Source: Graves et al. 2006, "Connectionist temporal classification", equation 14.
    """
    known = labels >= 0
    counts = known.sum(-1)
    # At least float32, whatever the network runs in.
    log_probs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    with torch.backends.cudnn.flags(enabled=False):
        losses = F.ctc_loss(log_probs.transpose(0, 1), labels[known], lengths, counts, blank=blank, reduction="none")
    return losses / counts.clamp(min=1)
