"""A teacher that is late, early or stretched by a known amount: the loss finds it, as brute force does."""

from __future__ import annotations

import itertools
import weakref

import numpy as np
import pytest
import torch
from loss_scene import best_path_by_enumeration, shift_by_brute_force

from kd_asr_slr.decoding.forced_alignment import best_path
from kd_asr_slr.losses.alignment import label_frames
from kd_asr_slr.losses.base import LossContext
from kd_asr_slr.losses.ctc_kd import CTCDistillation
from kd_asr_slr.losses.label_pooling import pool_labels
from kd_asr_slr.losses.row_sources import interpolate
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.losses.shifts import best_shifts
from kd_asr_slr.outputs import CTCOutput, TeacherSignal

BLANK = 0


def draw(seed: int, *size: int) -> torch.Tensor:
    return 2 * torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss_of(way: str, student_seconds: float = 0.04, **options: object) -> CTCDistillation:
    return CTCDistillation(
        LossSettings(rate_matching=way, **options), LossContext(BLANK, frame_seconds=student_seconds)
    )


def call(
    loss: CTCDistillation,
    student: torch.Tensor,
    teacher: torch.Tensor,
    lengths: tuple[list[int], list[int]],
    labels: list[list[int]] | None = None,
    seconds: float = 0.04,
    temperature: float = 1.0,
) -> tuple[torch.Tensor, dict[str, float]]:
    output = CTCOutput(logits=student, logit_lengths=torch.tensor(lengths[0]))
    signal = TeacherSignal(teacher, torch.tensor(lengths[1]), "v", seconds, torch.ones(len(student)))
    width = max(map(len, labels or [[1]]))
    padded = torch.tensor([row + [-100] * (width - len(row)) for row in labels or [[1]] * len(student)])
    batch = {"labels": padded, "ids": [f"utt{row}" for row in range(len(student))]}
    return loss(output, signal, batch, temperature), loss.diagnostics(output, signal, batch)


# --- shift ---


@pytest.mark.parametrize("selection", ["all", "threshold", "symmetric"])
@pytest.mark.parametrize("delay", [-3, -1, 0, 2, 3])
def test_a_late_student_is_found(delay: int, selection: str) -> None:
    """The student says what the teacher says, `delay` frames later; at its edges it says something else."""
    teacher = draw(0, 2, 14, 6).log_softmax(-1)
    student = draw(1, 2, 14, 6)
    for t in range(14):
        if 0 <= t + delay < 14:
            student[:, t + delay] = teacher[:, t] + 3.0  # logits at another level
    options = {"frame_selection": selection, "blank_threshold": 0.9, "match_window": 3}
    value, diagnostics = call(loss_of("shift", **options), student, teacher, ([14, 14], [14, 14]))
    assert value.abs().max() < 1e-12
    assert diagnostics["shift"] == delay
    aligned, _ = call(loss_of("equal", **options), student, teacher, ([14, 14], [14, 14]))
    assert (aligned.min() > 0.1) == (delay != 0)


@pytest.mark.parametrize("drop", [None, 0, 2])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize(("frames", "window"), [(5, 1), (9, 3), (4, 9), (70, 4)])
def test_the_best_shift_by_brute_force(frames: int, window: int, temperature: float, drop: int | None) -> None:
    """Utterances of several lengths, garbage in the padding, windows longer than an utterance, blocks that meet."""
    lengths = [frames, max(frames - 2, 1), 1]
    student, teacher = draw(frames, 3, frames + 2, 6), draw(frames + 1, 3, frames + 5, 6).log_softmax(-1)
    for row, length in enumerate(lengths):
        student[row, length:] = teacher[row, length:] = float("nan")
    counted = torch.arange(frames + 5) < torch.tensor(lengths)[:, None]
    found = best_shifts(student, teacher, counted, torch.tensor(lengths), window, temperature, drop)
    keep = [index for index in range(6) if index != drop]
    sides = [
        (student[row, :length, keep].numpy(), teacher[row, :length, keep].log_softmax(-1).numpy())
        for row, length in enumerate(lengths)
    ]
    expected = [shift_by_brute_force(*pair, min(window, len(pair[0]) - 1), temperature) for pair in sides]
    assert found.tolist() == expected


def test_of_equal_shifts_the_smallest_is_taken() -> None:
    constant = torch.zeros(1, 8, 5)
    counted = torch.ones(1, 8, dtype=torch.bool)
    assert best_shifts(constant + 2, constant.log_softmax(-1), counted, torch.tensor([8]), window=3).tolist() == [0]


def test_a_probability_of_zero_can_be_shifted() -> None:
    teacher = torch.eye(6).unsqueeze(0).log()  # one class a frame, all others impossible
    student = 9 * torch.eye(6).roll(1, 0).unsqueeze(0)
    counted = torch.ones(1, 6, dtype=torch.bool)
    assert best_shifts(student, teacher, counted, torch.tensor([6]), window=2).tolist() == [1]


