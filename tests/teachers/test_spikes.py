"""Spikes that were moved by a known number of frames, and the transcript loss against all paths."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from kd_asr_slr.outputs import TeacherSignal
from kd_asr_slr.teachers.diagnosis import transcript_loss
from kd_asr_slr.teachers.spikes import spike_offsets, summary

LABELS = [1, 2, 1]


def spiky(frames: list[int], length: int, labels: list[int] = LABELS) -> torch.Tensor:
    """[T, V], blank but for one sharp frame a label."""
    probs = torch.full((length, 4), 0.02)
    probs[:, 0] = 0.94
    for frame, label in zip(frames, labels, strict=True):
        probs[frame] = 0.02
        probs[frame, label] = 0.94
    return probs.log()


@pytest.mark.parametrize("delay", [-2, 0, 3])
def test_a_target_that_is_late_by_a_known_number_of_frames(delay: int) -> None:
    one, other = spiky([4, 9, 15], 24), spiky([4 + delay, 9 + delay, 15 + delay], 24)
    assert spike_offsets(one, other, LABELS, 0) == [delay] * 3
    found = summary(spike_offsets(one, other, LABELS, 0))
    assert found == {"spike_offset_mean": delay, "spike_offset_median": delay, "spike_offset_size": abs(delay)}


def test_a_network_with_longer_frames() -> None:
    one, other = spiky([4, 8, 14], 24), spiky([3, 5, 8], 12)  # 40 and 80 ms: 6, 10, 16 against 4, 8, 14
    assert spike_offsets(one, other, LABELS, 0, 0.04, 0.08) == [2.0, 2.0, 2.0]


def test_signed_offsets_may_cancel_but_not_in_size() -> None:
    found = summary(spike_offsets(spiky([4, 9, 15], 24), spiky([2, 9, 17], 24), LABELS, 0))
    assert found["spike_offset_mean"] == 0 and found["spike_offset_size"] == pytest.approx(4 / 3)


def test_nothing_to_compare() -> None:
    assert spike_offsets(spiky([0, 1], 2, [1, 2]), spiky([0], 2, [1]), LABELS, 0) == []
    assert summary([]) == {}


def test_transcript_loss_against_all_paths() -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(3, 4, 3).log_softmax(-1)  # [B, T, V]
    labels = torch.tensor([[1, 2], [2, -100], [1, 1]])
    lengths, weight = torch.tensor([4, 3, 2]), torch.tensor([1.0, 1.0, 1.0])  # the last one is too short for 1 1
    signal = TeacherSignal(log_probs=log_probs, lengths=lengths, vocabulary="v", frame_seconds=0.04, weight=weight)

    def loss(row: int, frames: int, wanted: list[int]) -> float:
        paths = itertools.product(range(3), repeat=frames)
        fitting = [path for path in paths if [label for label, _ in itertools.groupby(path) if label] == wanted]
        return -math.log(
            sum(math.exp(sum(float(log_probs[row, t, v]) for t, v in enumerate(path))) for path in fitting)
        )

    total, count = transcript_loss(signal, labels, blank_id=0)
    assert (total, count) == (pytest.approx(loss(0, 4, [1, 2]) + loss(1, 3, [2]), rel=1e-5), 3)
    signal.weight[0] = 0.0
    assert transcript_loss(signal, labels, blank_id=0) == (pytest.approx(loss(1, 3, [2]), rel=1e-5), 1)
