"""PHOENIX sentences signed by the built-in synthesiser: the real glosses, signers and frame counts, without the videos.

It shows what a recipe does on PHOENIX's language (vocabulary, sentence lengths, frames a gloss) on a machine that has
the annotations only. Its error rates say nothing about PHOENIX itself.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from kd_asr_slr.corpora.phoenix_annotations import Annotation, Annotations, read_annotations
from kd_asr_slr.corpora.schema import SPLIT_ORDER
from kd_asr_slr.corpora.synthetic import (
    counts_problem,
    load_generated,
    number_problem,
    parse_options,
    refuse_manifest,
    whole_number_problem,
)
from kd_asr_slr.corpora.synthetic_sign import Sentence, SignOptions, write_sentences
from kd_asr_slr.errors import UserError
from kd_asr_slr.text import normalise

CORPUS = "phoenix_synthetic"
VERSION = 1  # raised whenever the same options give other bytes
EVERYTHING = 1_000_000


@dataclass(frozen=True)
class PhoenixSyntheticOptions:
    """Settings of the corpus.

    Attributes:
        annotations: the release, or a folder with `{train,dev,test}.corpus.csv` and `{split}.num_frames.csv`.
        sentences: at most so many sentences of train, dev and test, the first ones that fit.
        commonest_glosses: only sentences of these many commonest training glosses; 0 for all sentences.
        longest: only sentences of at most so many glosses.
        difficulty: 0 to 1, as for the synthetic sign corpus.
        seed: gives other signers and renderings of the same sentences.
    """

    annotations: str = ""
    sentences: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(SPLIT_ORDER, EVERYTHING))
    commonest_glosses: int = 0
    longest: int = 100
    difficulty: float = 0.5
    seed: int = 0

    def problems(self) -> list[str]:
        """One sentence for each value out of range."""
        return [
            *([] if self.annotations else ["'annotations' is missing; give the folder of PHOENIX's csv files"]),
            *counts_problem("sentences", self.sentences, EVERYTHING),
            *whole_number_problem("commonest_glosses", self.commonest_glosses, 0, EVERYTHING),
            *whole_number_problem("longest", self.longest, 1, 1000),
            *number_problem("difficulty", self.difficulty, 0.0, 1.0),
            *whole_number_problem("seed", self.seed, 0, 2**31 - 1),
        ]


@dataclass(frozen=True)
class _Content:
    """What names the folder on disk: the settings, and the sentences themselves instead of where they were read."""

    sentences: str
    difficulty: float
    seed: int


def load(
    *, manifest: str | Path | None, name: str | None, root: str | Path | None, options: dict[str, Any], cache_dir: Path
) -> DatasetDict:
    """Load the corpus, rendered under `cache_dir` where it is not there yet; see `build.load_corpus`.

    Raises:
        UserError: if an option is unknown or out of range, the annotations cannot be read, or no sentence fits.
    """
    refuse_manifest(CORPUS, manifest, root)
    parsed = parse_options(PhoenixSyntheticOptions, options, CORPUS)
    annotations = read_annotations(parsed.annotations)
    signers = sorted({item.signer.lower() for items in annotations.splits.values() for item in items})
    sentences = list(chosen_sentences(annotations, parsed, signers))
    for split in SPLIT_ORDER:
        if not any(sentence.split == split for sentence in sentences):
            raise UserError(
                f"no sentence of '{split}' fits the options", fix="raise commonest_glosses, longest or sentences"
            )
    content = _Content(hashlib.sha256(repr(sentences).encode()).hexdigest(), parsed.difficulty, parsed.seed)
    settings = SignOptions(signers=len(signers), difficulty=parsed.difficulty, seed=parsed.seed)
    return load_generated(
        CORPUS, VERSION, content, lambda folder: write_sentences(folder, iter(sentences), settings), name, cache_dir
    )


def chosen_sentences(
    annotations: Annotations, options: PhoenixSyntheticOptions, signers: list[str]
) -> Iterator[Sentence]:
    """The sentences that fit the options, cleaned, in the order of the csv files.

    Args:
        annotations: of all three splits.
        options: what fits.
        signers: every signer, in the order of their synthetic voices.
    """
    cleaned = {split: [(item, _glosses(item)) for item in annotations.usable(split)] for split in SPLIT_ORDER}
    counts = Counter(gloss for _, glosses in cleaned["train"] for gloss in glosses)
    common = {gloss for gloss, _ in counts.most_common(options.commonest_glosses or None)}
    for split in SPLIT_ORDER:
        fitting = [
            (item, glosses)
            for item, glosses in cleaned[split]
            if glosses
            and len(glosses) <= options.longest
            and (not options.commonest_glosses or common.issuperset(glosses))
        ]
        for item, glosses in fitting[: options.sentences[split]]:
            frames = annotations.frames.get(split, {}).get(item.id)
            yield Sentence(item.id, split, glosses, signers.index(item.signer.lower()), frames)


def _glosses(item: Annotation) -> list[str]:
    return normalise(item.text, "phoenix2014").split()
