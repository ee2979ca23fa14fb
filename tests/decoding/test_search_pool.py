"""Searches in processes of their own: the same hypotheses in the same order, and errors that arrive."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import pytest
import torch

from kd_asr_slr.decoding import pool as module
from kd_asr_slr.decoding.beam import BeamDecoder
from kd_asr_slr.decoding.pool import CHUNK, BeamPool, Weights
from kd_asr_slr.errors import UserError

TOKENS = ["<blank>", *(f"GLOSS{number}" for number in range(30))]
ARGUMENTS = {"tokens": TOKENS, "blank_id": 0, "kind": "words"}


@pytest.fixture(scope="module")
def pool():
    pool = BeamPool(ARGUMENTS, processes=2)
    yield pool
    pool.close()


@pytest.fixture
def utterances(spoken_log_probs) -> list[np.ndarray]:
    return [spoken_log_probs(seed, 20 + 7 * (seed % 5), len(TOKENS)) for seed in range(3 * CHUNK + 2)]


def test_hypotheses_come_in_the_order_of_the_utterances(pool, utterances):
    decoder = BeamDecoder(**ARGUMENTS)
    torch.randn(300, 300) @ torch.randn(300, 300)  # torch's threads are up
    first, second = pool.submit(utterances), pool.submit(utterances[::-1])
    wanted = [decoder.decode(matrix) for matrix in utterances]
    assert list(second) == wanted[::-1]
    assert list(first) == wanted
    assert len({hypothesis.text for hypothesis in wanted}) > CHUNK
    assert list(pool.submit([])) == []


def test_processes_are_started_once_and_without_torch(pool, utterances):
    list(pool.submit(utterances))
    executor = pool._executor
    processes = set(executor._processes)
    assert 1 <= len(processes) <= 2 and os.getpid() not in processes
    assert "torch" in sys.modules and not executor.submit(eval, "'torch' in __import__('sys').modules").result()
    list(pool.submit(utterances))
    assert pool._executor is executor


def test_what_is_wrong_with_the_input_is_said_at_once(pool, utterances):
    with pytest.raises(ValueError, match="apply log_softmax"):
        pool.submit([np.zeros((4, len(TOKENS)))])
    with pytest.raises(UserError, match="NaN"):
        pool.submit([np.full((4, len(TOKENS)), np.nan)])
    assert len(list(pool.submit(utterances))) == len(utterances)


def test_an_error_in_a_process_arrives_as_it_was(pool, utterances):
    with pytest.raises(UserError) as error:
        list(pool.submit_grid(utterances, [Weights(-1.0, 0.0)]))
    assert str(error.value) == "beam search options: lm_weight is -1.0; expected 0 or more."


def test_a_killed_process_is_no_hang(utterances):
    pool = BeamPool(ARGUMENTS, processes=2)
    list(pool.submit(utterances))
    for process in pool._executor._processes.values():
        os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(UserError, match="ended from outside"):
        for _ in range(50):
            list(pool.submit(utterances))


def test_few_searches_start_no_process(utterances, monkeypatch):
    monkeypatch.setattr(module, "free_cores", lambda: 2)
    pool = BeamPool(ARGUMENTS)
    assert list(pool.submit(utterances)) == list(BeamPool(ARGUMENTS, 1).submit(utterances))
    assert pool._executor is None
    pool._left_here = 0.0  # as after a second of searching
    assert list(pool.submit(utterances)) == list(BeamPool(ARGUMENTS, 1).submit(utterances))
    assert pool._executor is not None
    pool.close()


def test_cores_are_shared_with_the_siblings_of_a_distributed_run(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    alone = module.free_cores()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(2 * alone))
    assert module.free_cores() == 1 <= alone
