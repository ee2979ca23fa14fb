"""What the tests of the hub share: a stranger's process, and a hub on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import close_session
from loopback_hub import LoopbackHub

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


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    """A hub on loopback; every route that the client asked for must be one that it knows."""
    server = LoopbackHub()
    yield server
    server.close()
    assert not server.unknown


@pytest.fixture
def connected(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    """The hub's own client in this process, turned to the hub on loopback by its settings, with a token that may write.

    Another process is told by the environment: see `loopback_hub.environment_of`.
    """
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    settings = {
        "ENDPOINT": hub.endpoint, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True, "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_TOKEN_PATH": str(tmp_path / "no-token"), "HF_STORED_TOKENS_PATH": str(tmp_path / "no-tokens"),
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", hub.endpoint)  # made when the client was imported
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)  # made at its first use, with the endpoint of then
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    close_session()
    return hub
