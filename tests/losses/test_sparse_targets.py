"""Losses on targets of which only some classes are written down: with every class, they are the dense losses."""

from __future__ import annotations

import math

import pytest
import torch
from loss_scene import BLANK, build_loss, make_scene

from kd_asr_slr.losses.base import LossContext
from kd_asr_slr.losses.ctc_kd import CTCDistillation
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.outputs import CTCOutput, SparseTargets, TeacherSignal
from kd_asr_slr.teachers.formats import format_of
from kd_asr_slr.teachers.padding import pad_sparse

SELECTIONS = [
    {},
    {"drop_blank_class": True},
    {"frame_selection": "threshold", "blank_threshold": 0.3},
    {"frame_selection": "symmetric", "neighbours": 0},
]
CASES = [("ctc_kd", options) for options in SELECTIONS] + [
    (name, {}) for name in ("blank_mass", "pseudo_labels", "sequence_kd", "decoder_kd")
]


def sparse_of(padded, lengths, top_k):
    """[B, T] sparse targets of log-probabilities [B, T, V]; exact, where a store would round to float16."""
    form, size = format_of({"name": "topk", "top_k": top_k, "certain": 0}), padded.shape[2]
    rows = []
    for log_probs, length in zip(padded, lengths.tolist(), strict=True):
        row = form.decode(form.encode(log_probs[:length].float(), "one"), size)
        row.log_probs = log_probs[:length].gather(1, row.ids).float()
        rows.append(row)
    return pad_sparse(rows, form.uniform(1, size))


def sparse_signal(signal, top_k):
    """The same signal, of which only the largest classes are known."""
    return TeacherSignal(
        log_probs=None,
        lengths=signal.lengths,
        vocabulary=signal.vocabulary,
        frame_seconds=signal.frame_seconds,
        weight=signal.weight,
        decoder_lengths=signal.decoder_lengths,
        sparse=sparse_of(signal.log_probs, signal.lengths, top_k),
        decoder_sparse=sparse_of(signal.decoder_log_probs, signal.decoder_lengths, top_k),
    )


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_all_classes_give_the_dense_loss(name, options, temperature):
    scene = make_scene()
    leaf = scene.output.decoder_logits if name == "decoder_kd" else scene.output.logits
    found = []
    for signal in (sparse_signal(scene.signal, 5), scene.signal):
        value = build_loss(name, **options)(scene.output, signal, scene.batch, temperature)
        found.append((value, torch.autograd.grad(value.sum(), leaf)[0]))
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)


def test_nothing_dense_is_made_of_a_sparse_signal():
    scene = make_scene()
    signal = sparse_signal(scene.signal, 2)
    for name, options in CASES:
        loss = build_loss(name, **options)
        loss(scene.output, signal, scene.batch, 2.0)
        loss.diagnostics(scene.output, signal, scene.batch)
    assert "log_probs" not in signal.__dict__
    assert signal.log_probs.shape == scene.signal.log_probs.shape[:1] + (
        5,
        5,
    )  # by whoever asks: all frames, no padding


def test_a_second_backward_pass_gives_the_same_gradient():
    scene = make_scene()
    value = build_loss("ctc_kd")(scene.output, sparse_signal(scene.signal, 2), scene.batch, 2.0).sum()
    one, other = (torch.autograd.grad(value, scene.output.logits, retain_graph=True)[0].clone() for _ in range(2))
    assert torch.equal(one, other)


def test_one_class_and_the_others_by_hand():
    probabilities = torch.tensor([[0.5, 0.3, 0.1, 0.06, 0.04]])
    form = format_of({"name": "topk", "top_k": 2, "certain": 0})
    targets = form.decode(form.encode(probabilities.log(), "one"), 5)
    at_two = probabilities.sqrt() / probabilities.sqrt().sum()
    torch.testing.assert_close(targets.one_or_other(1, 2.0).exp()[0, 0], at_two[0, 1], atol=1e-3, rtol=0)
    torch.testing.assert_close(targets.one_or_other(4).exp()[0, 0], torch.tensor(0.2 / 3), atol=1e-3, rtol=0)
    torch.testing.assert_close(targets.one_or_other(4, 2.0).exp().sum(-1), torch.ones(1))
    assert targets.best()[1].tolist() == [0]


@pytest.mark.parametrize("name", ["topk", "sampled"])
def test_padding_and_silent_utterances_are_finite(name):
    form = format_of({"name": name})
    said = form.decode(form.encode(torch.randn(3, 7).log_softmax(-1), "one"), 7)
    stacked = pad_sparse([said, form.uniform(5, 7)], form.uniform(1, 7))
    assert stacked.ids.shape[:2] == (2, 5)
    assert torch.isfinite(stacked.dense().exp().sum(-1)).all()
    torch.testing.assert_close(stacked.map(lambda part: part[0, :3]).dense(), said.dense())
    if name == "topk":
        torch.testing.assert_close(stacked.dense()[1], torch.full((5, 7), -math.log(7)))


def test_draws_at_the_temperature_of_the_loss_give_an_unbiased_gradient():
    """The mean over 3,000 stores of one frame, within four standard errors of the dense gradient."""
    log_probs, temperature = torch.randn(1, 12, generator=torch.Generator().manual_seed(3)).log_softmax(-1), 2.0
    form = format_of({"name": "sampled", "samples": 20, "temperature": temperature})
    softened = (log_probs / temperature).softmax(-1)
    draws = [form.decode(form.encode(log_probs, str(seed)), 12) for seed in range(3000)]
    shares = torch.stack([torch.zeros(13).scatter_add(0, *_places(target, temperature))[:12] for target in draws])
    error = (softened * (1 - softened) / 20 / len(draws)).sqrt()
    assert ((shares.mean(0) - softened).abs() < 4 * error).all()


def _places(target: SparseTargets, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the probability of each written class goes; left-over places go behind the last class."""
    return torch.where(target.written, target.ids, 12)[0], target.at(temperature)[0, :-1].exp()


def test_frames_that_move_in_time_need_every_class():
    assert build_loss("ctc_kd").needs == {"log_probs"}
    context = LossContext(BLANK, frame_seconds=0.04)
    assert "dense_log_probs" in CTCDistillation(LossSettings(rate_matching="resample"), context).needs


def test_a_tail_that_only_the_dropped_class_is_left_for() -> None:
    """V - 1 classes kept, once all but the blank: without it nothing is missing, so the loss is the dense one."""
    log_probs = torch.tensor([[[-9.0, 0.0, -1.0], [3.0, 0.0, -1.0]]]).log_softmax(-1)
    lengths = torch.tensor([2])
    common = {"lengths": lengths, "vocabulary": "v", "frame_seconds": 0.04, "weight": torch.ones(1)}
    signals = [
        TeacherSignal(log_probs, **common),
        TeacherSignal(None, **common, sparse=sparse_of(log_probs, lengths, 2)),
    ]
    loss = CTCDistillation(LossSettings(drop_blank_class=True), LossContext(blank_id=0))
    found = []
    for signal in signals:
        logits = torch.tensor([[[0.5, 1.0, 2.0], [0.5, 1.0, 2.0]]]).requires_grad_()
        value = loss(CTCOutput(logits=logits, logit_lengths=lengths), signal, {}, 2.0)
        found.append((value.detach(), *torch.autograd.grad(value.sum(), logits)))
    for dense, sparse in zip(*found, strict=True):
        torch.testing.assert_close(sparse, dense, rtol=2e-3, atol=1e-4)  # the tail is stored in float16
