"""The best CTC path of a transcript, an utterance at a time."""

from __future__ import annotations

import numpy as np

from kd_asr_slr.kernels.compiling import compiled, own_rows


@compiled
def best_paths(
    logits: np.ndarray,
    lengths: np.ndarray,
    labels: np.ndarray,
    counts: np.ndarray,
    blank: int,
    path: np.ndarray,
    counter: np.ndarray,
    count: int,
    chunk: int,
) -> None:
    """`losses.alignment.label_frames` of the utterances of a thread, for one network.

    Args:
        logits: [B, T, V].
        lengths: [B], valid frames.
        labels: [B, U].
        counts: [B], labels of each utterance.
        blank: index of the blank.
        path: [B, T], -1 everywhere, where the label of each frame goes.
    """
    states, frames = 2 * labels.shape[1] + 1, logits.shape[1]
    scores, before = np.empty(states), np.empty(states)
    back = np.empty((frames, states), np.int8)  # how many states back the best path came from
    for utterance in own_rows(counter, count, chunk):
        used, length = 2 * counts[utterance] + 1, lengths[utterance]
        before[:] = -np.inf
        for frame in range(length):
            emitted = logits[utterance, frame]
            for state in range(used):
                label = labels[utterance, state // 2] if state % 2 else blank
                best, steps = before[state], 0
                if frame == 0:  # it begins with the first blank or the first label
                    best = 0.0 if state < 2 else -np.inf
                elif state >= 1:
                    if before[state - 1] > best:
                        best, steps = before[state - 1], 1
                    skips = state >= 3 and state % 2 == 1 and label != labels[utterance, state // 2 - 1]
                    if skips and before[state - 2] > best:
                        best, steps = before[state - 2], 2
                scores[state], back[frame, state] = best + emitted[label], steps
            scores, before = before, scores
        if length == 0:
            continue
        state = used - 1
        if used > 1 and before[used - 2] >= before[used - 1]:
            state = used - 2
        if before[state] == -np.inf:
            continue
        for frame in range(length - 1, -1, -1):
            if state % 2:
                path[utterance, frame] = state // 2
            state -= back[frame, state]
