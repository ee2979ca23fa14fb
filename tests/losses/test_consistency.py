"""Consistency of two views: the paper's value, which side follows, and what has no labels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from loss_scene import BLANK, build_loss

from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.losses.table import build_losses
from kd_asr_slr.outputs import CTCOutput

LENGTHS, LABELS = [6, 4], [2, 1]


def labels() -> torch.Tensor:
    return torch.tensor([[3, 1], [4, -100]]).repeat(2, 1)


def views(seed: int, same: bool = False) -> tuple[torch.Tensor, CTCOutput]:
    """Two views of two utterances, [4, 7, 5], as a leaf; and the output as the trainer hands it to the losses."""
    logits = 2 * torch.randn(4, 7, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if same:
        logits[2:] = logits[:2]
    logits.requires_grad_()
    lengths = torch.tensor(LENGTHS * 2)
    other = logits.detach()[[2, 3, 0, 1]]
    return logits, CTCOutput(logits=logits, logit_lengths=lengths, other_view_logits=other)


def paper(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Equation 4 of CR-CTC for one utterance, in torch's own words: [T, V] each."""
    sides = [(first, second), (second, first)]
    return 0.5 * sum(
        F.kl_div(view.log_softmax(-1), other.detach().log_softmax(-1), reduction="sum", log_target=True)
        for view, other in sides
    )


def test_the_mean_over_views_is_the_papers_loss_over_the_labels() -> None:
    logits, output = views(0)
    value = build_loss("consistency")(output, None, {"labels": labels()})
    (found,) = torch.autograd.grad(value.sum() / 2, logits)
    by_paper = [paper(logits[row, :length], logits[row + 2, :length]) for row, length in enumerate(LENGTHS)]
    expected = torch.stack(by_paper) / torch.tensor(LABELS)
    torch.testing.assert_close((value[:2] + value[2:]) / 2, expected)
    torch.testing.assert_close(found, torch.autograd.grad(expected.sum(), logits)[0])


@pytest.mark.parametrize("row", [0, 3])
def test_a_row_pulls_its_own_view_only(row: int) -> None:
    logits, output = views(1)
    build_loss("consistency")(output, None, {"labels": labels()})[row].backward()
    moved = logits.grad.abs().sum((1, 2)) > 0
    assert moved.tolist() == [place == row for place in range(4)]
    assert logits.grad[row, LENGTHS[row % 2] :].abs().max() == 0


def test_identical_views_have_nothing_to_learn() -> None:
    logits, output = views(2, same=True)
    value = build_loss("consistency")(output, None, {"labels": labels()})
    value.sum().backward()
    assert value.abs().max() < 1e-12 and logits.grad.abs().max() < 1e-12


def test_without_labels_it_is_a_mean_over_frames() -> None:
    _, output = views(3)
    labelled = build_loss("consistency")(output, None, {"labels": labels()})
    free = build_loss("consistency")(output, None, {"labels": labels().fill_(-100)})
    torch.testing.assert_close(free * torch.tensor(LENGTHS * 2), labelled * torch.tensor(LABELS * 2))


def test_it_has_a_weight_of_its_own_and_no_teacher() -> None:
    settings = LossSettings(alpha=0, beta=1, consistency_weight=0.2)
    assert not settings.uses_teachers
    assert {part.name: part.weight for part in build_losses(settings, BLANK)} == {"ctc": 1, "consistency": 0.2}
    (problem,) = LossSettings(consistency_weight=-1).problems()
    assert "consistency_weight is -1" in problem
    (problem,) = LossSettings(hard_losses=["ctc", "consistency"]).problems()
    assert "consistency_weight instead" in problem
