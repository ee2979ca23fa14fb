"""CTC-KD: frame selection, the blank class, and rates that differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from loss_scene import BLANK, build_loss, make_scene, reference_kl

from kd_asr_slr.errors import UserError
from kd_asr_slr.losses.base import LossContext
from kd_asr_slr.losses.ctc_kd import CTCDistillation
from kd_asr_slr.losses.frame_selection import select_frames
from kd_asr_slr.losses.row_sources import interpolate
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.outputs import CTCOutput, TeacherSignal

# Blank probability of each frame; the rest is on label 1, with a little on label 2.
BLANKS = [0.99, 0.97, 0.30, 0.955, 0.94, 0.99, 0.99, 0.20]


def spikes(blanks: list[float] = BLANKS) -> torch.Tensor:
    frames = [[blank, 0.9 * (1 - blank), 0.1 * (1 - blank)] for blank in blanks]
    return torch.tensor([frames]).double().log()  # [1, T, 3]


def kept(valid: int = 8, **options: object) -> list[int]:
    mask = torch.arange(8).unsqueeze(0) < valid
    selected = select_frames(spikes(), mask, BLANK, LossSettings(**options))
    return selected[0].nonzero().flatten().tolist()


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        ({"frame_selection": "all"}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"frame_selection": "threshold", "blank_threshold": 0.95}, [2, 4, 7]),
        ({"frame_selection": "threshold", "blank_threshold": 0.96}, [2, 3, 4, 7]),
        ({"frame_selection": "symmetric", "neighbours": 0}, [2, 7]),
        ({"frame_selection": "symmetric", "neighbours": 1}, [1, 2, 3, 6, 7]),
        ({"frame_selection": "symmetric", "neighbours": 3}, [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_selected_frames(options: dict[str, object], frames: list[int]) -> None:
    assert kept(**options) == frames


def test_the_threshold_itself_is_dropped() -> None:
    half = torch.tensor([[[0.5, 0.5], [0.25, 0.75]]]).log()
    settings = LossSettings(frame_selection="threshold", blank_threshold=0.5)
    assert select_frames(half, torch.ones(1, 2, dtype=torch.bool), BLANK, settings).tolist() == [[False, True]]


def test_a_spike_in_padding_selects_no_neighbours() -> None:
    assert kept(valid=7, frame_selection="symmetric", neighbours=2) == [0, 1, 2, 3, 4]


def scene_of(teacher: torch.Tensor, lengths: list[int], student: torch.Tensor, student_lengths: list[int]):
    output = CTCOutput(logits=student, logit_lengths=torch.tensor(student_lengths))
    signal = TeacherSignal(teacher, torch.tensor(lengths), "v", 0.08, torch.ones(len(lengths)))
    return output, signal, {"labels": torch.ones(len(lengths), 1), "ids": [f"spk/{row}" for row in range(len(lengths))]}


@pytest.mark.parametrize("drop", [False, True])
def test_only_selected_frames_count_and_they_are_the_denominator(drop: bool) -> None:
    student = torch.randn(1, 8, 3, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    output, signal, batch = scene_of(spikes(), [8], student, [8])
    settings = LossSettings(frame_selection="threshold", blank_threshold=0.95, drop_blank_class=drop)
    loss = CTCDistillation(settings, LossContext(blank_id=BLANK))
    value = loss(output, signal, batch, 2.0)
    start = 1 if drop else 0
    teacher, rows = spikes()[0].numpy(), student[0].detach().numpy()
    expected = np.mean([reference_kl(rows[t, start:], teacher[t, start:], 2.0) for t in (2, 4, 7)])
    assert value.item() == pytest.approx(expected, rel=1e-10)
    value.sum().backward()
    assert student.grad[0].abs().sum(-1).nonzero().flatten().tolist() == [2, 4, 7]
    assert loss.diagnostics(output, signal, batch) == {"valid_frame_ratio": 3 / 8}


def test_no_frame_selected_gives_zero_on_the_graph() -> None:
    student = torch.randn(1, 8, 3, requires_grad=True)
    output, signal, batch = scene_of(spikes([0.99] * 8).float(), [8], student, [8])
    value = CTCDistillation(LossSettings(frame_selection="symmetric"), LossContext(BLANK))(output, signal, batch)
    value.sum().backward()
    assert value.item() == 0
    assert (student.grad == 0).all()


def test_valid_frame_ratio_counts_no_padding_and_no_silent_teacher() -> None:
    scene = make_scene(weight=[1.0, 0.0, 1.0])
    loss = build_loss("ctc_kd", frame_selection="threshold", blank_threshold=0.2)
    blanks = scene.signal.log_probs[..., BLANK].exp()
    below = int((blanks[0, :5] < 0.2).sum() + (blanks[2, :4] < 0.2).sum())
    assert 0 < below < 9
    assert loss.diagnostics(scene.output, scene.signal, scene.batch) == {"valid_frame_ratio": below / 9}


# --- rates that differ ---


def test_different_lengths_are_refused_with_both_lengths_and_rates() -> None:
    output, signal, batch = scene_of(torch.zeros(2, 6, 3), [6, 4], torch.zeros(2, 12, 3), [6, 9])
    loss = CTCDistillation(LossSettings(), LossContext(BLANK, frame_seconds=0.04))
    with pytest.raises(UserError) as caught:
        loss(output, signal, batch)
    message = str(caught.value)
    assert "'spk/1' has 9 student frames, 4 teacher frames" in message
    assert "0.08" in message and "0.04" in message and "resample" in message
    assert "spk/0" not in message


def test_one_frame_of_difference_is_refused_too() -> None:
    output, signal, batch = scene_of(torch.zeros(1, 6, 3), [6], torch.zeros(1, 5, 3), [5])
    with pytest.raises(UserError, match="5 student frames, 6 teacher frames"):
        CTCDistillation(LossSettings(), LossContext(BLANK))(output, signal, batch)


def resampling(student_seconds: float, **options: object) -> CTCDistillation:
    settings = LossSettings(rate_matching="resample", **options)
    return CTCDistillation(settings, LossContext(BLANK, frame_seconds=student_seconds))


def test_resampling_a_line_gives_the_line() -> None:
    """A value that grows linearly in time keeps its value at every student frame's own time."""
    for ratio, count in [(2.0, 20), (1.5, 15), (0.5, 5), (0.75, 7)]:
        line = torch.arange(10).double().add(0.5).view(1, 10, 1)  # frame centres, in teacher frames
        new = interpolate(line, torch.tensor([10]), ratio, count).dense().flatten()
        centres = (torch.arange(count).double() + 0.5) / ratio
        inside = (centres >= 0.5) & (centres <= 9.5)
        torch.testing.assert_close(new[inside], centres[inside])
        assert inside.sum() >= count - 2


