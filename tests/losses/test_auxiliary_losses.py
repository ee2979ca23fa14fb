"""The auxiliary classifier's losses: what they leave alone, and self-distillation as the field's public code has it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from loss_scene import BLANK, LABELS, LENGTHS, build_loss, make_scene


def test_the_students_own_output_teaches_and_does_not_follow() -> None:
    scene = make_scene()
    build_loss("auxiliary_kd")(scene.output, None, scene.batch).sum().backward()
    assert scene.output.logits.grad is None
    assert scene.output.auxiliary_logits.grad[..., BLANK].abs().max() == 0
    assert scene.output.auxiliary_logits.grad.abs().max() > 0


def test_nothing_to_learn_where_both_classifiers_agree_but_for_the_blank() -> None:
    scene = make_scene()
    agreed = scene.output.logits.detach().clone()
    agreed[..., BLANK] += 3.0
    scene.output.auxiliary_logits = agreed.requires_grad_()
    assert build_loss("auxiliary_kd")(scene.output, None, scene.batch).abs().max() < 1e-12


@pytest.mark.parametrize("temperature", [1.0, 8.0])
def test_weights_mean_what_they_mean_in_the_literature(temperature: float) -> None:
    """VAC's total of one utterance: CTC of the whole sentence, twice, and 25 * KLDivLoss(batchmean) * T^2 over its
    frames without the blank. Ours is the same over the number of labels."""
    scene = make_scene()
    parts = {
        name: build_loss(name, auxiliary_temperature=temperature)(scene.output, None, scene.batch)
        for name in ("ctc", "auxiliary_ctc", "auxiliary_kd")
    }
    found = parts["ctc"] + parts["auxiliary_ctc"] + 25 * parts["auxiliary_kd"]
    for row, (length, labels) in enumerate(zip(LENGTHS, LABELS, strict=True)):
        sequence, convolved = scene.output.logits[row, :length], scene.output.auxiliary_logits[row, :length]
        sizes = (torch.tensor([labels]), torch.tensor([length]), torch.tensor([len(labels)]))
        student = F.log_softmax(convolved[:, 1:] / temperature, -1)
        target = F.softmax(sequence[:, 1:] / temperature, -1)
        expected = 25 * F.kl_div(student, target, reduction="batchmean") * temperature**2
        for logits in (sequence, convolved):
            expected = expected + F.ctc_loss(logits.log_softmax(-1)[:, None], *sizes, reduction="none")[0]
        torch.testing.assert_close(found[row], expected / len(labels))


def test_auxiliary_ctc_reads_the_auxiliary_classifier_only() -> None:
    scene = make_scene()
    value = build_loss("auxiliary_ctc")(scene.output, None, scene.batch)
    scene.output.logits, scene.output.auxiliary_logits = scene.output.auxiliary_logits, scene.output.logits
    torch.testing.assert_close(build_loss("ctc")(scene.output, None, scene.batch), value)
    value.sum().backward()
    assert scene.output.auxiliary_logits.grad is None
