"""Comparing networks tensor by tensor, buffers that are not saved included."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
READ = """
import importlib, sys
import torch
*modules, inputs, outputs = sys.argv[1:]
for module in modules:
    importlib.import_module(module)
if "nemo" in sys.modules:
    sys.exit("importing the table of networks has imported NeMo")
from transformers import AutoModelForCTC
found = []
for folder, batch in torch.load(inputs):
    model = AutoModelForCTC.from_pretrained(folder)
    tensors = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    with torch.no_grad():
        logits = model(**batch).logits if batch else None
    found.append(({name: value.detach() for name, value in tensors.items()}, logits))
torch.save(found, outputs)
"""


def every_tensor(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and every buffer, persistent or not."""
    tensors = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    return {name: value.detach() for name, value in tensors.items()}


def differing(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> list[str]:
    """Names of the tensors that are not the same bit for bit, or that only one side has."""
    missing = sorted(ours.keys() ^ theirs.keys())
    return missing + [name for name in ours.keys() & theirs.keys() if not _same_bits(ours[name], theirs[name])]


def _same_bits(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return False
    return ours.contiguous().numpy().tobytes() == theirs.contiguous().numpy().tobytes()


Reader = Callable[..., list[tuple[dict[str, torch.Tensor], torch.Tensor | None]]]


@pytest.fixture
def read_in_fresh_process(tmp_path: Path) -> Reader:
    """Reads saved networks in another process: for each its tensors, and its logits for a batch (empty: None).

    That process also stops where importing the table of networks imports NeMo.
    """

    def read(batches: dict[Path, dict[str, torch.Tensor]], modules: tuple[str, ...] = ()) -> list[tuple]:
        inputs, outputs = tmp_path / "batches.pt", tmp_path / "found.pt"
        torch.save([(str(folder), batch) for folder, batch in batches.items()], inputs)
        # glibc then fills memory it hands out, so that a buffer nobody wrote cannot be right by chance.
        environment = os.environ | {"MALLOC_PERTURB_": "165", "PYTHONPATH": os.pathsep.join(map(str, (HERE, ROOT)))}
        command = [sys.executable, "-c", READ, "kd_asr_slr.models.auto", *modules, str(inputs), str(outputs)]
        subprocess.run(command, env=environment, check=True, timeout=120)
        return torch.load(outputs)

    return read


@pytest.fixture
def differing_tensors() -> Callable[[nn.Module, dict[str, torch.Tensor]], list[str]]:
    """Compares a network with tensors read elsewhere: the names that are not the same bit for bit."""
    return lambda model, tensors: differing(every_tensor(model), tensors)
