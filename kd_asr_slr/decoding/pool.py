"""Beam searches in several processes: Python searches one utterance at a time, however many cores there are."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd_asr_slr.decoding.beam import BeamDecoder
from kd_asr_slr.decoding.beam_options import BeamHypothesis
from kd_asr_slr.decoding.candidates import Candidates
from kd_asr_slr.errors import UserError

# Utterances handed to a process at once: few enough to share the work evenly, and to show its progress.
CHUNK = 8
STARTING = 1.0  # seconds that the processes take to start, so that many of searching are done here before

_own_decoder: BeamDecoder | None = None  # of a worker process


class Weights(NamedTuple):
    """The language model's weight, and what is added for every word."""

    lm_weight: float
    word_score: float


Found = list[list[BeamHypothesis]]  # for every pair of weights the hypotheses of a chunk


class BeamPool:
    """A `BeamDecoder` with processes to search for it, which are started once.

    The candidates are found here and only they are sent. The processes start afresh ("spawn": forking one that runs
    torch's threads can hang), so a script that uses them keeps its work under `if __name__ == "__main__"`.

    Args:
        arguments: of `BeamDecoder`.
        processes: 1 searches in this process; None: one a core, once there is more to search than they take to start.

    Raises:
        UserError: as `BeamDecoder` does, before there is anything to decode.

    Example:
        >>> pool = BeamPool({"tokens": ["<blank>", "HELLO"], "blank_id": 0, "kind": "words"}, processes=1)
        >>> [hypothesis.text for hypothesis in pool.submit([np.log([[0.2, 0.8]])])]
        ['HELLO']
    """

    def __init__(self, arguments: dict[str, Any], processes: int | None = None) -> None:
        self._decoder = BeamDecoder(**arguments)
        self._arguments = arguments
        self._processes = processes or free_cores()
        self._left_here = 0.0 if processes else STARTING
        self._executor: ProcessPoolExecutor | None = None

    def submit(self, log_probs: Sequence[NDArray[np.floating]]) -> Iterator[BeamHypothesis]:
        """Begin to decode utterances.

        Args:
            log_probs: natural log-probabilities [T, V] of every utterance.

        Returns:
            The hypotheses in the order of the utterances; the search goes on while nobody asks for them.

        Raises:
            UserError: if a process was killed; what goes wrong in one is raised here as it was there, when its
                hypothesis is asked for. ValueError and UserError of the input at once.
        """
        started = self._start(log_probs, None)
        return (hypothesis for part in started for hypothesis in _result(part)[0])

    def submit_grid(self, log_probs: Sequence[NDArray[np.floating]], grid: Sequence[Weights]) -> Iterator[Found]:
        """The same with many pairs of weights: chunk after chunk, for every pair the hypotheses of its utterances."""
        return map(_result, self._start(log_probs, list(grid)))

    def close(self) -> None:
        """End the processes; the pool can be used again."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None

    def _start(
        self, log_probs: Sequence[NDArray[np.floating]], grid: list[Weights] | None
    ) -> list[Found | Future[Found]]:
        started: list[Found | Future[Found]] = []
        for first in range(0, len(log_probs), CHUNK):
            chunk = [self._decoder.candidates(matrix) for matrix in log_probs[first : first + CHUNK]]
            if self._processes == 1 or self._left_here > 0:
                before = time.perf_counter()
                started.append(_search(self._decoder, chunk, grid))
                self._left_here -= time.perf_counter() - before
            else:
                with _told_of_the_end():
                    started.append(self._workers().submit(_search_in_worker, chunk, grid))
        return started

    def _workers(self) -> ProcessPoolExecutor:
        if self._executor is None:
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self._processes, context, _start_worker, (self._arguments,))
            weakref.finalize(self, self._executor.shutdown, wait=False, cancel_futures=True)
        return self._executor


def free_cores() -> int:
    """Cores that this process may use, shared with its siblings of a distributed run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _result(part: Found | Future[Found]) -> Found:
    with _told_of_the_end():
        return part.result() if isinstance(part, Future) else part


@contextlib.contextmanager
def _told_of_the_end() -> Iterator[None]:
    """Say what it means for a user where a process is there no more."""
    try:
        yield
    except BrokenProcessPool as error:
        raise UserError(
            "a process of the beam search was ended from outside, most likely for want of memory",
            fix="search in fewer processes (--decode_processes 1)",
        ) from error


def _search(decoder: BeamDecoder, chunk: Sequence[Candidates], grid: Sequence[Weights] | None) -> Found:
    """The hypotheses of a chunk, with the decoder's weights or with every pair of a grid."""
    if grid is None:
        return [[decoder.search(candidates) for candidates in chunk]]
    found = []
    for weights in grid:
        decoder.reweigh(*weights)
        found.append([decoder.search(candidates) for candidates in chunk])
    return found


def _start_worker(arguments: dict[str, Any]) -> None:
    global _own_decoder
    logging.getLogger("kd_asr_slr").setLevel(logging.ERROR)  # what is to be said about the model has been said
    _own_decoder = BeamDecoder(**arguments)


def _search_in_worker(chunk: Sequence[Candidates], grid: Sequence[Weights] | None) -> Found:
    if _own_decoder is None:
        raise ValueError("the process has not been started by a BeamPool")
    return _search(_own_decoder, chunk, grid)
