"""A tiny corpus and trained teachers of it, made once a session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_runs import do_run


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the synthetic corpus is made."""
    return tmp_path_factory.mktemp("speech")


@pytest.fixture(scope="session")
def generalist(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a network trained on the labels of both speakers."""
    folder = tmp_path_factory.mktemp("runs") / "generalist"
    wide = {"hidden_size": 16, "num_layers": 1, "stride": 4, "dropout": 0.0}
    do_run(data_dir=speech, output_dir=folder, model_options=wide, num_train_epochs=12, seed=11)
    return folder


@pytest.fixture(scope="session")
def specialists(speech: Path, generalist: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Both speakers' teachers, bound to them, adapted from the generalist; in the form of `--teachers`."""
    bound = []
    for speaker in ("s01", "s02"):
        folder = tmp_path_factory.mktemp("runs") / speaker
        options: dict[str, Any] = {"train_speakers": [speaker], "num_train_epochs": 2, "learning_rate": 3e-3}
        start = {"model": generalist, "model_options": None, "feature_options": None}
        do_run(data_dir=speech, output_dir=folder, **start, **options)
        bound.append(f"{speaker}={folder}")
    return bound
