"""Outputs of real CTC networks with known decodings, and random ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


@pytest.fixture(scope="session")
def log_softmax() -> Callable[[np.ndarray], np.ndarray]:
    return _log_softmax


@pytest.fixture(scope="session")
def random_log_probs() -> Callable[..., np.ndarray]:
    """(seed, frames, tokens, sharpness) -> log-probabilities [T, V]."""

    def make(seed: int, frames: int, tokens: int, sharpness: float = 2.0) -> np.ndarray:
        scores = np.random.default_rng(seed).normal(size=(frames, tokens)) * sharpness
        return _log_softmax(scores) if frames else scores

    return make


@pytest.fixture(scope="session")
def spoken_log_probs() -> Callable[..., np.ndarray]:
    """(seed, frames, tokens) -> log-probabilities [T, V] as a trained network gives them: sure blanks (token 0) between
    words of one to three frames, each with some tokens that it may be mistaken for."""

    def make(seed: int, frames: int, tokens: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        scores = rng.normal(0.0, 1.2, (frames, tokens))
        scores[:, 0] += rng.normal(12.0, 1.5, frames)
        for start in range(2, frames - 3, rng.integers(5, 9)):
            rivals = rng.choice(np.arange(1, tokens), 5)
            for frame in range(start, start + rng.integers(1, 4)):
                scores[frame, rivals] += rng.normal(10.0, 2.5, 5)
                scores[frame, rivals[0]] += 3.0
                scores[frame, 0] -= rng.uniform(0.0, 4.0)
        return _log_softmax(scores)

    return make


@pytest.fixture(scope="session")
def expected(shared_data: Path) -> dict:
    return json.loads((shared_data / "ctc_decode" / "expected.json").read_text())


@pytest.fixture(scope="session")
def handwriting(shared_data: Path, expected: dict) -> Callable[[str], tuple[np.ndarray, list[str], int]]:
    """Name of an IAM output -> log-probabilities, tokens with the blank, blank index."""

    def load(name: str) -> tuple[np.ndarray, list[str], int]:
        lines = (shared_data / "ctc_decode" / name / "rnnOutput.csv").read_text().split()
        scores = np.array([[float(value) for value in line.rstrip(";").split(";")] for line in lines])
        assert list(scores.shape) == expected[name]["shape"]
        return _log_softmax(scores), [*expected["iam_line"]["chars"], "<blank>"], expected[name]["blank"]

    return load


@pytest.fixture(scope="session")
def libri(shared_data: Path, expected: dict) -> tuple[np.ndarray, list[str], int]:
    """Character outputs over a LibriSpeech sentence; the stored values are rounded to integers, so renormalised."""
    scores = np.array(json.loads((shared_data / "ctc_decode" / "libri" / "libri_logits.json").read_text()))
    return _log_softmax(scores), [*expected["libri"]["labels"], "<blank>"], expected["libri"]["blank"]
