"""Many beam searches over the same network outputs: every pair of language model weight and word score."""

from __future__ import annotations

import logging
import multiprocessing
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd_asr_slr.decoding.beam import BeamDecoder

# Utterances handed to a process at once: few enough to share the work evenly, and to show its progress.
CHUNK = 8

_own_decoder: BeamDecoder | None = None  # of a worker process


class Weights(NamedTuple):
    """One point of the grid: the language model's weight, and what is added for every word."""

    lm_weight: float
    word_score: float


class GridDecoder:
    """Decodes utterances with every pair of weights; the network has run once, before.

    Args:
        arguments: of `BeamDecoder`, a language model among them; the grid replaces its weights.

    Raises:
        UserError: as `BeamDecoder` does, before there is anything to decode.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = arguments
        self._decoder = BeamDecoder(**arguments)

    def decode(
        self, log_probs: Sequence[NDArray[np.floating]], grid: Sequence[Weights], processes: int = 1
    ) -> list[list[str]]:
        """Decode all utterances with all pairs of weights.

        Args:
            log_probs: natural log-probabilities [T, V] of every utterance.
            grid: the pairs of weights.
            processes: 1 works in this process; more share the utterances.

        Returns:
            For every pair of weights the texts of all utterances, in their order.
        """
        chunks = [log_probs[start : start + CHUNK] for start in range(0, len(log_probs), CHUNK)]
        if processes == 1:
            decoded: Iterator[list[list[str]]] = map(partial(_decode_chunk, self._decoder, grid), chunks)
        else:
            decoded = _in_processes(chunks, self._arguments, grid, processes)
        texts = list(_shown(decoded, len(chunks)))
        return [[text for chunk in texts for text in chunk[point]] for point in range(len(grid))]


def _decode_chunk(
    decoder: BeamDecoder, grid: Sequence[Weights], chunk: Sequence[NDArray[np.floating]]
) -> list[list[str]]:
    """Texts of a few utterances, for every point of the grid."""
    texts = []
    for weights in grid:
        decoder.reweigh(*weights)
        texts.append([decoder.decode(matrix).text for matrix in chunk])
    return texts


def _in_processes(
    chunks: Sequence[Sequence[NDArray[np.floating]]], arguments: dict[str, Any], grid: Sequence[Weights], processes: int
) -> Iterator[list[list[str]]]:
    # Forking a process that runs torch's threads can hang, so the workers start afresh.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_start_worker, initargs=(arguments,)) as pool:
        yield from pool.map(partial(_decode_in_worker, list(grid)), chunks)


def _start_worker(arguments: dict[str, Any]) -> None:
    global _own_decoder
    logging.getLogger("kd_asr_slr").setLevel(logging.ERROR)  # what is to be said about the model has been said
    _own_decoder = BeamDecoder(**arguments)


def _decode_in_worker(grid: Sequence[Weights], chunk: Sequence[NDArray[np.floating]]) -> list[list[str]]:
    if _own_decoder is None:
        raise ValueError("the worker process has not been started by decode_grid")
    return _decode_chunk(_own_decoder, grid, chunk)


def _shown(chunks: Iterable[list[list[str]]], total: int) -> Iterable[list[list[str]]]:
    """The chunks with a progress bar, in a terminal."""
    from tqdm import tqdm

    return tqdm(chunks, total=total, desc="tuning", unit="chunk", disable=not sys.stderr.isatty())
