"""Small PHOENIX releases in the exact folders and headers of the real ones; every value made up here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

BROKEN = "13April_2011_Wednesday_tagesschau_default-14"
MANUAL_2014 = Path("phoenix2014-release/phoenix-2014-multisigner/annotations/manual")
MANUAL_SI5 = Path("phoenix2014-release/phoenix-2014-signerindependent-SI5/annotations/manual")
MANUAL_2014T = Path("PHOENIX-2014-T-release-v3/PHOENIX-2014-T/annotations/manual")

SENTENCES = {
    "train": [
        ("01April_2010_Thursday_heute_default-0", "Signer04", "__ON__ loc-NORD REGEN REGEN WOLKE-PLUSPLUS"),
        ("01April_2010_Thursday_heute_default-2", "Signer01", "MORGEN SONNE"),
        (BROKEN, "Signer07", "REGION WOLKE WOLKE __OFF__"),
    ],
    "dev": [("02May_2011_Monday_heute_default-3", "Signer04", "MOEGLICH  MOEGLICH SCHNEE")],
    "test": [("03June_2011_Friday_heute_default-1", "Signer05", " REGEN  NORD ")],
}


def csv_2014(sentences: list[tuple[str, str, str]]) -> str:
    rows = [f"{name}|{name}/1/*.png|{signer}|{text}" for name, signer, text in sentences]
    return "\n".join(["id|folder|signer|annotation", *rows]) + "\n"


def csv_2014t(sentences: list[tuple[str, str, str]]) -> str:
    rows = [f"{name}|{name}/1/*.png|-1|-1|{signer}|{text}|am tag regen" for name, signer, text in sentences]
    return "\n".join(["name|video|start|end|speaker|orth|translation", *rows]) + "\n"


def write_2014(folder: Path, pattern: str = "{split}.corpus.csv") -> Path:
    folder.mkdir(parents=True)
    for split, sentences in SENTENCES.items():
        (folder / pattern.format(split=split)).write_text(csv_2014(sentences), encoding="utf-8")
    return folder


def write_2014t(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for split, sentences in SENTENCES.items():
        usable = [sentence for sentence in sentences if sentence[0] != BROKEN]
        (folder / f"PHOENIX-2014-T.{split}.corpus.csv").write_text(csv_2014t(usable), encoding="utf-8")
    return folder


def values(name: str, frames: int = 40, width: int = 6) -> np.ndarray:
    """Features that are the same for the same name."""
    return np.random.default_rng(sum(name.encode())).normal(size=(frames, width)).astype(np.float32)


def write_features(root: Path, suffix: str = ".npz", gloss: bool = True) -> Path:
    """One file an utterance, the broken item left out."""
    for split, sentences in SENTENCES.items():
        (root / split).mkdir(parents=True)
        for name, _, text in sentences:
            if name == BROKEN:
                continue
            path = root / split / f"{name}{suffix}"
            if suffix == ".npy":
                np.save(path, values(name), allow_pickle=False)
            else:
                np.savez(path, features=values(name), **({"gloss": np.array(text)} if gloss else {}))
    return root
