"""What the teachers' own labels teach: classes they are sure of, and the sequences they hear."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from loss_scene import BLANK, build_loss, make_scene, reference_ctc, softmax

from kd_asr_slr.decoding.greedy import collapse
from kd_asr_slr.losses.base import Loss
from kd_asr_slr.losses.sequence_kd import collapsed
from kd_asr_slr.outputs import CTCOutput, TeacherSignal


def teacher_of(*utterances: list[tuple[int, float]]) -> TeacherSignal:
    """Each frame as (best class, its probability); the rest is shared by the two other classes. NaN in the padding."""
    lengths = torch.tensor([len(frames) for frames in utterances])
    probabilities = torch.full((len(utterances), int(lengths.max()) + 1, 3), math.nan).double()
    for row, frames in enumerate(utterances):
        for t, (best, probability) in enumerate(frames):
            probabilities[row, t] = (1 - probability) / 2
            probabilities[row, t, best] = probability
    return TeacherSignal(probabilities.log(), lengths, "v", 0.04, torch.ones(len(utterances)))


def student_of(*lengths: int) -> CTCOutput:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(lengths), max(lengths), 3, generator=generator).double().requires_grad_()
    return CTCOutput(logits=logits, logit_lengths=torch.tensor(lengths))


def batch_of(output: CTCOutput) -> dict[str, object]:
    """Nothing is transcribed."""
    return {"labels": torch.full((len(output.logits), 1), -100), "ids": [f"utt{n}" for n in range(len(output.logits))]}


def taught(loss: Loss, output: CTCOutput, signal: TeacherSignal) -> tuple[list[float], torch.Tensor, dict[str, float]]:
    """Values, gradient of their sum, diagnostics."""
    values = loss(output, signal, batch_of(output), 2.0)
    (gradient,) = torch.autograd.grad(values.sum(), output.logits)
    return values.tolist(), gradient, loss.diagnostics(output, signal, batch_of(output))


def reference_sequence(output: CTCOutput, row: int, labels: list[int]) -> float:
    frames = output.logits[row, : output.logit_lengths[row]].detach().numpy()
    return reference_ctc(np.log([softmax(frame) for frame in frames]), labels, BLANK) / len(labels)


@pytest.mark.parametrize("name", ["pseudo_labels", "sequence_kd"])
def test_gradcheck(name: str) -> None:
    scene = make_scene(padding=0, weight=[1.0, 0.0, 0.5])

    def loss(logits: torch.Tensor) -> torch.Tensor:
        scene.output.logits = logits
        return build_loss(name)(scene.output, scene.signal, scene.batch, 2.0)

    assert torch.autograd.gradcheck(loss, (scene.output.logits.detach().requires_grad_(),))


@pytest.mark.parametrize("name", ["pseudo_labels", "sequence_kd"])
def test_a_student_that_is_sure_of_the_same_has_nothing_to_learn(name: str) -> None:
    signal = teacher_of([(1, 0.95), (0, 0.95), (2, 0.95)])
    sure = CTCOutput(logits=torch.where(signal.log_probs[:, :3] > -1, 50.0, 0.0), logit_lengths=torch.tensor([3]))
    assert build_loss(name)(sure, signal, batch_of(sure)).abs().max() < 1e-12


# --- pseudo-labels ---


def test_frames_below_the_confidence_are_left_out_and_do_not_count() -> None:
    output, signal = student_of(4, 2), teacher_of([(0, 0.95), (1, 0.49), (2, 0.5), (1, 0.8)], [(1, 0.9), (0, 0.4)])
    values, gradient, numbers = taught(build_loss("pseudo_labels", pseudo_label_confidence=0.5), output, signal)
    rows = output.logits.detach().numpy()
    expected = [
        np.mean([-np.log(softmax(rows[0, t])[label]) for t, label in ((0, 0), (2, 2), (3, 1))]),
        -np.log(softmax(rows[1, 0])[1]),
    ]
    assert values == pytest.approx(expected, rel=1e-10)
    assert gradient.abs().sum(-1).gt(0).tolist() == [[True, False, True, True], [True, False, False, False]]
    assert numbers == {"pseudo_label_ratio": 4 / 6}


def test_teachers_that_are_never_sure_give_zero_on_the_graph() -> None:
    output, signal = student_of(2, 1), teacher_of([(0, 0.8), (1, 0.6)], [(2, 0.95)])
    values, gradient, numbers = taught(build_loss("pseudo_labels", pseudo_label_confidence=0.9), output, signal)
    assert values[0] == 0 and values[1] > 0
    assert gradient[0].abs().max() == 0
    assert numbers == {"pseudo_label_ratio": 1 / 3}
    signal.weight[1] = 0
    _, gradient, numbers = taught(build_loss("pseudo_labels", pseudo_label_confidence=0.9), output, signal)
    assert gradient.abs().max() == 0
    assert numbers == {"pseudo_label_ratio": 0.0}


# --- sequences ---


def test_collapsed_paths_are_those_of_the_greedy_decoder() -> None:
    generator = torch.Generator().manual_seed(3)
    paths = torch.randint(0, 3, (40, 12), generator=generator)
    lengths = torch.randint(0, 13, (40,), generator=generator)
    found = collapsed(paths, torch.arange(12) < lengths[:, None], blank_id=1)
    for row, path, length in zip(found.tolist(), paths.tolist(), lengths.tolist(), strict=True):
        expected = collapse(path[:length], blank=1)
        assert row == expected + [-100] * (12 - len(expected))


def test_a_sequence_is_learnt_at_the_students_own_frame_rate() -> None:
    output = student_of(4, 5)
    signal = teacher_of([(1, 0.9)] * 4 + [(0, 0.9)] * 3 + [(1, 0.6), (2, 0.5), (2, 0.9)], [(2, 0.7)])
    values, _, numbers = taught(build_loss("sequence_kd"), output, signal)
    expected = [reference_sequence(output, 0, [1, 1, 2]), reference_sequence(output, 1, [2])]
    assert values == pytest.approx(expected, rel=1e-10)
    assert numbers == {"sequence_ratio": 1.0}


def test_nothing_heard_or_too_much_for_the_frames_gives_zero_on_the_graph() -> None:
    again = [(1, 0.9), (0, 0.9), (1, 0.9)]  # takes three frames
    output, signal = student_of(3, 2, 3), teacher_of([(0, 0.9)] * 3, again, again)
    values, gradient, numbers = taught(build_loss("sequence_kd"), output, signal)
    assert values[:2] == [0, 0]
    assert values[2] == pytest.approx(reference_sequence(output, 2, [1, 1]), rel=1e-10)
    assert gradient[:2].abs().max() == 0 and gradient[2].abs().max() > 0
    assert numbers == {"sequence_ratio": 1 / 3}


@pytest.mark.parametrize(("gate", "kept"), [(0.0, [0, 1]), (0.5, [0, 1]), (0.65, [0]), (0.75, [])])
def test_an_utterance_that_the_teachers_are_unsure_of_is_left_out(gate: float, kept: list[int]) -> None:
    """Geometric means of 0.7 and 0.6; the arithmetic mean of the second is 0.65."""
    output, signal = student_of(2, 2), teacher_of([(1, 0.7), (1, 0.7)], [(1, 0.9), (2, 0.4)])
    values, _, numbers = taught(build_loss("sequence_kd", sequence_confidence=gate), output, signal)
    assert [row for row, value in enumerate(values) if value > 0] == kept
    assert numbers == {"sequence_ratio": len(kept) / 2}


def test_where_the_teachers_hear_the_transcript_it_is_the_label_loss() -> None:
    output, signal = student_of(4), teacher_of([(1, 0.9), (0, 0.9), (2, 0.9), (2, 0.9)])
    transcribed = {"labels": torch.tensor([[1, 2]]), "ids": ["a"]}
    expected = build_loss("ctc")(output, None, transcribed)
    # Its smoothing belongs to the transcript.
    found = build_loss("sequence_kd", ctc_label_smoothing=0.2)(output, signal, batch_of(output))
    torch.testing.assert_close(found, expected)
