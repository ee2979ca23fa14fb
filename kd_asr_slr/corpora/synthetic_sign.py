"""Built-in sign language: weather sentences in glosses, signed as landmark trajectories, made from a seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict

from kd_asr_slr.corpora.gloss_grammar import draw_sentences
from kd_asr_slr.corpora.sign_synthesis import make_signer, render_sentence
from kd_asr_slr.corpora.synthetic import (
    MEDIA_FOLDER,
    counts_problem,
    item_rng,
    load_generated,
    number_problem,
    parse_options,
    refuse_manifest,
    whole_number_problem,
    write_manifest,
)

CORPUS = "synthetic_sign"
VERSION = 1  # raised whenever the same options give other bytes


@dataclass(frozen=True)
class SignOptions:
    """Settings of the synthetic sign corpus.

    Attributes:
        signers: number of signers; they take turns, in every split.
        sentences: number of sentences of train, dev and test.
        frames_per_gloss: mean frames of a gloss, the glide to it included.
        difficulty: 0 to 1: variation of the glosses, jitter of the landmarks, missing hands.
        seed: gives another grammar, other sentences and other signers; the glosses' forms stay.
    """

    signers: int = 4
    sentences: Mapping[str, int] = field(default_factory=lambda: {"train": 240, "dev": 30, "test": 30})
    frames_per_gloss: int = 10
    difficulty: float = 0.6
    seed: int = 0

    def problems(self) -> list[str]:
        """One sentence for each value out of range."""
        return [
            *whole_number_problem("signers", self.signers, 1, 1000),
            *counts_problem("sentences", self.sentences, 1_000_000),
            *whole_number_problem("frames_per_gloss", self.frames_per_gloss, 4, 100),
            *number_problem("difficulty", self.difficulty, 0.0, 1.0),
            *whole_number_problem("seed", self.seed, 0, 2**31 - 1),
        ]


@dataclass(frozen=True)
class Sentence:
    """A sentence to be signed: what `write_sentences` needs; `frames` where the length is given."""

    id: str
    split: str
    glosses: Sequence[str]
    signer: int
    frames: int | None = None


def load(
    *, manifest: str | Path | None, name: str | None, root: str | Path | None, options: dict[str, Any], cache_dir: Path
) -> DatasetDict:
    """Load the corpus, made under `cache_dir` where it is not there yet; see `build.load_corpus`.

    Raises:
        UserError: if an option is unknown or out of range, or a manifest is given.
    """
    refuse_manifest(CORPUS, manifest, root)
    parsed = parse_options(SignOptions, options, CORPUS)

    def write(folder: Path) -> None:
        write_sentences(folder, make_sentences(parsed), parsed)

    return load_generated(CORPUS, VERSION, parsed, write, name, cache_dir)


def make_sentences(options: SignOptions) -> Iterator[Sentence]:
    """The sentences of the corpus, from its grammar; as long as it has new ones, none comes twice."""
    drawn = iter(draw_sentences(sum(options.sentences.values()), item_rng(CORPUS, options.seed, "sentences")))
    for split in ("train", "dev", "test"):
        for number in range(options.sentences[split]):
            yield Sentence(f"{split}-{number:05d}", split, next(drawn), number % options.signers)


def write_sentences(folder: Path, sentences: Iterator[Sentence], options: SignOptions) -> None:
    """Write `media/*.npy` ([T, 543, 3], float16) and `manifest.csv` into a folder."""
    signers = [make_signer(index, item_rng(CORPUS, options.seed, "signer", index)) for index in range(options.signers)]
    rows: list[list[object]] = []
    for sentence in sentences:
        path = f"{MEDIA_FOLDER}/{sentence.id}.npy"
        landmarks = render_sentence(
            sentence.glosses,
            sentence.frames,
            signers[sentence.signer],
            item_rng(CORPUS, options.seed, "sentence", sentence.id),
            difficulty=options.difficulty,
            frames_per_gloss=options.frames_per_gloss,
        )
        np.save(folder / path, landmarks.astype(np.float16), allow_pickle=False)
        signer = f"signer{sentence.signer + 1:02d}"
        text = " ".join(sentence.glosses)
        rows.append([sentence.id, path, text, signer, sentence.split, signer, len(landmarks)])
    write_manifest(folder, ("id", "path", "text", "speaker", "split", "signer", "frames"), rows)
