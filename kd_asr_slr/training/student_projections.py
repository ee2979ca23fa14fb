"""Projections of hidden states within the student while it trains: in its forward pass, beside its checkpoints.

They are part of the student's own forward pass because DistributedDataParallel averages the gradients of what is used
in there, and fails on parameters that are used outside of it. They are no part of the student that is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from kd_asr_slr.losses.hidden import HiddenProjections
from kd_asr_slr.outputs import CTCOutput

NAME = "distillation_projections"
FILE = f"{NAME}.safetensors"


def attach(student: nn.Module, projections: HiddenProjections | None, device: torch.device) -> RemovableHandle | None:
    """Make projections that have parameters part of the student; what `detach` needs to take them out again."""
    if projections is None or not any(True for _ in projections.parameters()):
        return None
    student.add_module(NAME, projections.to(device))
    return student.register_forward_hook(project_hidden_states)


def detach(student: nn.Module, hook: RemovableHandle | None) -> None:
    """Take the projections out of the student, whose training is over."""
    if hook is not None and hasattr(student, NAME):
        hook.remove()
        delattr(student, NAME)


def of_projections(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those tensors of a student in training that belong to its projections."""
    return {name: value for name, value in state.items() if name.startswith(f"{NAME}.")}


def load(student: nn.Module, checkpoint: str | Path) -> None:
    """Read the projections of a checkpoint into the student, where it has any."""
    file = Path(checkpoint) / FILE
    if file.is_file():
        student.load_state_dict(safetensors.torch.load_file(file), strict=False)


def project_hidden_states(model: nn.Module, inputs: Any, output: CTCOutput) -> CTCOutput:
    """Forward hook of a student in training: its mapped hidden states at the teachers' width."""
    if not model.training or output.hidden_states is None:
        return output
    projections = getattr(model, NAME)
    states = list(output.hidden_states)
    for layer in map(int, projections.layers):
        states[layer] = projections(states[layer], layer)
    output.hidden_states = tuple(states)
    return output
