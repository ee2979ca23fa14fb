"""Aggregations against numpy written out, and against hand-computed values."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from fake_teachers import TOKENS, batch_of, teacher

from kd_asr_slr.blocks import BLOCK_SIZE
from kd_asr_slr.errors import UserError
from kd_asr_slr.teachers.aggregation import AGGREGATIONS, AggregationSettings
from kd_asr_slr.teachers.pool import TeacherPool
from kd_asr_slr.teachers.streaming_mean import StreamingMean
from kd_asr_slr.teachers.transcripts import transcript_scores


def softmax(values, axis=-1):
    exponentials = np.exp(values - values.max(axis=axis, keepdims=True))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


def stacked_logits(teachers, batch):
    return np.stack([one(batch).logits.double().numpy() for one in teachers])  # [K, B, T, V]


def textbook(logits, shares, mean):
    """Probabilities [B, T, V] of the weighted mean of K distributions, everything materialised."""
    probabilities = softmax(logits)
    weights = shares[:, :, None, None]
    if mean == "probability":
        return (weights * probabilities).sum(0)
    product = np.exp((weights * np.log(probabilities)).sum(0))
    return product / product.sum(-1, keepdims=True)


def ctc_loss_by_enumeration(probabilities, labels):
    """-log of the summed probability of every path that collapses to the labels; [T, V], T small."""
    frames, size = probabilities.shape
    total = 0.0
    for path in np.ndindex(*([size] * frames)):
        collapsed = [token for t, token in enumerate(path) if token and (t == 0 or token != path[t - 1])]
        if collapsed == labels:
            total += np.prod([probabilities[t, token] for t, token in enumerate(path)])
    return -np.log(total)


def valid(batch):
    return batch["attention_mask"].bool().numpy()


WERS = (0.30, 0.10, 0.20)
SHARES = {
    "logprob_mean": [1 / 3, 1 / 3, 1 / 3],
    "logit_mean": [1 / 3, 1 / 3, 1 / 3],
    "prob_mean": [1 / 3, 1 / 3, 1 / 3],
    "best": [0, 1, 0],
    # softmax(-WER / 0.1) = softmax(-3, -1, -2)
    "weighted": [0.09003057, 0.66524096, 0.24472847],
}


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("generalist_weight", [0.0, 0.25])
def test_static_aggregations_equal_the_textbook(name, generalist_weight):
    teachers = [teacher(seed, dev_wer=wer) for seed, wer in enumerate(WERS)]
    generalist = teacher(9, "generalist")
    settings = AggregationSettings(name, generalist_weight=generalist_weight)
    batch = batch_of(range(4))
    signal = TeacherPool(teachers, settings, generalist).signal(batch)
    shares = np.append(np.array(SHARES[name]) * (1 - generalist_weight), generalist_weight)
    shares = shares[:, None].repeat(4, axis=1)
    expected = textbook(stacked_logits([*teachers, generalist], batch), shares, AGGREGATIONS[name].mean)
    np.testing.assert_allclose(signal.log_probs.exp().numpy()[valid(batch)], expected[valid(batch)], atol=2e-6)
    assert signal.log_probs.dtype == torch.float32
    assert signal.lengths.tolist() == [5, 6, 7, 8]
    assert signal.weight.tolist() == [1, 1, 1, 1]


def test_every_aggregation_is_covered_here():
    assert set(AGGREGATIONS) == set(SHARES) | {"route", "gate"}


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_renormalised_logprob_mean_is_the_logit_mean_at_every_temperature(temperature):
    logits = torch.randn(13, 2, 7, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 5
    textbook_target = torch.log_softmax(torch.log_softmax(logits / temperature, -1).mean(0), -1)
    torch.testing.assert_close(textbook_target, torch.log_softmax(logits.mean(0) / temperature, -1))
    mean = StreamingMean(batch_size=2, mean="log")
    for one in logits:
        mean.add(one, torch.zeros(2))
    at_temperature = torch.log_softmax(mean.log_probs() / temperature, -1)
    torch.testing.assert_close(at_temperature.double(), textbook_target, atol=2e-5, rtol=1e-5)


def test_uniform_mean_of_teachers_that_do_not_know_the_speaker_collapses_to_blank():
    # One teacher is sure of A; two others, foreign to the speaker, are sure of other tokens or of the blank:
    # p1 = (.09, .90, .01), p2 = (.90, .01, .09), p3 = (.60, .01, .39) over (blank, A, B).
    rows = torch.tensor([[0.09, 0.90, 0.01], [0.90, 0.01, 0.09], [0.60, 0.01, 0.39]])
    means = {kind: StreamingMean(batch_size=1, mean=kind) for kind in ("log", "probability")}
    for row in rows:
        for mean in means.values():
            mean.add(row.log()[None, None], torch.zeros(1))
    # Geometric means: blank (.09 * .90 * .60) ** (1/3) = .3649, A (.90 * .01 * .01) ** (1/3) = .0448,
    # B (.01 * .09 * .39) ** (1/3) = .0705; their sum .4803 is the mass before renormalising.
    expected = torch.tensor([0.7599, 0.0933, 0.1468])
    torch.testing.assert_close(means["log"].log_probs().exp()[0, 0], expected, atol=2e-4, rtol=0)
    torch.testing.assert_close(means["probability"].log_probs().exp()[0, 0], rows.mean(0))
    assert means["log"].log_probs()[0, 0].argmax() == 0  # the blank, although the speaker's own teacher says A


def test_transcript_score_is_minus_the_ctc_loss_by_enumeration():
    logits = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(3))
    log_probs = torch.log_softmax(logits, -1)
    scores = transcript_scores(log_probs, torch.tensor([4]), torch.tensor([[1, 2, -100]]), 0, temperature=0.5)
    expected = -ctc_loss_by_enumeration(log_probs[0].exp().numpy(), [1, 2]) / 4 / 0.5
    assert scores.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("generalist_weight", [0.0, 0.5])
def test_gate_weighs_by_transcript_loss(generalist_weight):
    teachers, generalist = [teacher(seed) for seed in range(3)], teacher(9)
    batch = batch_of([0, 4])  # 5 frames each
    settings = AggregationSettings("gate", generalist_weight=generalist_weight, gate_temperature=0.3)
    signal = TeacherPool(teachers, settings, generalist).signal(batch)
    logits = stacked_logits([*teachers, generalist], batch)
    labels = [[label for label in row.tolist() if label >= 0] for row in batch["labels"]]
    losses = [[ctc_loss_by_enumeration(softmax(logits[k, b]), labels[b]) / 5 for b in range(2)] for k in range(3)]
    shares = softmax(-np.array(losses) / 0.3, axis=0) * (1 - generalist_weight)
    shares = np.concatenate([shares, np.full((1, 2), generalist_weight)])
    np.testing.assert_allclose(signal.log_probs.exp().numpy(), textbook(logits, shares, "log"), atol=5e-6)


def test_gate_is_uniform_where_an_utterance_is_too_short_for_its_labels():
    batch = batch_of([0])
    batch["labels"] = torch.ones(1, 8, dtype=torch.long)
    gated = TeacherPool([teacher(0), teacher(1)], AggregationSettings("gate")).signal(batch)
    uniform = TeacherPool([teacher(0), teacher(1)], AggregationSettings("logprob_mean")).signal(batch)
    assert torch.equal(gated.log_probs, uniform.log_probs)


def test_gate_without_labels_is_refused():
    batch = batch_of([0])
    del batch["labels"]
    with pytest.raises(UserError, match="no labels"):
        TeacherPool([teacher(0), teacher(1)], AggregationSettings("gate")).signal(batch)


@pytest.mark.parametrize("name", ["best", "weighted"])
def test_a_missing_dev_wer_is_named_before_the_first_batch(name):
    with pytest.raises(UserError, match="without one: t1, t2"):
        TeacherPool([teacher(0, dev_wer=0.1), teacher(1), teacher(2)], AggregationSettings(name))


def test_all_wrong_settings_are_reported_at_once():
    settings = AggregationSettings("mean", "ignore", generalist_weight=1.5, gate_temperature=0.0)
    with pytest.raises(UserError) as caught:
        TeacherPool([teacher(0)], settings)
    for piece in ("aggregation is 'mean'", "unknown_speaker is 'ignore'", "1.5", "gate_temperature is 0.0"):
        assert piece in str(caught.value)


def test_the_streaming_mean_holds_one_accumulator_and_few_teachers():
    """Thirteen teachers leave one [B, T, V] behind, whatever their number, and are let go of meanwhile."""
    mean, alive = StreamingMean(batch_size=2, mean="log", held=2), []
    for seed in range(13):
        logits = torch.randn(2, 6, len(TOKENS), generator=torch.Generator().manual_seed(seed))
        alive.append(weakref.ref(logits))
        mean.add(logits, torch.zeros(2))
        del logits
        assert sum(one() is not None for one in alive) <= 2
    assert mean.log_probs().shape == (2, 6, len(TOKENS))
    assert not any(one() is not None for one in alive)


@pytest.mark.parametrize("block", [1, 10, 10**6], ids=["frame-by-frame", "few", "at-once"])
@pytest.mark.parametrize("held", [0, 1, 2, 9])
@pytest.mark.parametrize("kind", ["log", "probability"])
def test_the_streaming_mean_of_teachers_that_speak_for_some(kind, held, block, monkeypatch):
    """Other rows, other paddings, garbage in it, in any grouping: against the definition, utterance by utterance."""
    monkeypatch.setitem(BLOCK_SIZE, "cpu", block)
    generator = torch.Generator().manual_seed(0)
    lengths, width = [4, 0, 6, 5], 5
    mean, heard = StreamingMean(batch_size=4, mean=kind, held=held), {row: [] for row in range(4)}
    for rows, padding in (([0, 2], 0), ([0, 1, 2, 3], 3), ([3, 0], 1), ([2], 0)):
        frames = max(lengths[row] for row in rows) + padding
        logits = 3 * torch.randn(len(rows), frames, width, generator=generator)
        log_weights = torch.randn(len(rows), generator=generator).double()
        for place, row in enumerate(rows):
            logits[place, lengths[row] :] = float("nan")
            heard[row].append((log_weights[place].exp(), logits[place, : lengths[row]].double()))
        everyone = rows == [0, 1, 2, 3]
        mean.add(
            logits, log_weights, None if everyone else torch.tensor(rows), torch.tensor([lengths[r] for r in rows])
        )
    found = mean.log_probs()
    for row, length in enumerate(lengths):
        weights = torch.stack([weight for weight, _ in heard[row]])
        log_probs = torch.stack([logits.log_softmax(-1) for _, logits in heard[row]])  # [K, T, V]
        shares = (weights / weights.sum())[:, None, None]
        expected = (
            (shares * log_probs).sum(0).log_softmax(-1) if kind == "log" else (shares * log_probs.exp()).sum(0).log()
        )
        torch.testing.assert_close(found[row, :length].double(), expected, rtol=1e-5, atol=1e-5)


def test_padding_is_uniform_where_nobody_was_said_to_speak():
    mean = StreamingMean(batch_size=2, mean="log")
    logits = torch.randn(2, 40, 5000)
    mean.add(logits, torch.zeros(2), lengths=torch.tensor([30, 40]))
    found = mean.log_probs()
    torch.testing.assert_close(found[0, :30], logits[0, :30].log_softmax(-1))
    torch.testing.assert_close(found[0, 30:], torch.full((10, 5000), -np.log(5000)).float())
