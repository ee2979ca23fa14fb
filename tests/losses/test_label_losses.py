"""CTC and cross-entropy on labels: outside numbers, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from loss_scene import BLANK, EOS, LABELS, build_loss, make_scene, softmax

from kd_asr_slr.errors import UserError
from kd_asr_slr.losses.base import LossContext
from kd_asr_slr.losses.cross_entropy import DecoderCrossEntropy, with_end
from kd_asr_slr.losses.ctc import LabelCTC, frames_needed
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.outputs import CTCOutput


def ctc(logits: torch.Tensor, lengths: list[int], labels: list[list[int]], blank: int) -> torch.Tensor:
    width = max(map(len, labels))
    padded = torch.tensor([row + [-100] * (width - len(row)) for row in labels], dtype=torch.long)
    output = CTCOutput(logits=logits, logit_lengths=torch.tensor(lengths))
    batch = {"labels": padded.view(len(labels), width), "ids": [f"spk/{row}" for row in range(len(labels))]}
    return LabelCTC(LossSettings(), LossContext(blank_id=blank))(output, None, batch)


def test_a_real_networks_output(shared_data: Path) -> None:
    """The IAM line of githubharald/CTCDecoder, whose loss its own tests and an independent forward pass give."""
    folder = shared_data / "ctc_decode"
    known = json.loads((folder / "expected.json").read_text(encoding="utf-8"))["iam_line"]
    rows = (folder / "iam_line" / "rnnOutput.csv").read_text(encoding="utf-8").split()
    logits = torch.tensor([[float(cell) for cell in row.split(";") if cell] for row in rows], dtype=torch.float64)
    assert list(logits.shape) == known["shape"]
    labels = [known["chars"].index(character) for character in known["ground_truth"]]
    padded = torch.cat([logits, torch.full((20, 80), math.nan)]).unsqueeze(0)
    value = ctc(padded, [100], [labels], known["blank"])
    assert value.item() * len(labels) == pytest.approx(known["ctc_loss_ground_truth"], rel=1e-9)


def test_infinite_loss_names_the_utterances() -> None:
    logits = torch.zeros(3, 4, 3)
    with pytest.raises(UserError) as caught:
        ctc(logits, [4, 3, 4], [[1, 2], [1, 1, 2], [1, 1, 1, 1]], BLANK)
    message = str(caught.value)
    assert "'spk/1' (3 frames, 4 needed)" in message
    assert "'spk/2' (4 frames, 7 needed)" in message
    assert "spk/0" not in message


def test_as_many_frames_as_needed_is_enough() -> None:
    value = ctc(torch.zeros(1, 4, 3), [4], [[1, 1, 2]], BLANK)
    assert value.item() == pytest.approx(4 * math.log(3) / 3, rel=1e-6)  # one path of four frames


@pytest.mark.parametrize(("labels", "needed"), [([], 0), ([1], 1), ([1, 1], 3), ([1, 2, 1], 3), ([2, 2, 2], 5)])
def test_frames_needed(labels: list[int], needed: int) -> None:
    assert frames_needed(torch.tensor([*labels, -100], dtype=torch.long)) == needed


def test_no_label_at_all_in_the_batch() -> None:
    logits = torch.randn(2, 4, 3, requires_grad=True)
    value = ctc(logits, [4, 0], [[], []], BLANK)
    value.sum().backward()
    assert value.tolist() == [0.0, 0.0]
    assert (logits.grad == 0).all()


def test_no_frames_but_labels_gives_zero() -> None:
    assert ctc(torch.randn(2, 4, 3), [4, 0], [[1], [1]], BLANK)[1] == 0


def test_another_blank_index_is_a_permutation_of_the_vocabulary() -> None:
    logits = torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(0)).double()
    moved = logits[..., [1, 2, 3, 0]]  # the blank goes last, each label one down
    torch.testing.assert_close(ctc(logits, [6], [[1, 3, 3]], 0), ctc(moved, [6], [[0, 2, 2]], 3))


def test_end_of_sequence_follows_each_utterances_labels() -> None:
    targets, mask = with_end(torch.tensor([[3, 4], [1, -100], [-100, -100]]), EOS)
    assert targets[0].tolist() == [3, 4, EOS]
    assert targets[1, :2].tolist() == [1, EOS]
    assert mask.tolist() == [[True, True, True], [True, True, False], [False, False, False]]


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_label_smoothing_by_hand(smoothing: float) -> None:
    scene = make_scene()
    value = build_loss("cross_entropy", label_smoothing=smoothing)(scene.output, None, scene.batch)
    logits = scene.output.decoder_logits.detach().numpy()
    for row, labels in enumerate(LABELS):
        positions = []
        for u, label in enumerate([*labels, EOS]):
            target = np.full(5, smoothing / 5)
            target[label] += 1 - smoothing
            positions.append(-(target * np.log(softmax(logits[row, u]))).sum())
        assert value[row].item() == pytest.approx(np.mean(positions), rel=1e-10)


def test_cross_entropy_without_end_of_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="eos_id"):
        DecoderCrossEntropy(LossSettings(), LossContext(BLANK))


def test_decoder_positions_that_differ_are_refused() -> None:
    scene = make_scene()
    scene.signal.decoder_lengths[2] = 3
    with pytest.raises(UserError, match="'utt2' has 4 decoder positions in the student and 3"):
        build_loss("decoder_kd")(scene.output, scene.signal, scene.batch)
