"""What the numpy part leaves for a search, against a plain reading of the matrix."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kd_asr_slr.decoding.candidates import MIN_LOGP, CandidateFinder


def plainly(log_probs: np.ndarray, closed: list[int], lowest: float) -> list[dict[int, float]]:
    """Token -> log-probability of every frame, runs of only the blank (token 0) joined."""
    frames: list[dict[int, float]] = []
    for row in log_probs:
        masses = {token: math.exp(value) for token, value in enumerate(row) if token not in closed}
        total = sum(masses.values())
        values = {token: math.log(mass / total) for token, mass in masses.items()}
        best = max(values, key=values.__getitem__)
        frame = {token: value for token, value in values.items() if value >= lowest or token == best}
        if list(frame) == [0] and frames and list(frames[-1]) == [0]:
            frames[-1][0] += frame[0]
        else:
            frames.append(frame)
    return frames


@pytest.mark.parametrize("closed", [[], [3, 7]], ids=["all", "specials"])
@pytest.mark.parametrize("lowest", [-1.0, -5.0, -math.inf])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_the_tokens_of_every_frame(spoken_log_probs, closed, lowest, dtype):
    log_probs = spoken_log_probs(1, 60, 40).astype(dtype)
    found = CandidateFinder(40, 0, closed).find(log_probs, lowest)
    wanted = plainly(log_probs.astype(float), closed, lowest)
    assert len(found.frames()) == len(wanted)
    assert (len(wanted) < 45) == (lowest > -math.inf)
    for (tokens, values), frame in zip(found.frames(), wanted, strict=True):
        assert dict(zip(tokens, values, strict=True)) == pytest.approx(frame, abs=1e-5)
        assert tokens == sorted(tokens)


def test_a_label_may_repeat_across_a_run_of_blanks():
    sure = np.log(np.full((6, 3), 0.001) + np.eye(3)[[0, 1, 0, 0, 1, 0]] * 0.997)
    found = CandidateFinder(3, blank=0).find(sure, -5.0)
    assert found.tokens.tolist() == [0, 1, 0, 1, 0]
    assert found.log_probs.tolist() == pytest.approx(np.log(0.998) * np.array([1, 1, 2, 1, 1]))


def test_frames_with_no_mass_outside_of_closed_tokens_prefer_none():
    with np.errstate(divide="ignore"):
        found = CandidateFinder(4, 0, closed=[2]).find(np.log([[0.0, 0.0, 1.0, 0.0]]), -5.0)
    assert found.frames() == [([0, 1, 3], pytest.approx([math.log(1 / 3)] * 3))]


def test_the_matrix_over_tokens_that_occur():
    finder = CandidateFinder(5, blank=4)
    used, matrix = finder.find(np.log([[0.5, 0.499, 0.0003, 0.0003, 0.0004]]), -3.0).dense(4)
    assert used.tolist() == [0, 1, 4]
    assert np.exp(matrix) == pytest.approx(np.array([[0.5, 0.499, 0.0]]))
    assert finder.find(np.empty((0, 5)), -3.0).dense(4)[1].shape == (0, 1)
    with np.errstate(divide="ignore"):
        assert finder.find(np.log([[1.0, 0.0, 0.0, 0.0, 0.0]]), -np.inf).log_probs.tolist() == [0.0, *[MIN_LOGP] * 4]