def test_resampled_target_by_hand() -> None:
    teacher = torch.tensor([[[0.8, 0.1, 0.1], [0.2, 0.6, 0.2]]]).double().log()
    student = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0)).double()
    output, signal, batch = scene_of(teacher, [2], student, [4])
    value = resampling(0.04)(output, signal, batch, 2.0)
    expected = []
    for t, share in enumerate([0.0, 0.25, 0.75, 1.0]):
        mixed = np.exp((1 - share) * teacher[0, 0].numpy() + share * teacher[0, 1].numpy())
        expected.append(reference_kl(student[0, t].numpy(), np.log(mixed / mixed.sum()), 2.0))
    assert value.item() == pytest.approx(np.mean(expected), rel=1e-10)


def test_resampling_finds_a_stretched_student() -> None:
    """A student that is the teacher at twice the rate matches; one that runs backwards does not."""
    teacher = torch.randn(1, 9, 3, generator=torch.Generator().manual_seed(1)).double().log_softmax(-1)
    student = interpolate(teacher, torch.tensor([9]), 2.0, 18).dense()
    output, signal, batch = scene_of(teacher, [9], student, [18])
    assert resampling(0.04)(output, signal, batch).item() < 1e-12
    output.logits = student.flip(1)
    assert resampling(0.04)(output, signal, batch).item() > 0.01


@pytest.mark.parametrize("selection", ["all", "symmetric"])
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -float("inf")])
def test_resampling_never_reads_padding(garbage: float, selection: str) -> None:
    def target(fill: float) -> torch.Tensor:
        teacher = torch.full((3, 5, 3), fill).double()
        teacher[0, :3] = spikes()[0, :3]
        teacher[1, :5] = spikes()[0, :5]
        return teacher

    # The third utterance has no teacher frame and, within rounding, one of the student.
    student = torch.randn(3, 10, 3, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    values = []
    for fill in (0.0, garbage):
        output, signal, batch = scene_of(target(fill), [3, 5, 0], student, [6, 9, 1])
        values.append(resampling(0.04, frame_selection=selection)(output, signal, batch))
    assert torch.equal(values[0], values[1])
    assert values[0][2] == 0
    (gradient,) = torch.autograd.grad(values[1].sum(), student)
    assert gradient.isfinite().all()


def test_the_threshold_sees_resampled_probabilities_that_sum_to_one() -> None:
    """Half way between two frames that disagree: 0.3 of blank before renormalising, 0.5 after."""
    teacher = torch.tensor([[[0.9, 0.1], [0.1, 0.9]]]).double().log()
    output, signal, batch = scene_of(teacher, [2], torch.zeros(1, 1, 2).double(), [1])
    dropped = resampling(0.16, frame_selection="threshold", blank_threshold=0.4)
    assert dropped.diagnostics(output, signal, batch) == {"valid_frame_ratio": 0.0}
    kept = resampling(0.16, frame_selection="threshold", blank_threshold=0.6)
    assert kept.diagnostics(output, signal, batch) == {"valid_frame_ratio": 1.0}


def test_label_of_probability_zero_survives_resampling() -> None:
    teacher = torch.tensor([[[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]]).log()
    output, signal, batch = scene_of(teacher, [2], torch.zeros(1, 4, 3, requires_grad=True), [4])
    assert resampling(0.04)(output, signal, batch).isfinite().all()


def test_lengths_beyond_rounding_are_refused_when_resampling() -> None:
    output, signal, batch = scene_of(torch.zeros(1, 6, 3), [6], torch.zeros(1, 12, 3), [8])
    with pytest.raises(UserError, match=r"8 student frames, 6 teacher frames.*within rounding"):
        resampling(0.04)(output, signal, batch)


def test_resampling_needs_the_students_rate() -> None:
    with pytest.raises(ValueError, match="frame_seconds"):
        CTCDistillation(LossSettings(rate_matching="resample"), LossContext(BLANK))
