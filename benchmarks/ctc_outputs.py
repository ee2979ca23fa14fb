"""Outputs of a CTC network over glosses, for benchmarks of decoding: sentences, a language model, log-probabilities.

A random matrix is no network's output: every token of it is a candidate and no frame a sure blank. These are peaked as
those of a trained network: one to three frames a gloss, now and then with a stronger rival, sure blanks between, some
blanks less sure. Sentences are PHOENIX-2014's where its annotations are found (`KD_SHARED_DATA`), else a grammar's.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

GLOSSES, FRAMES = 1_230, 120
DATA = Path(os.environ.get("KD_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@dataclass(frozen=True)
class Scene:
    """What is decoded.

    Attributes:
        origin: of the sentences.
        tokens: the blank and the glosses.
        training: sentences for the language model.
        references: sentences that were "signed".
        log_probs: [120, V] of each of them, float32.
    """

    origin: str
    tokens: list[str]
    training: list[list[str]]
    references: list[list[str]]
    log_probs: list[np.ndarray]


def make_scene(utterances: int, seed: int = 0) -> Scene:
    """So many utterances over 1,230 glosses."""
    rng = np.random.default_rng(seed)
    folder = DATA / "phoenix2014"
    if folder.is_dir():
        origin, training, heard = "PHOENIX-2014", _phoenix(folder, "train"), _phoenix(folder, "dev")
    else:
        origin, training, heard = "a grammar", _grammar(5_672, rng), _grammar(540, rng)
    counts: dict[str, int] = {}
    for sentence in training:
        for gloss in sentence:
            counts[gloss] = counts.get(gloss, 0) + 1
    glosses = sorted(counts, key=counts.__getitem__, reverse=True)[:GLOSSES]
    glosses += [f"RARE-{number}" for number in range(GLOSSES - len(glosses))]
    known = set(glosses)
    references = [sentence for sentence in heard if known.issuperset(sentence) and 0 < len(sentence) <= FRAMES // 5]
    references = [references[row % len(references)] for row in range(utterances)]
    index = {gloss: place for place, gloss in enumerate(glosses, 1)}
    log_probs = [_signed([index[gloss] for gloss in sentence], rng) for sentence in references]
    return Scene(origin, ["<blank>", *glosses], training, references, log_probs)


def _phoenix(folder: Path, split: str) -> list[list[str]]:
    with (folder / f"{split}.corpus.csv").open(encoding="utf-8") as file:
        return [row["annotation"].split() for row in csv.DictReader(file, delimiter="|")]


def _grammar(sentences: int, rng: np.random.Generator) -> list[list[str]]:
    """Every gloss is followed by one of ten others, the first of them most often."""
    followers = np.random.default_rng(1).integers(0, GLOSSES, (GLOSSES, 10))
    made = []
    for length in rng.integers(4, 16, sentences):
        places = [int(rng.integers(GLOSSES))]
        while len(places) < length:
            places.append(int(followers[places[-1], min(rng.geometric(0.3) - 1, 9)]))
        made.append([f"GLOSS-{place}" for place in places])
    return made


def _signed(labels: list[int], rng: np.random.Generator) -> np.ndarray:
    """Log-probabilities [120, V] of one sentence."""
    logits = rng.normal(0.0, 1.2, (FRAMES, GLOSSES + 1)).astype(np.float32)
    logits[:, 0] += 13.0 + rng.normal(0.0, 1.0, FRAMES)
    starts = np.sort(rng.choice(np.arange(1, FRAMES - 3, 4), len(labels), replace=False))
    for label, start in zip(labels, starts, strict=True):
        rivals, strength = rng.integers(1, GLOSSES + 1, 4), rng.normal(15.0, 2.5)
        for frame in range(start, start + rng.integers(1, 4)):
            logits[frame, rivals] += rng.normal(8.0, 3.0, 4)
            logits[frame, label] += strength - 2.0 * (frame > start)
            logits[frame, 0] -= rng.uniform(0.0, 5.0)
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
