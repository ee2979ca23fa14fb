"""Teacher forcing and the decoder's loss on labels (CTC: `parts.ctc_loss`). B utterances, U labels, V vocabulary."""

from __future__ import annotations

import torch
from torch.nn import functional

IGNORED = -100


def teacher_forcing(
    labels: torch.Tensor, bos: int, eos: int, pad: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The decoder's input and targets for a batch of labels.

    Args:
        labels: [B, U], padded on the right with -100.
        bos: index of the start of sequence.
        eos: index of the end of sequence.
        pad: what fills the decoder's input where there is no label.

    Returns:
        inputs [B, U+1] (bos, labels), targets [B, U+1] (labels, eos, then -100) and lengths [B] (labels + 1).

    Example:
        >>> inputs, targets, lengths = teacher_forcing(torch.tensor([[5, -100]]), bos=1, eos=2, pad=0)
        >>> inputs.tolist(), targets.tolist(), lengths.tolist()
        ([[1, 5, 0]], [[5, 2, -100]], [2])
    """
    counts = (labels >= 0).sum(dim=1)  # [B]
    start = labels.new_full((len(labels), 1), bos)
    inputs = torch.cat([start, labels.masked_fill(labels < 0, pad)], dim=1)
    targets = torch.cat([labels, labels.new_full((len(labels), 1), IGNORED)], dim=1)
    return inputs, targets.scatter(1, counts.unsqueeze(1), eos), counts + 1


def decoder_label_loss(decoder_logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each utterance's labels and end of sequence, the mean over its positions.

    Args:
        decoder_logits: [B, U+1, V], raw.
        targets: [B, U+1], padded with -100.

    Returns:
        [B].
    """
    losses = functional.cross_entropy(
        decoder_logits.float().transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
    )  # [B, U+1]
    return losses.sum(dim=1) / (targets != IGNORED).sum(dim=1)
