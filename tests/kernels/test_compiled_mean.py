"""The compiled mean of many teachers against the formula in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kd_asr_slr.teachers import streaming_mean
from kd_asr_slr.teachers.streaming_mean import StreamingMean

pytestmark = pytest.mark.usefixtures("compiled")


@pytest.fixture(autouse=True)
def only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the compiled loop may answer."""
    monkeypatch.delattr(StreamingMean, "_segments")


def draw(seed: int, *size: int) -> torch.Tensor:
    return 3 * torch.randn(*size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("held", [1, 2, 20])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 13])
def test_weighted_mean(count: int, held: int) -> None:
    teachers = [draw(seed, 3, 5, 17) for seed in range(count)]
    log_weights = [draw(50 + seed, 3) for seed in range(count)]
    mean = StreamingMean(3, "log", held)
    for logits, weights in zip(teachers, log_weights, strict=True):
        mean.add(logits, weights)
    shares = torch.stack(log_weights).double().softmax(0)  # [K, B]
    expected = torch.einsum("kb,kbtv->btv", shares, torch.stack(teachers).double().log_softmax(-1)).log_softmax(-1)
    torch.testing.assert_close(mean.log_probs().double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("held", [1, 9])
def test_who_speaks_for_whom_and_how_long(held: int) -> None:
    """Padding is not read; nobody's frames are uniform; a network may pad to fewer or more frames."""
    one, two, three = draw(0, 2, 6, 9), draw(1, 4, 5, 9), draw(2, 1, 8, 9)
    lengths = torch.tensor([4, 5, 3, 0])
    one[0, 4:], one[1, 3:] = torch.nan, torch.nan
    two[[0, 1, 2, 3], [4, 4, 4, 0]] = torch.tensor([torch.nan, 0, torch.nan, torch.nan])[:, None]
    two[2, 3], two[3] = torch.nan, torch.nan
    three[0, 5:] = torch.nan
    mean = StreamingMean(4, "log", held)
    mean.add(one, torch.zeros(2), rows=torch.tensor([0, 2]), lengths=lengths[[0, 2]])
    mean.add(two, torch.zeros(4), lengths=lengths)
    mean.add(three, torch.zeros(1), rows=torch.tensor([1]), lengths=lengths[[1]])
    found = mean.log_probs()
    expected = [(one[0, :4] + two[0, :4]) / 2, (two[1, :5] + three[0, :5]) / 2, (one[1, :3] + two[2, :3]) / 2]
    for row, logits in enumerate(expected):
        assert torch.allclose(found[row, : lengths[row]], logits.log_softmax(-1), atol=1e-5)
    uniform = -torch.tensor(9.0).log()
    assert torch.allclose(found[3], uniform.expand(8, 9)) and torch.allclose(found[0, 4:], uniform.expand(4, 9))


def test_mixing_in_a_generalist() -> None:
    """Half and half where others spoke, alone where nobody did."""
    teacher, generalist = draw(0, 1, 4, 6), draw(1, 2, 4, 6)
    mean = StreamingMean(2, "log")
    mean.add(teacher, torch.zeros(1), rows=torch.tensor([1]))
    mean.mix(generalist, torch.tensor([1.0, 0.5]))
    expected = torch.stack([generalist[0], (teacher[0] + generalist[1]) / 2]).log_softmax(-1)
    torch.testing.assert_close(mean.log_probs(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("offset", [1000.0, -1000.0])
def test_logits_whose_exponentials_leave_float32(offset: float) -> None:
    logits = draw(0, 1, 3, 8)
    mean = StreamingMean(1, "log")
    mean.add(logits + offset, torch.zeros(1))
    torch.testing.assert_close(mean.log_probs(), logits.log_softmax(-1), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("held", [1, 9])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_class_that_all_teachers_rule_out(count: int, held: int) -> None:
    teachers = [draw(seed, 2, 3, 7) for seed in range(count)]
    for logits in teachers:
        logits[..., 4] = -torch.inf
    mean = StreamingMean(2, "log", held)
    for logits in teachers:
        mean.add(logits, torch.zeros(2))
    expected = torch.stack(teachers).double().mean(0).log_softmax(-1)
    torch.testing.assert_close(mean.log_probs().double(), expected, rtol=1e-5, atol=1e-5)


def test_many_equal_logits() -> None:
    mean = StreamingMean(1, "log")
    mean.add(torch.full((1, 2, 32000), -0.7), torch.zeros(1))
    assert (mean.log_probs() + np.log(32000)).abs().max() < 2e-6


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 3, 7)], ids=["classes", "utterances"])
def test_logits_of_other_sizes_are_left_to_torch(shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop would read behind their end."""
    monkeypatch.setattr(streaming_mean, "in_threads", None)
    monkeypatch.setattr(StreamingMean, "_segments", lambda *_: [], raising=False)
    mean = StreamingMean(2, "log", held=2)
    mean.add(torch.zeros(2, 3, 7), torch.zeros(2))
    mean.add(torch.zeros(shape), torch.zeros(2))
    mean.log_probs()
