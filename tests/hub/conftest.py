"""What the tests of the hub share: a stranger's process, and a hub on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent

Stranger = Callable[..., dict[str, Any]]


@pytest.fixture
def as_a_stranger(tmp_path: Path) -> Stranger:
    """Loads models in another process in which this package cannot be imported."""

    def load(wanted: dict[str, dict[str, Any]], **environment: str) -> dict[str, Any]:
        inputs, outputs = tmp_path / "wanted.pt", tmp_path / "found.pt"
        torch.save(wanted, inputs)
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [sys.executable, "-I", str(HERE / "stranger.py"), str(inputs), str(outputs)],
            env={**clean, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), **environment},
            cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return torch.load(outputs, weights_only=False)

    return load
