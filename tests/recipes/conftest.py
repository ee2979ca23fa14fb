"""Tiny corpora and trained runs of them, made once a session by the recipes themselves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from recipe_runs import (
    FEATURE_OPTIONS,
    HYBRID,
    LEARNER,
    SPEECH,
    TRAINING,
    Refuse,
    distillation,
    done,
    refused,
    run,
    snapshot,
    write_feature_corpus,
    write_speech_corpus,
)


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a corpus of wavs."""
    return write_speech_corpus(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="session")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a corpus of npz features."""
    return write_feature_corpus(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="session")
def speech_run(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the labels of the wavs."""
    folder = tmp_path_factory.mktemp("runs") / "generalist"
    done(run("train", manifest=speech, output_dir=folder, **LEARNER))
    return folder


@pytest.fixture(scope="session")
def feature_run(features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the labels of the features."""
    folder = tmp_path_factory.mktemp("runs") / "signer"
    done(run("train", manifest=features, output_dir=folder, **FEATURE_OPTIONS, **{**TRAINING, "num_train_epochs": 12}))
    return folder


@pytest.fixture(scope="session")
def hybrid_run(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a NeMo hybrid on the labels of the wavs."""
    folder = tmp_path_factory.mktemp("runs") / "hybrid"
    done(run("train", manifest=speech, output_dir=folder, **HYBRID))
    return folder


@pytest.fixture(scope="session")
def soft_targets(speech: Path, speech_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `speech_run` says of the training split of the wavs, in four shards."""
    folder = tmp_path_factory.mktemp("cache") / "soft-targets"
    done(run("cache_teachers", teacher_cache=folder, cache_shard_size=6, **distillation(speech, speech_run, "unused")))
    return folder


@pytest.fixture
def copied(speech: Path, tmp_path: Path) -> Path:
    """The manifest of a copy of the wav corpus, to be damaged."""
    shutil.copytree(speech.parent, tmp_path / "corpus")
    return tmp_path / "corpus" / speech.name


@pytest.fixture
def refuse(tmp_path: Path, request: pytest.FixtureRequest) -> Refuse:
    """Run a recipe that must be refused with these parts in its message; no file anywhere may have changed."""
    session = tmp_path.parent  # the corpora and runs that other tests use lie here too

    def refuse(name: str, *parts: str, words: tuple[Any, ...] = (), **options: Any) -> str:
        before = snapshot(tmp_path, *sorted(session.glob("speech*")), *sorted(session.glob("runs*")))
        before |= snapshot(*sorted(session.glob("features*")), *sorted(session.glob("cache*")))
        message = refused(run(name, *words, **options), *parts)
        after = snapshot(tmp_path, *sorted(session.glob("speech*")), *sorted(session.glob("runs*")))
        after |= snapshot(*sorted(session.glob("features*")), *sorted(session.glob("cache*")))
        assert after == before, f"written or changed: {sorted(set(after.items()) ^ set(before.items()))}"
        return message

    return refuse


@pytest.fixture
def train(refuse: Refuse, tmp_path: Path) -> Refuse:
    """A training run on a manifest of wavs that must be refused."""

    def train(*parts: str, **options: Any) -> str:
        return refuse("train", *parts, **{"output_dir": tmp_path / "out", **SPEECH, **TRAINING, **options})

    return train


@pytest.fixture
def distil(refuse: Refuse, speech: Path, speech_run: Path, tmp_path: Path) -> Refuse:
    """A distillation from the tiny teacher that must be refused."""

    def distil(*parts: str, recipe: str = "distill", **options: Any) -> str:
        return refuse(recipe, *parts, **{**distillation(speech, speech_run, tmp_path / "out"), **options})

    return distil


@pytest.fixture
def broken(speech_run: Path, tmp_path: Path) -> Path:
    """A copy of the teacher, to be damaged."""
    return Path(shutil.copytree(speech_run, tmp_path / "teacher", ignore=shutil.ignore_patterns("checkpoint-*")))
