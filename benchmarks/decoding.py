"""Decoding 120 frames over 1,230 glosses: beam 10 with a trigram model against plain pyctcdecode, and greedy.

The reference is pyctcdecode as its own factory builds it, one call after another, with the same KenLM model, beam 10
and its defaults otherwise. Both sides weigh the model alike (0.5) and add the same for a word (1.5).
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Suite
from ctc_outputs import FRAMES, GLOSSES, Scene, make_scene

from kd_asr_slr.decoding.arpa import write_arpa
from kd_asr_slr.decoding.beam_options import BeamOptions
from kd_asr_slr.decoding.greedy import collapse, greedy_decode_batch
from kd_asr_slr.decoding.ngram_estimation import estimate_ngrams
from kd_asr_slr.decoding.pool import BeamPool
from kd_asr_slr.scoring.rates import count_all, wer

BEAM = 10
PROCESSES = 2
GREEDY_UTTERANCES = 1_000
# `decode` of pyctcdecode prunes the history; our default does not.
OPTIONS = BeamOptions(beam_width=BEAM, prune_history=True)


def plain_pyctcdecode(scene: Scene, arpa: Path) -> Any:
    """pyctcdecode's decoder; "▁" tells its factory that a label begins a word."""
    from pyctcdecode import build_ctcdecoder

    logging.disable(logging.WARNING)
    with contextlib.redirect_stderr(io.StringIO()):
        glosses = scene.tokens[1:]
        return build_ctcdecoder(["", *(f"▁{gloss}" for gloss in glosses)], str(arpa), unigrams=glosses)


def words_of(texts: list[str]) -> list[list[str]]:
    """The glosses of every text."""
    return [text.split() for text in texts]


def beam_search(suite: Suite, scene: Scene, arpa: Path) -> None:
    """Throughput and WER of the beam search."""
    theirs = plain_pyctcdecode(scene, arpa)
    arguments = {"tokens": scene.tokens, "blank_id": 0, "kind": "words", "lm_path": arpa}
    pool, alone = (BeamPool({**arguments, "options": OPTIONS}, number) for number in (PROCESSES, 1))
    default = BeamPool({**arguments, "options": BeamOptions(beam_width=BEAM)}, PROCESSES)

    def pyctcdecode(log_probs: list[np.ndarray]) -> list[str]:
        return [theirs.decode(matrix, beam_width=BEAM) for matrix in log_probs]

    def ours(log_probs: list[np.ndarray], searchers: BeamPool = pool) -> list[str]:
        return [hypothesis.text for hypothesis in searchers.submit(log_probs)]

    found, expected = ours(scene.log_probs), pyctcdecode(scene.log_probs)
    same = sum(one == other for one, other in zip(found, expected, strict=True)) / len(found)
    rates = [100 * wer(count_all(scene.references, words_of(texts))) for texts in (found, expected)]
    some = scene.log_probs[: 64 if suite.quick else 128]
    sides = {
        "pyctcdecode": lambda: pyctcdecode(some),
        "ours": lambda: ours(some),
        "ours, one process": lambda: ours(some, alone),
    }
    timing = suite.time(sides, repeats=7 if suite.quick else 9)
    note = f"{PROCESSES} processes; {1000 * timing.median('ours') / len(some):.2f} ms an utterance"
    suite.at_least("beam search: throughput over pyctcdecode", timing.ratio("pyctcdecode", "ours"), 5, timing, note)
    suite.show("the same in one process", timing.ratio("pyctcdecode", "ours, one process"))
    note = f"{len(found)} utterances of {scene.origin}: {rates[0]:.2f} % against {rates[1]:.2f} %"
    suite.at_most("beam search: WER apart from pyctcdecode's, points", abs(rates[0] - rates[1]), 0.1, note=note)
    suite.show("beam search: share of equal sentences", same)
    kept = 100 * wer(count_all(scene.references, words_of(ours(scene.log_probs, default))))
    suite.show("our default, history not pruned: WER, %", kept)
    for searchers in (pool, default):
        searchers.close()


def greedy(suite: Suite, scene: Scene) -> None:
    """Seconds for a thousand utterances."""
    rows = [scene.log_probs[row % len(scene.log_probs)] for row in range(GREEDY_UTTERANCES)]
    batch, lengths = np.stack(rows), np.full(len(rows), FRAMES)  # 591 MB
    found = greedy_decode_batch(batch, lengths, 0)
    suite.agree_exactly("greedy", found[:20], [collapse([int(row.argmax()) for row in rows[n]], 0) for n in range(20)])
    timing = suite.time({"greedy": lambda: greedy_decode_batch(batch, lengths, 0)}, repeats=7)
    gigabytes = batch.nbytes / 1e9 / timing.median("greedy")
    note = f"reads {gigabytes:.1f} GB a second; all {FRAMES} x {GLOSSES + 1} scores of an utterance are looked at"
    suite.at_most(f"greedy: seconds for {GREEDY_UTTERANCES:,} utterances", timing.median("greedy"), 1, timing, note)


def nemo_search(suite: Suite, scene: Scene, arpa: Path) -> None:
    """NeMo's batched search: on a GPU against our two processes, on a CPU how far it agrees."""
    from kd_asr_slr.training.nemo_beam import NemoBeam

    arguments = {"tokens": scene.tokens, "blank_id": 0, "kind": "words", "lm_path": arpa, "options": OPTIONS}
    nemo, ours = NemoBeam(**arguments), BeamPool(arguments, PROCESSES)
    some = scene.log_probs[: 96 if suite.device.type == "cuda" else 12]
    batch = torch.tensor(np.stack(some), device=suite.device)
    lengths = torch.full((len(some),), FRAMES, device=suite.device)
    found = [" ".join(scene.tokens[label] for label in labels) for labels in nemo.decode(batch, lengths)]
    expected = [hypothesis.text for hypothesis in ours.submit(some)]
    rates = [100 * wer(count_all(scene.references[: len(some)], words_of(texts))) for texts in (found, expected)]
    note = f"{len(some)} utterances: {rates[0]:.2f} % against {rates[1]:.2f} %; on best paths, ours on sums"
    suite.show("NeMo's beam search: WER apart from ours, points", abs(rates[0] - rates[1]), note=note)
    if suite.device.type == "cuda":
        sides = {"nemo": lambda: nemo.decode(batch, lengths), "ours": lambda: list(ours.submit(some))}
        timing = suite.time(sides)
        suite.show("NeMo on the GPU: throughput over ours", timing.ratio("ours", "nemo"), timing)
    ours.close()


def main() -> int:
    """The exit status: 1 where two sides disagree."""
    suite = Suite("decoding", __doc__.splitlines()[0])
    scene = make_scene(200 if suite.quick else 540)
    with tempfile.TemporaryDirectory() as folder:
        arpa = write_arpa(estimate_ngrams(scene.training, 3, scene.tokens[1:]).model, Path(folder) / "glosses.arpa")
        beam_search(suite, scene, arpa)
        greedy(suite, scene)
        if suite.device.type == "cuda" or not suite.quick:
            nemo_search(suite, scene, arpa)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
