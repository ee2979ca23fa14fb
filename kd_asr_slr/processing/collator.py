"""Items of different lengths -> one padded batch; the lengths travel with it, as the sums of the attention mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

IGNORED_LABEL = -100
SECOND_VIEW = "second_view"  # key of an item and of a batch: the student's input under other masks


@dataclass
class Collator:
    """Pads the items of `RecogniserDataset` to a batch.

    Args:
        input_name: "input_features" or "input_values", the student's.

    Example:
        >>> item = {"input_features": np.ones((3, 2), "float32"), "labels": [1], "id": "a", "speaker": "s"}
        >>> batch = Collator("input_features")([item])
        >>> batch["input_features"].shape, batch["attention_mask"].sum(-1)
        (torch.Size([1, 3, 2]), tensor([3]))
    """

    input_name: str = "input_features"

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate items.

        Returns:
            input_features [B, T, F] or input_values [B, S] (padded with zeros), attention_mask [B, T or S] (long),
            labels [B, U] (padded with -100), ids, speakers; and, where the items have any, views: fingerprint -> inputs
            and attention mask; second_view [B, T, F], of the lengths of input_features.
        """
        batch: dict[str, Any] = pad_inputs([item[self.input_name] for item in items], self.input_name)
        batch["labels"] = pad_labels([item["labels"] for item in items])
        batch["ids"] = [item["id"] for item in items]
        batch["speakers"] = [item["speaker"] for item in items]
        if SECOND_VIEW in items[0]:
            batch[SECOND_VIEW] = pad_inputs([item[SECOND_VIEW] for item in items], SECOND_VIEW)[SECOND_VIEW]
        views = _collate_views([item.get("views") or {} for item in items])
        if views:
            batch["views"] = views
        return batch


def pad_inputs(arrays: Sequence[np.ndarray], name: str) -> dict[str, torch.Tensor]:
    """Pad arrays [T, F] or [S] with zeros at their ends.

    Args:
        arrays: B of them, of the same width.
        name: key of the padded tensor.

    Returns:
        The tensor [B, T, F] or [B, S], float32, and attention_mask [B, T or S], long.
    """
    lengths = torch.tensor([len(array) for array in arrays])
    longest = int(lengths.max())
    padded = np.zeros((len(arrays), longest, *arrays[0].shape[1:]), dtype=np.float32)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    mask = torch.arange(longest)[None, :] < lengths[:, None]
    return {name: torch.from_numpy(padded), "attention_mask": mask.long()}


def pad_labels(labels: Sequence[Sequence[int]]) -> torch.Tensor:
    """Pad label sequences with -100 at their ends: [B, U], long; U may be 0."""
    longest = max(len(sequence) for sequence in labels)
    padded = torch.full((len(labels), longest), IGNORED_LABEL, dtype=torch.long)
    for row, sequence in zip(padded, labels, strict=True):
        row[: len(sequence)] = torch.tensor(sequence, dtype=torch.long)
    return padded


def _collate_views(views: Sequence[Mapping[str, Mapping[str, np.ndarray]]]) -> dict[str, dict[str, torch.Tensor]]:
    collated = {}
    for fingerprint, first in views[0].items():
        (name,) = first
        collated[fingerprint] = pad_inputs([view[fingerprint][name] for view in views], name)
    return collated
