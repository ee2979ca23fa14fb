"""What a document's reader has on disk, tiny: the places and names are those that the document states."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import phoenix_tree
import pytest
from dysarthric_trees import write_labels, write_tone
from recipe_runs import write_speech_corpus

from kd_asr_slr.corpora.uaspeech_facts import COMMON_MICROPHONES

GLOSSES = ("REGEN NORD", "SONNE", "MORGEN WOLKE", "SCHNEE", "WIND SUED", "NACHT KALT")


def phoenix(checkout: Path) -> None:
    """PHOENIX-2014 with npz files of 3318 values a frame."""
    sentences = {
        split: [(f"0{n}April_2010_Thursday_heute_default-{n}{split}", f"Signer0{n}", text) for n, text in some]
        for split, some in {
            "train": list(enumerate(GLOSSES, 1)),
            "dev": [(7, "REGEN NORD"), (8, "SONNE")],
            "test": [(9, "WIND SUED")],
        }.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phoenix_tree, "SENTENCES", sentences)
        phoenix_tree.write_2014(checkout / "data" / phoenix_tree.MANUAL_2014)
    for split, some in sentences.items():
        folder = checkout / "data" / "phoenix2014-features" / split
        folder.mkdir(parents=True)
        for name, _, _ in some:
            np.savez(folder / f"{name}.npz", features=phoenix_tree.values(name, 40, 3318))


def uaspeech(checkout: Path) -> None:
    """UASpeech in the newer layout, with label files: the held-out speaker and two others."""
    words = {"D1": "ONE", "D2": "TWO", "C1": "UP", "CW1": "THE", "UW1": "NORTH"}
    root = checkout.parent / "UASpeech"
    for speaker in ("M04", "M05", "F05"):
        names = [(f"{speaker}_{b}_{i}_{m}", i) for b in ("B1", "B2", "B3") for i in words for m in COMMON_MICROPHONES]
        for name, _ in names:
            write_tone(root / "audio" / "original" / speaker / f"{name}.wav")
        write_labels(root / "mlf", speaker, [(name, words[word_id]) for name, word_id in names])


def torgo(checkout: Path) -> None:
    """The hub's copy of TORGO as a table beside its audio: the held-out speaker and two others."""
    root, rows = checkout.parent / "TORGO", []
    for speaker in ("F01", "M05", "MC03"):
        for number, prompt in enumerate(("stick", "xray", "the dog", "yes", "feet", "xxx"), 1):
            name = f"unknown_1a2b3c_{speaker}_Session1_headMic_{number:04}.wav"
            write_tone(root / "audio" / name, seconds=1.0, rate=16000)
            rows.append({"audio": f"audio/{name}", "transcription": prompt, "speech_status": "dysarthria"})
    with (root / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def manifest(checkout: Path) -> None:
    """A table and its recordings, and the one that the page recognises."""
    wav = write_speech_corpus(checkout / "data").parent / "wav"
    shutil.copy(wav / "anna-ONE-test0.wav", wav / "a-0001.wav")


TREES = {"phoenix.md": phoenix, "uaspeech.md": uaspeech, "torgo.md": torgo, "own_corpus.md": manifest}
