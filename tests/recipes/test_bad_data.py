"""Manifests, media and labels that cannot be used: one clear message, exit code 2, nothing half-written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recipe_runs import (
    FEATURE_OPTIONS,
    RATE,
    TRAINING,
    WIDTH,
    Refuse,
    change_rows,
    run,
    tone,
    write_wav,
)

# -- manifests -----------------------------------------------------------------------------------------------------


def test_a_manifest_that_is_not_there(train: Refuse, tmp_path: Path) -> None:
    train(f"the manifest {tmp_path}/nowhere.csv does not exist", "check the path", manifest=tmp_path / "nowhere.csv")
    train("is a folder", manifest=(tmp_path / "folder.csv").mkdir() or tmp_path / "folder.csv")
    train("no corpus is given", "set --manifest")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda rows: rows.append(dict(rows[4])), ["line 50: id 'bert-ONE-train0' was already used in line 6"]),
        (lambda rows: [row | {"speeker": "x"} for row in rows], ["unknown column 'speeker'", "did you mean 'speaker'"]),
        (
            lambda rows: [{key: row[key] for key in row if key != "split"} for row in rows],
            ["column 'split' is missing", "give every row train, dev or test"],
        ),
        (lambda rows: [row for row in rows if row["split"] != "train"], ["no split 'train'", "one of dev, test"]),
        (lambda rows: [row for row in rows if row["split"] != "dev"], ["no split 'dev'", "one of train, test"]),
        (lambda rows: [row for row in rows if row["split"] != "test"], ["no split 'test'", "one of train, dev"]),
        (lambda rows: rows[0].update(text=" "), ["line 2: 'text' is empty"]),
        (lambda rows: rows[0].update(speaker=""), ["line 2: 'speaker' is empty"]),
        (lambda rows: rows[0].update(path="a.mp3"), ["line 2: the file 'a.mp3' has an unknown suffix"]),
        (lambda rows: rows[0].update(path="a.npz"), ["audio and features are mixed"]),
    ],
    ids=["duplicate-id", "unknown-column", "no-split-column", "no-train", "no-dev", "no-test", "no-text", "no-speaker"]
    + ["suffix", "mixed"],
)
def test_manifests_that_cannot_be_used(
    train: Refuse, copied: Path, change: Callable[[list[dict[str, str]]], Any], parts: list[str]
) -> None:
    change_rows(copied, change)
    train(*parts, manifest=copied)


def test_everything_wrong_with_a_manifest_is_said_at_once(train: Refuse, copied: Path) -> None:
    def spoil(rows: list[dict[str, str]]) -> None:
        rows[1]["text"] = ""
        rows[2]["id"] = rows[3]["id"]
        rows[7]["path"] = "x.doc"

    change_rows(copied, spoil)
    train("3 problems", "line 3: 'text' is empty", "line 5: id", "line 9: the file 'x.doc'", manifest=copied)


# -- media ---------------------------------------------------------------------------------------------------------


def damaged_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[40:44] = (10 * len(content)).to_bytes(4, "little")  # the size of the data chunk
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda path: path.unlink(), "the file does not exist"),
        (lambda path: path.write_bytes(b""), "the file has 0 bytes"),
        (damaged_header, "declare"),
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "declare"),
        (
            lambda path: path.write_bytes(b"not a recording at all, but long enough for a header " * 9),
            "cannot be read as wav audio",
        ),
        (lambda path: write_wav(path, np.zeros(RATE // 2)), "silent"),
        (lambda path: write_wav(path, np.zeros(0)), "0 samples"),
    ],
    ids=["missing", "zero-bytes", "lying-header", "cut-off", "no-audio", "silent", "no-samples"],
)
def test_recordings_that_cannot_be_used(train: Refuse, copied: Path, damage: Callable[[Path], Any], part: str) -> None:
    bad = copied.parent / "wav" / "anna-SIX-train1.wav"
    damage(bad)
    message = train("checked 48 files, 1 cannot be used", str(bad), part, manifest=copied)
    assert message.count("wav/") == 1


def test_all_bad_recordings_are_named_at_once(train: Refuse, copied: Path) -> None:
    (copied.parent / "wav" / "anna-ONE-train0.wav").unlink()
    (copied.parent / "wav" / "bert-TWO-dev0.wav").write_bytes(b"")
    (copied.parent / "wav" / "bert-TEN-test1.wav").write_bytes(b"RIFF")
    parts = ["3 cannot be used", "anna-ONE-train0.wav", "bert-TWO-dev0.wav", "bert-TEN-test1.wav"]
    train(*parts, manifest=copied)


@pytest.mark.parametrize("check", ["headers", "none"])
def test_an_unchecked_bad_recording_stops_the_run_all_the_same(train: Refuse, copied: Path, check: str) -> None:
    write_wav(copied.parent / "wav" / "anna-SIX-train1.wav", np.zeros(RATE // 2))
    train("anna-SIX-train1.wav", "silent", manifest=copied, media_check=check)


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda array: np.where(np.arange(array.size).reshape(array.shape) == 7, np.nan, array), "not finite"),
        (lambda array: np.full_like(array, np.inf), "not finite"),
        (lambda array: np.zeros_like(array), "silent"),
        (lambda array: array[:, :-1], f"4 values a frame, while 47 of 48 files have {WIDTH}"),
        (lambda array: array[:0], "0 frames"),
        (lambda array: array[0], "1 dimensions"),
        (lambda array: np.array([{"a": 1}], dtype=object), "npz"),
    ],
    ids=["nan", "infinite", "all-zero", "width", "no-frames", "one-dimension", "pickled"],
)
def test_features_that_cannot_be_used(
    refuse: Refuse, features: Path, tmp_path: Path, damage: Callable[[np.ndarray], np.ndarray], part: str
) -> None:
    shutil.copytree(features.parent, tmp_path / "corpus")
    bad = tmp_path / "corpus" / "npz" / "bert-TEN-dev0.npz"
    np.savez(bad, features=damage(np.load(bad)["features"]))
    options = {"output_dir": tmp_path / "out", **FEATURE_OPTIONS, **TRAINING}
    refuse("train", "1 cannot be used", str(bad), part, manifest=tmp_path / "corpus" / "manifest.csv", **options)


# -- labels --------------------------------------------------------------------------------------------------------


def test_words_outside_of_the_vocabulary(train: Refuse, speech: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("ONE\nTWO\nSIX\n", encoding="utf-8")
    message = train("labels outside the vocabulary", "'TEN'", "anna-TEN-train0", manifest=speech, vocabulary=words)
    assert "and 1 more utterances like these" in message


def test_transcripts_that_are_empty_after_cleaning(train: Refuse, copied: Path) -> None:
    def empty(rows: list[dict[str, str]]) -> None:
        rows[2]["text"], rows[-1]["text"] = "...", "!?"

    change_rows(copied, empty)
    parts = ["2 transcripts are empty after cleaning (normaliser 'torgo')", "the first is '...' of 'anna-SIX-train0'"]
    train(*parts, manifest=copied, normaliser="torgo")
    found = run("prepare_data", manifest=copied, normaliser="torgo")
    assert (
        found.code == 2 and "2 transcripts are empty after cleaning: '...' of 'anna-SIX-train0' in 'train'" in found.out
    )


@pytest.mark.parametrize(
    ("content", "part"), [(None, "there is no vocabulary"), ("", "no label"), (" \n\n", "no label")]
)
def test_vocabularies_that_cannot_be_used(
    train: Refuse, speech: Path, tmp_path: Path, content: str | None, part: str
) -> None:
    words = tmp_path / "words.txt"
    if content is not None:
        words.write_text(content, encoding="utf-8")
    train(part, str(words), manifest=speech, vocabulary=words)


def test_a_vocabulary_that_is_no_text(train: Refuse, speech: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(b"\xff\xfe\x00\x01")
    train("words.txt", "UTF-8", manifest=speech, vocabulary=tmp_path / "words.txt")


def test_an_utterance_too_short_for_its_labels(train: Refuse, copied: Path) -> None:
    def shorten(rows: list[dict[str, str]]) -> None:
        row = next(row for row in rows if row["id"] == "bert-TWO-train2")
        write_wav(copied.parent / row["path"], tone(row, 0.1))
        row["text"] = "TWO TWO"  # 3 frames; 0.1 s is 5 frames of 20 ms, 2 after a stride of 4

    change_rows(copied, shorten)
    train("1 training utterances are too short", "'bert-TWO-train2' (2 frames, 3 needed)", manifest=copied)
