"""Which teachers are asked about which utterance: hand-made sets, and the means by hand."""

from __future__ import annotations

import pytest
import torch
from fake_teachers import batch_of, ids_of, teacher

from kd_asr_slr.errors import UserError
from kd_asr_slr.teachers.aggregation import AggregationSettings
from kd_asr_slr.teachers.matching import Matching, matched
from kd_asr_slr.teachers.pool import TeacherPool

IDS = ids_of(4)
TEXTS = dict(zip(IDS, ["YES", "NO", "MAYBE", "NEVER"], strict=True))
# YES: all three; NO: the first two; MAYBE: the last one; NEVER: nobody.
KNOWN = [frozenset({"YES", "NO"}), frozenset({"NO", "YES"}), frozenset({"YES", "MAYBE"})]


def matching(rule: str = "partial", minimum: int = 1) -> Matching:
    return Matching(rule, minimum, TEXTS, KNOWN, IDS)


def pool(rule: str, minimum: int = 1, policy: str = "error", name: str = "logprob_mean", **options) -> TeacherPool:
    teachers = [teacher(seed, dev_wer=0.1 * seed) for seed in range(3)]
    settings = AggregationSettings(name, policy, matching=rule, min_teachers=minimum, **options)
    return TeacherPool(teachers, settings, matching=matching(rule, minimum))


def test_who_has_what() -> None:
    assert matching().has(IDS).int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]]
    assert matching().has(["unheard of"]).any().item() is False


@pytest.mark.parametrize(
    ("rule", "minimum", "short", "mean"),
    [("partial", 1, [3], 6 / 4), ("partial", 2, [2, 3], 5 / 4), ("strict", 1, [1, 2, 3], 3 / 4)],
)
def test_the_minimum_and_the_average(rule: str, minimum: int, short: list[int], mean: float) -> None:
    found = matching(rule, minimum)
    assert found.short(IDS) == [IDS[index] for index in short]
    assert found.describe()["mean_teachers"] == pytest.approx(mean)


def test_shares_sum_to_one_over_those_that_have_it() -> None:
    shares = torch.tensor([[0.5], [0.3], [0.2]], dtype=torch.float64).repeat(1, 4)
    found = matched(shares, matching().has(IDS), needed=1)
    expected = [[0.5, 0.5 / 0.8, 0, 0], [0.3, 0.3 / 0.8, 0, 0], [0.2, 0, 1, 0]]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64))
    nothing = torch.tensor([[1.0], [0.0], [0.0]], dtype=torch.float64).repeat(1, 4)  # as a weight that underflowed
    assert matched(nothing, matching().has(IDS), needed=1)[:, 2].tolist() == [0, 0, 1]


def test_the_mean_is_that_of_the_teachers_that_have_the_utterance() -> None:
    heard = pool("partial", policy="skip")
    batch = batch_of(range(4))
    signal = heard.signal(batch)
    logits = torch.stack([one(batch).logits for one in heard.teachers])  # [K, B, T, V]
    for row, speaking in enumerate(([0, 1, 2], [0, 1], [2])):
        frames = int(signal.lengths[row])
        expected = torch.log_softmax(logits[speaking, row, :frames].mean(0), -1)
        assert torch.allclose(signal.log_probs[row, :frames], expected, atol=1e-6), row
    assert signal.weight.tolist() == [1, 1, 1, 0]  # NEVER: from its labels only
    assert heard.teachers_per_utterance(IDS, batch["speakers"]) == pytest.approx(6 / 4)


@pytest.mark.parametrize("name", ["prob_mean", "weighted", "gate"])
def test_every_mean_asks_them_alone(name: str) -> None:
    heard, batch = pool("strict", policy="skip", name=name), batch_of(range(4))
    assert heard.signal(batch).weight.tolist() == [1, 0, 0, 0]
    alone = pool("partial", policy="skip", name=name).signal(batch)
    frames = int(alone.lengths[2])
    expected = torch.log_softmax(heard.teachers[2](batch).logits[2, :frames], -1)
    assert torch.allclose(alone.log_probs[2, :frames], expected, atol=1e-6)


def test_too_few_teachers_are_refused_with_five_ids() -> None:
    with pytest.raises(UserError, match="needs 2 of 3 teachers .* fewer have 'corpus/002' .MAYBE., 'corpus/003'"):
        pool("partial", 2).signal(batch_of(range(4)))
    many = [f"u{index}" for index in range(8)]
    sentence = matching("strict").sentence(many)
    assert "'u4' ()" in sentence and "'u5'" not in sentence and "and 3 more" in sentence
    assert "--teacher_matching partial or all" in sentence and "--unknown_speaker skip" in sentence


def test_other_policies_for_what_too_few_have() -> None:
    batch = batch_of(range(4))
    heard = pool("strict", policy="logprob_mean")
    assert torch.equal(
        heard.signal(batch).log_probs,
        TeacherPool(heard.teachers, AggregationSettings("logprob_mean")).signal(batch).log_probs,
    )
    generalist = teacher(9)
    settings = AggregationSettings("logprob_mean", "generalist", matching="strict")
    signal = TeacherPool(heard.teachers, settings, generalist, matching("strict")).signal(batch)
    frames = int(signal.lengths[3])
    expected = torch.log_softmax(generalist(batch).logits[3, :frames], -1)
    assert torch.allclose(signal.log_probs[3, :frames], expected, atol=1e-6)


def test_more_teachers_than_there_are() -> None:
    with pytest.raises(UserError, match="min_teachers is 4 and there are 3 teachers"):
        pool("partial", 4)
