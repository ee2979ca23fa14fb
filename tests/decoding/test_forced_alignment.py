"""The best path through a transcript against every path there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kd_asr_slr.decoding.forced_alignment import best_path, label_peaks


def collapsed(path: tuple[int, ...]) -> list[int]:
    return [label for label, _ in itertools.groupby(path) if label != 0]


@pytest.mark.parametrize("labels", [[1], [1, 2], [2, 2], [1, 2, 1], []])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_best_of_all_paths(labels: list[int], seed: int) -> None:
    log_probs = np.log(np.random.default_rng(seed).dirichlet([0.5] * 3, size=6))  # [T, V]
    paths = [path for path in itertools.product(range(3), repeat=6) if collapsed(path) == labels]
    best = max(paths, key=lambda path: sum(log_probs[frame, label] for frame, label in enumerate(path)))
    positions = best_path(log_probs, labels, blank_id=0)
    assert [0 if position < 0 else labels[position] for position in positions] == list(best)
    heard = [position for position, _ in itertools.groupby(positions) if position >= 0]
    assert heard == list(range(len(labels)))


def test_a_transcript_that_does_not_fit() -> None:
    log_probs = np.log(np.full((2, 3), 1 / 3))
    assert best_path(log_probs, [1, 1], blank_id=0) is None  # a blank must stand between them
    assert label_peaks(log_probs, [1, 2, 1], blank_id=0) is None
    assert best_path(log_probs[:0], [1], blank_id=0) is None


def test_a_label_peaks_where_it_is_most_probable() -> None:
    probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.1, 0.9], [0.4, 0.6], [0.9, 0.1]])
    assert best_path(np.log(probs), [1], blank_id=0).tolist() == [-1, 0, 0, 0, -1]
    assert label_peaks(np.log(probs), [1], blank_id=0).tolist() == [2]