def test_a_late_student_of_another_rate() -> None:
    """Twice the teacher's rate, and four of its own frames late."""
    teacher = draw(0, 1, 12, 6).log_softmax(-1)
    resampled = interpolate(teacher, torch.tensor([12]), 2.0, 24).dense(normalised=True)
    student = resampled.roll(4, 1)
    value, diagnostics = call(loss_of("shift", match_window=5), student, teacher, ([24], [12]), seconds=0.08)
    assert value.item() < 1e-12 and diagnostics["shift"] == 4


def test_the_gradient_is_that_of_the_chosen_pairs() -> None:
    teacher, student = draw(0, 1, 9, 6).log_softmax(-1), draw(1, 1, 9, 6)
    student[:, 2:] = teacher[:, :-2] + 0.3 * draw(2, 1, 7, 6)
    leaf = student.requires_grad_()
    value, _ = call(loss_of("shift", match_window=3), leaf, teacher, ([9], [9]))
    (found,) = torch.autograd.grad(value.sum(), leaf)
    expected = torch.zeros_like(student)
    expected[:, 2:] = (student[:, 2:].softmax(-1) - teacher[:, :-2].exp()) / 7
    torch.testing.assert_close(found, expected.detach())


# --- rational ratios ---


@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (3, 2), (2, 3), (5, 4)])
def test_rational_ratios_by_interpolation(up: int, down: int) -> None:
    """Each student frame's centre in teacher frames, by numpy's interpolation class by class."""
    frames = 12
    count = frames * up // down
    teacher, student = draw(0, 1, frames, 5).log_softmax(-1), draw(1, 1, count, 5)
    centres = (np.arange(count) + 0.5) * down / up - 0.5
    mixed = np.stack([np.interp(centres, np.arange(frames), teacher[0, :, v].numpy()) for v in range(5)], 1)
    log_target = torch.from_numpy(mixed).log_softmax(-1)
    expected = (log_target.exp() * (log_target - student[0].log_softmax(-1))).sum(-1).mean()
    value, _ = call(loss_of("resample"), student, teacher, ([count], [frames]), seconds=0.04 * up / down)
    torch.testing.assert_close(value[0], expected)


# --- tokens ---


@pytest.mark.parametrize("stretch", [1, 2, 3])
@pytest.mark.parametrize("delay", [0, 5])
def test_a_stretched_and_late_teacher_says_the_same_labels(stretch: int, delay: int) -> None:
    """Every student frame comes `stretch` times in the teacher, behind `delay` frames of blank."""
    labels = [[2, 3, 3], [4]]
    student = torch.zeros(2, 9, 6, dtype=torch.float64)
    student[..., BLANK] = 4.0
    for row, spikes in enumerate(([(1, 2), (4, 3), (7, 3)], [(3, 4), (4, 4)])):
        for frame, label in spikes:
            student[row, frame] = draw(10 * row + frame, 6)
            student[row, frame, label] = 8.0
    teacher = student.repeat_interleave(stretch, 1)
    silence = torch.zeros(2, delay, 6, dtype=torch.float64)
    silence[..., BLANK] = 4.0
    teacher = torch.cat([silence, teacher], 1).log_softmax(-1)
    lengths = ([9, 9], [9 * stretch + delay] * 2)
    leaf = student.clone().requires_grad_()
    value, diagnostics = call(loss_of("tokens"), leaf, teacher, lengths, labels, temperature=2.0)
    assert value.abs().max() < 1e-12 and diagnostics == {"valid_frame_ratio": 1.0}
    wrong, _ = call(loss_of("tokens"), leaf, teacher.roll(1, -1), lengths, labels, temperature=2.0)
    assert wrong.min() > 0.1
    (gradient,) = torch.autograd.grad(wrong.sum(), leaf)
    moved = [frames.nonzero().flatten().tolist() for frames in gradient.abs().sum(-1)]
    assert moved == [[1, 4, 7], [3, 4]]


@pytest.mark.parametrize("seed", range(6))
def test_alignment_by_enumeration_and_by_the_aligner_of_the_decoders(seed: int) -> None:
    sides = [(draw(seed, 4, 6, 4), torch.tensor([6, 5, 1, 0])), (draw(seed + 50, 4, 8, 4), torch.tensor([7, 3, 2, 4]))]
    labels = [[1, 1, 2], [3], [2, 2], [1]]
    padded = torch.tensor([row + [-100] * (3 - len(row)) for row in labels])
    for (logits, lengths), found in zip(sides, label_frames(sides, padded, BLANK), strict=True):
        for row, (length, items) in enumerate(zip(lengths.tolist(), labels, strict=True)):
            needed = len(items) + sum(a == b for a, b in itertools.pairwise(items))
            scores = logits[row, :length].numpy()
            expected = best_path_by_enumeration(scores, items, BLANK) if length >= needed else [-1] * length
            assert found[row].tolist() == expected + [-1] * (logits.shape[1] - length)
            if length >= needed:
                np.testing.assert_array_equal(best_path(scores, items, BLANK), expected)


