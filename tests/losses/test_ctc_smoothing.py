"""Label smoothing of the CTC loss, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from loss_scene import softmax

from kd_asr_slr.losses.base import LossContext
from kd_asr_slr.losses.ctc import LabelCTC
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.outputs import CTCOutput


def test_it_mixes_the_ctc_loss_with_the_distance_from_uniform() -> None:
    logits = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(3))
    output = CTCOutput(logits=logits, logit_lengths=torch.tensor([5, 3]))
    batch = {"labels": torch.tensor([[1, 2], [3, -100]]), "ids": ["a", "b"]}
    plain, smooth = (
        LabelCTC(LossSettings(ctc_label_smoothing=share), LossContext(blank_id=0))(output, None, batch)
        for share in (0.0, 0.1)
    )
    for row, frames in enumerate((5, 3)):
        probabilities = [softmax(frame) for frame in logits[row, :frames].double().numpy()]
        divergence = np.mean([np.sum(0.25 * np.log(0.25 / frame)) for frame in probabilities])
        assert smooth[row].item() == pytest.approx(0.9 * plain[row].item() + 0.1 * divergence, rel=1e-5)


def test_its_range_is_checked() -> None:
    assert LossSettings(ctc_label_smoothing=1.0).problems() == [
        "ctc_label_smoothing is 1.0; expected a number of at least 0, below 1"
    ]
