"""Where a CTC network says each label of a known transcript: its best path through that transcript."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def best_path(log_probs: np.ndarray, labels: Sequence[int], blank_id: int) -> np.ndarray | None:
    """The most probable CTC path of a transcript.

    Args:
        log_probs: [T, V], log-probabilities.
        labels: [U], the transcript.
        blank_id: index of the blank.

    Returns:
        [T], for every frame the position of its label in the transcript (0 to U - 1), or -1 for a blank; None where
        the utterance is too short for the transcript.

    Source: the Viterbi form of the CTC forward recursion, Graves et al. 2006, section 4.1.

    Example:
        >>> best_path(np.log([[0.1, 0.9], [0.8, 0.2]]), [1], blank_id=0).tolist()
        [0, -1]
    """
    states = np.full(2 * len(labels) + 1, blank_id)  # [S]: a blank before, between and after the labels
    states[1::2] = labels
    # A label may follow another one directly where the two differ.
    skips = np.zeros(len(states), dtype=bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    scores = np.full(len(states), -np.inf)
    scores[:2] = log_probs[0, states[:2]] if len(log_probs) else -np.inf
    steps = np.zeros((len(log_probs), len(states)), dtype=np.int64)  # [T, S], how many states back
    for frame in range(1, len(log_probs)):
        one, two = np.roll(scores, 1), np.roll(scores, 2)
        one[:1], two[:2] = -np.inf, -np.inf
        sources = np.stack([scores, one, np.where(skips, two, -np.inf)])  # [3, S]
        steps[frame] = sources.argmax(0)
        scores = sources.max(0) + log_probs[frame, states]
    ends = np.arange(max(len(states) - 2, 0), len(states))
    state = int(ends[scores[ends].argmax()])
    if not np.isfinite(scores[state]):
        return None
    path = np.empty(len(log_probs), dtype=np.int64)
    for frame in range(len(log_probs) - 1, -1, -1):
        path[frame] = state
        state -= int(steps[frame, state])
    return np.where(path % 2 == 1, path // 2, -1)


def label_peaks(log_probs: np.ndarray, labels: Sequence[int], blank_id: int) -> np.ndarray | None:
    """The frame in which each label of a transcript is most probable, among those that its best path gives to it.

    Args:
        log_probs: [T, V], log-probabilities.
        labels: [U], the transcript.
        blank_id: index of the blank.

    Returns:
        [U], frames; None where the utterance is too short for the transcript.
    """
    path = best_path(log_probs, labels, blank_id)
    if path is None:
        return None
    peaks = np.empty(len(labels), dtype=np.int64)
    for position, label in enumerate(labels):
        frames = np.flatnonzero(path == position)
        peaks[position] = frames[log_probs[frames, label].argmax()]
    return peaks