def test_labels_that_do_not_fit_or_are_not_there_give_zero_on_the_graph() -> None:
    student = draw(0, 3, 4, 5).requires_grad_()
    labels = [[1, 1, 1], [], [2]]  # the first needs five frames
    value, _ = call(loss_of("tokens"), student, draw(1, 3, 9, 5).log_softmax(-1), ([4, 4, 4], [9, 9, 9]), labels)
    assert value[:2].tolist() == [0, 0] and value[2] > 0
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert gradient[:2].abs().max() == 0 and gradient.isfinite().all()


def test_selection_works_on_labels_too() -> None:
    """A label that the teacher takes for a blank is dropped by the threshold."""
    student, labels = draw(0, 1, 4, 4), [[1, 2]]
    teacher = torch.tensor([[[0.1, 0.8, 0.05, 0.05], [0.9, 0.03, 0.05, 0.02]]]).double().log()
    loss = loss_of("tokens", frame_selection="threshold", blank_threshold=0.85)
    _, diagnostics = call(loss, student, teacher, ([4], [2]), labels)
    assert diagnostics == {"valid_frame_ratio": 0.5}


def test_pooling_by_hand() -> None:
    logits = torch.arange(12.0).view(1, 6, 2)
    pooled = pool_labels(logits, torch.tensor([[-1, 0, 0, 1, -1, 2]]), torch.tensor([3]), size=4)
    assert pooled[0].tolist() == [[3, 4], [6, 7], [10, 11], [0, 0]]
    assert pool_labels(logits, torch.tensor([[-1, 0, 0, 1, -1, 2]]), torch.tensor([0]), size=4).abs().sum() == 0


@pytest.mark.parametrize("longest", [1, 2, 9])
def test_frames_of_a_label_are_averaged_however_many_there_are(longest: int) -> None:
    generator = torch.Generator().manual_seed(longest)
    logits = draw(0, 3, 24, 5).requires_grad_()
    positions = torch.full((3, 24), -1)
    for row in range(3):
        frame = row
        for label in range(4 - row):
            run = int(torch.randint(1, longest + 1, (), generator=generator)) if 24 - frame > longest + 8 else 1
            positions[row, frame : frame + run] = label
            frame += run + int(torch.randint(0, 2, (), generator=generator))
    counts = torch.tensor([4, 0, 2])
    pooled = pool_labels(logits, positions, counts, size=4)
    for row, label in itertools.product(range(3), range(4)):
        of_label = logits[row][(positions[row] == label) & (counts[row] > 0)]
        expected = of_label.mean(0) if len(of_label) else torch.zeros(5)
        torch.testing.assert_close(pooled[row, label], expected.double())
    assert torch.autograd.gradcheck(lambda x: pool_labels(x, positions, counts, size=4), logits)


# --- settings ---


def test_feature_losses_refuse_what_moves_frames() -> None:
    settings = LossSettings(gamma=1, feature_losses=("hidden",), layer_map={0: 0}, rate_matching="shift")
    assert settings.problems() == [
        "rate_matching is 'shift'; the feature loss 'hidden' compares frames and expects equal or resample"
    ]
    assert LossSettings(match_window=-1).problems() == ["match_window is -1; expected a whole number of at least 0"]


# --- diagnostics ---


@pytest.mark.parametrize("way", ["equal", "shift"])
def test_diagnostics_are_those_of_the_last_call(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found twice, and a call on another output, or none, does not answer for this one."""
    loss, calls = loss_of(way, match_window=3), []
    pairs_of = loss._pairs
    monkeypatch.setattr(loss, "_pairs", lambda *given, **how: calls.append(given) or pairs_of(*given, **how))
    teacher = draw(0, 1, 12, 6).log_softmax(-1)
    signal = TeacherSignal(teacher, torch.tensor([12]), "v", 0.04, torch.ones(1))
    outputs = [CTCOutput(logits=teacher.roll(late, 1), logit_lengths=torch.tensor([12])) for late in (2, 1)]
    found = []
    for output in outputs:
        loss(output, signal, {"labels": torch.tensor([[1]])}, 2.0)
        found.append(loss.diagnostics(output, signal, {"labels": torch.tensor([[1]])}))
    assert len(calls) == 2
    assert [one.get("shift") for one in found] == ([2.0, 1.0] if way == "shift" else [None, None])
    assert loss.diagnostics(outputs[0], signal, {"labels": torch.tensor([[1]])}) == found[0]
    assert len(calls) == 3


def test_the_last_call_does_not_keep_the_output_alive() -> None:
    loss, teacher = loss_of("equal"), draw(0, 1, 5, 6).log_softmax(-1)
    signal = TeacherSignal(teacher, torch.tensor([5]), "v", 0.04, torch.ones(1))
    output = CTCOutput(logits=draw(1, 1, 5, 6).requires_grad_(), logit_lengths=torch.tensor([5]))
    logits = weakref.ref(output.logits)
    loss(output, signal, {"labels": torch.tensor([[1]])})
    del output
    assert logits() is None
