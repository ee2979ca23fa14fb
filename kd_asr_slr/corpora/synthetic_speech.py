"""Built-in speech: isolated words by speakers from healthy to severely dysarthric, made from a seed."""

from __future__ import annotations

import wave
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict

from kd_asr_slr.corpora.speech_synthesis import RATE, Voice, make_voice, synthesise
from kd_asr_slr.corpora.synthetic import (
    MEDIA_FOLDER,
    counts_problem,
    item_rng,
    load_generated,
    number_problem,
    parse_options,
    range_problem,
    refuse_manifest,
    spread,
    whole_number_problem,
    write_manifest,
)

CORPUS = "synthetic_speech"
VERSION = 2  # raised whenever the same options give other bytes

# Minimal pairs and their neighbours; every letter is a phone, so the words can be spelled as well.
# fmt: off
WORDS = (
    "PATA", "BATA", "PADA", "TAPA", "KAPA", "GAPA", "PATI", "BADI", "MANA", "NAMA",
    "MINI", "NIMU", "SOLA", "FOLA", "SILO", "FILO", "KUTO", "GUDO", "LEMU", "LENU",
    "TEKA", "DEKA", "TEGA", "SAKI", "FAKI", "SAGI", "MOLE", "NOLE", "MOSE", "POSU",
    "BOSU", "POFU", "KELI", "GELI", "KENI", "LUBA", "LUMA", "LUNA", "SUFI", "FUSI",
)
# fmt: on


@dataclass(frozen=True)
class SpeechOptions:
    """Settings of the synthetic speech corpus.

    Attributes:
        speakers: number of speakers; the first ones stay the same when the number grows.
        words: number of words of the vocabulary, the first ones of `WORDS`.
        takes: recordings of each word by each speaker, for train, dev and test.
        severity: lowest and highest dysarthria severity (0 healthy, 1 severe); the speakers spread evenly over it.
        difficulty: 0 to 1: variation between takes, and background noise.
        seed: gives other speakers and takes.
    """

    speakers: int = 8
    words: int = 20
    takes: Mapping[str, int] = field(default_factory=lambda: {"train": 8, "dev": 2, "test": 2})
    severity: tuple[float, float] = (0.0, 0.9)
    difficulty: float = 0.3
    seed: int = 0

    def problems(self) -> list[str]:
        """One sentence for each value out of range."""
        return [
            *whole_number_problem("speakers", self.speakers, 1, 1000),
            *whole_number_problem("words", self.words, 2, len(WORDS)),
            *counts_problem("takes", self.takes, 10000),
            *range_problem("severity", self.severity, 0.0, 1.0),
            *number_problem("difficulty", self.difficulty, 0.0, 1.0),
            *whole_number_problem("seed", self.seed, 0, 2**31 - 1),
        ]


def load(
    *, manifest: str | Path | None, name: str | None, root: str | Path | None, options: dict[str, Any], cache_dir: Path
) -> DatasetDict:
    """Load the corpus, made under `cache_dir` where it is not there yet; see `build.load_corpus`.

    Raises:
        UserError: if an option is unknown or out of range, or a manifest is given.
    """
    refuse_manifest(CORPUS, manifest, root)
    parsed = parse_options(SpeechOptions, options, CORPUS)
    return load_generated(CORPUS, VERSION, parsed, lambda folder: write_speech(folder, parsed), name, cache_dir)


def make_speaker(index: int, options: SpeechOptions) -> tuple[str, Voice]:
    """Name and voice of the index-th speaker."""
    low, high = options.severity
    severity = round(low + (high - low) * spread(index, 0.1), 3)
    return f"s{index + 1:02d}", make_voice(index, severity, item_rng(CORPUS, options.seed, "speaker", index))


def write_speech(folder: Path, options: SpeechOptions) -> None:
    """Write `media/*.wav` (16 kHz, 16 bit, mono) and `manifest.csv` into a folder."""
    rows: list[list[object]] = []
    takes = [(split, take) for split in ("train", "dev", "test") for take in range(options.takes[split])]
    for index in range(options.speakers):
        speaker, voice = make_speaker(index, options)
        for word in WORDS[: options.words]:
            for split, take in takes:
                utterance = f"{speaker}-{word}-{split}{take:02d}"
                path = f"{MEDIA_FOLDER}/{utterance}.wav"
                rng = item_rng(CORPUS, options.seed, speaker, word, split, take)
                _write_wav(folder / path, synthesise(word, voice, options.difficulty, rng))
                known = (word, f"{split}{take:02d}", voice.severity, band_of(voice.severity))
                rows.append([utterance, path, word, speaker, split, *known])
    write_manifest(folder, ("id", "path", "text", "speaker", "split", "word", "take", "severity", "band"), rows)


def band_of(severity: float) -> str:
    """The band of intelligibility that a severity stands for: high, mid, low or very low, a quarter of 0 to 1 each.

    Example:
        >>> band_of(0.1), band_of(0.9)
        ('high', 'very low')
    """
    return ("high", "mid", "low", "very low")[min(3, int(4 * severity))]


def _write_wav(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.rint(samples * 32767.0).astype("<i2").tobytes())
