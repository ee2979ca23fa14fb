"""PHOENIX's sentences, signed by the synthesiser."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd_asr_slr.corpora.build import load_corpus
from kd_asr_slr.corpora.media import read_features
from kd_asr_slr.errors import UserError

HEADER = "id|folder|signer|annotation"
ROWS = {
    "train": ["a|a/1/*.png|Signer01|loc-NORD REGEN  REGEN __PU__ KOMMEN", "b|b/1/*.png|Signer02|REGEN NORDRAUM SELTEN"],
    "dev": ["c|c/1/*.png|Signer01|NORD REGEN"],
    "test": ["d|d/1/*.png|signer02|REGEN KOMMEN", "e|e/1/*.png|Signer02|REGEN SELTEN"],
}
FRAMES = {"a": 60, "b": 45, "c": 31, "d": 40, "e": 40}


@pytest.fixture()
def annotations(tmp_path: Path) -> Path:
    folder = tmp_path / "annotations"
    folder.mkdir()
    for split, rows in ROWS.items():
        (folder / f"{split}.corpus.csv").write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
        counts = [f"{row.split('|')[0]},{FRAMES[row.split('|')[0]]}" for row in rows]
        (folder / f"{split}.num_frames.csv").write_text("\n".join(["id,num_frames", *counts]) + "\n", encoding="utf-8")
    return folder


def test_cleaned_glosses_real_frame_counts_and_one_voice_a_signer(annotations: Path, tmp_path: Path) -> None:
    corpus = load_corpus("phoenix_synthetic", options={"annotations": str(annotations)}, cache_dir=tmp_path / "out")
    assert corpus["train"]["text"] == ["NORD REGEN REGEN KOMMEN", "REGEN NORD SELTEN"]
    for split in ROWS:
        for row in corpus[split]:
            assert len(read_features(row["features"])) == FRAMES[row["id"]] == row["frames"]
    assert corpus["test"]["signer"] == ["signer02", "signer02"]


def test_only_sentences_of_the_commonest_glosses(annotations: Path, tmp_path: Path) -> None:
    options = {"annotations": str(annotations), "commonest_glosses": 3, "longest": 3}
    with pytest.raises(UserError, match="no sentence of 'train' fits the options"):
        load_corpus("phoenix_synthetic", options=options, cache_dir=tmp_path / "out")
    options["longest"] = 4  # REGEN, NORD and KOMMEN come first in the training text
    corpus = load_corpus("phoenix_synthetic", options=options, cache_dir=tmp_path / "out")
    assert {split: corpus[split]["id"] for split in corpus} == {"train": ["a"], "dev": ["c"], "test": ["d"]}


def test_annotations_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'annotations' is missing"):
        load_corpus("phoenix_synthetic", options={}, cache_dir=tmp_path)


def test_the_real_sentences(shared_data: Path, tmp_path: Path) -> None:
    options = {
        "annotations": str(shared_data / "phoenix2014"),
        "commonest_glosses": 120,
        "longest": 8,
        "sentences": {"train": 3, "dev": 2, "test": 2},
    }
    corpus = load_corpus("phoenix_synthetic", options=options, cache_dir=tmp_path)
    assert corpus["train"][0]["id"] == "01April_2010_Thursday_heute_default-2"
    assert corpus["train"][0]["frames"] == 116
