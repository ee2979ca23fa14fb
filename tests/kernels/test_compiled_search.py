"""Compiled searches, for shifts and for paths, against brute force and against another implementation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from kd_asr_slr.decoding.forced_alignment import best_path
from kd_asr_slr.losses import alignment, shifts
from kd_asr_slr.losses.alignment import label_frames
from kd_asr_slr.losses.shifts import best_shifts

pytestmark = pytest.mark.usefixtures("compiled")


def draw(seed: int, *size: int) -> torch.Tensor:
    return 2 * torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def costs(student: np.ndarray, teacher: np.ndarray, counted: np.ndarray, window: int, temperature: float) -> list:
    """The mean divergence under each shift, frame by frame, in float64."""
    ours, theirs = (torch.from_numpy(side).double().div(temperature).log_softmax(-1) for side in (student, teacher))
    found = []
    for shift in range(-window, window + 1):
        pairs = [(t, t + shift) for t in np.flatnonzero(counted) if 0 <= t + shift < len(ours)]
        values = [float((theirs[t].exp() * (theirs[t] - ours[u])).sum()) for t, u in pairs]
        found.append(np.mean(values) if values else np.inf)
    return found


@pytest.mark.parametrize("drop", [None, 0, 4, 8])
@pytest.mark.parametrize(("window", "temperature"), [(0, 1.0), (1, 2.0), (3, 0.7), (12, 2.0)])
def test_shifts(window: int, temperature: float, drop: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Padding and frames that do not count hold NaN; teacher and student have other numbers of frames."""
    monkeypatch.delattr(shifts, "_banded_kl")
    lengths, others = torch.tensor([9, 6, 1, 10]), torch.tensor([8, 7, 2, 9])
    student, teacher = draw(0, 4, 10, 9), draw(1, 4, 9, 9)
    teacher[0, :7] = student[0, 2:9] + 0.1 * teacher[0, :7]
    teacher = teacher.log_softmax(-1)
    counted = torch.arange(9) < others[:, None]
    counted[0, [0, 3]] = False
    teacher[~counted] = torch.nan
    for row in range(4):
        student[row, lengths[row] :] = torch.nan
    found = best_shifts(student, teacher, counted, lengths, window, temperature, drop).tolist()
    keep = [index for index in range(9) if index != drop]
    for row, shift in enumerate(found):
        arrays = student[row, : lengths[row]][:, keep].numpy(), teacher[row][:, keep].numpy(), counted[row].numpy()
        expected = costs(*arrays, window, temperature)
        assert expected[shift + window] == pytest.approx(min(expected), rel=1e-4)
    assert window < 2 or found[0] == 2


def test_shifts_of_scores_that_leave_float32() -> None:
    teacher = torch.eye(6).unsqueeze(0).log()
    student = 9 * torch.eye(6).roll(1, 0).unsqueeze(0)
    counted = torch.ones(1, 6, dtype=torch.bool)
    assert best_shifts(student + 500, teacher, counted, torch.tensor([6]), window=2).tolist() == [1]


def test_of_equal_shifts_the_smallest_is_taken() -> None:
    constant, counted = torch.zeros(1, 8, 5), torch.ones(1, 8, dtype=torch.bool)
    assert best_shifts(constant, constant.log_softmax(-1), counted, torch.tensor([8]), window=3).tolist() == [0]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the compiled loop may answer."""
    monkeypatch.delattr(alignment, "_best_paths")


@pytest.mark.usefixtures("only")
def test_paths_by_brute_force() -> None:
    """Of all sequences of 5 frames that collapse to the transcript, the one with the largest sum."""
    for seed, labels in enumerate(([1, 2], [1, 1], [2], [1, 2, 1])):
        logits = draw(seed, 1, 5, 3)
        (found,) = label_frames([(logits, torch.tensor([5]))], torch.tensor([labels]), 0)
        best = max(
            (path for path in itertools.product(range(3), repeat=5) if collapsed(path) == labels),
            key=lambda path: sum(float(logits[0, t, c]) for t, c in enumerate(path)),
        )
        assert [labels[place] if place >= 0 else 0 for place in found[0].tolist()] == list(best)


def collapsed(path: tuple[int, ...]) -> list[int]:
    return [label for label, _ in itertools.groupby(path) if label != 0]


@pytest.mark.usefixtures("only")
def test_paths_of_a_batch_against_decoding() -> None:
    """Other lengths, transcripts of none and of too many labels, two networks of other rates; NaN in padding."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(1, 6, (6, 7), generator=generator)
    counts = torch.tensor([7, 3, 0, 1, 5, 7])
    labels[torch.arange(7) >= counts[:, None]] = -100
    sides = []
    for frames, lengths in ((20, [20, 11, 8, 1, 0, 6]), (12, [12, 9, 12, 3, 12, 12])):
        logits = draw(frames, 6, frames, 6)
        for row, length in enumerate(lengths):
            logits[row, length:] = torch.nan
        sides.append((logits, torch.tensor(lengths)))
    for (logits, lengths), found in zip(sides, label_frames(sides, labels, 0), strict=True):
        for row, length in enumerate(lengths.tolist()):
            wanted = labels[row, : counts[row]].tolist()
            path = best_path(logits[row, :length].numpy(), wanted, 0) if wanted and length else None
            expected = [-1] * length if path is None else path.tolist()
            assert found[row].tolist() == expected + [-1] * (logits.shape[1] - length)


@pytest.mark.parametrize(
    ("label", "length", "blank"), [(10**9, 5, 0), (1, 10**7, 0), (1, 5, 10**9)], ids=["label", "frame", "blank"]
)
def test_paths_through_what_does_not_exist_are_refused(label: int, length: int, blank: int) -> None:
    with pytest.raises((IndexError, RuntimeError)):
        label_frames([(draw(0, 1, 5, 3), torch.tensor([length]))], torch.tensor([[label]]), blank)


def test_frames_behind_the_end_are_not_looked_up() -> None:
    """A length that is larger than the tensor counts as its size."""
    student, counted = draw(0, 1, 6, 5), torch.ones(1, 9, dtype=torch.bool)
    sides = student, draw(1, 1, 9, 5).log_softmax(-1), counted
    found = best_shifts(*sides, torch.tensor([10**7]), window=3)
    assert found.tolist() == best_shifts(*sides, torch.tensor([6]), window=3).tolist()


@pytest.mark.parametrize("drop", [9, 1000])
def test_a_class_that_is_none_is_left_to_torch(drop: int) -> None:
    teacher, counted = draw(0, 1, 4, 9).log_softmax(-1), torch.ones(1, 4, dtype=torch.bool)
    with pytest.raises(IndexError):
        best_shifts(draw(1, 1, 4, 9), teacher, counted, torch.tensor([4]), 1, 1.0, drop)
