"""Shared fixtures: where the real data lies, and an environment without network or many threads."""

from __future__ import annotations

import os
from pathlib import Path

# Set before torch and the hub client are imported anywhere.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data (speech, annotations, network outputs); tests skip where it is absent."""
    folder = Path(os.environ.get("KD_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set KD_SHARED_DATA to its folder")
    return folder
