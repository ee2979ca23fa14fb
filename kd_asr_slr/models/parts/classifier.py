"""The classifier behind the encoder, and the auxiliary one below its last layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class NormalisedLinear(nn.Linear):
    """logits = scale * x @ (W / |W|), the weights of every class divided by their L2 norm; no bias.

    Frequent classes cannot win by longer weights, and one such classifier can serve features of two depths.

    Args:
        width: D.
        classes: V.
        scale: of the logits.

    Source:
        Hao et al. 2021, "Self-Mutual Distillation Learning for Continuous Sign Language Recognition" (ICCV), whose
        public code has the weights as columns and no scale (1).
    """

    def __init__(self, width: int, classes: int, scale: float = 1.0) -> None:
        super().__init__(width, classes, bias=False)
        self.scale = scale

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., D]: [..., V]."""
        return self.scale * F.linear(hidden, F.normalize(self.weight, dim=-1))


def build_classifier(width: int, classes: int, normalised: bool, scale: float) -> nn.Module:
    """A linear classifier, with normalised classes or as usual."""
    return NormalisedLinear(width, classes, scale) if normalised else nn.Linear(width, classes)


def build_intermediate(width: int, classifier: nn.Module) -> nn.Module:
    """A classifier on a layer within the encoder: LayerNorm, since no later layer has brought its output to scale."""
    return nn.Sequential(nn.LayerNorm(width), classifier)
