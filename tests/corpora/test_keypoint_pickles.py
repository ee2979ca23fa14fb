"""Keypoint pickles of the field: found by split, converted once, checked against the csv."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import phoenix_tree as tree
import pytest
import torch
from datasets import DatasetDict

from kd_asr_slr.corpora.build import load_corpus
from kd_asr_slr.corpora.keypoint_pickles import find_pickle, read_utterances
from kd_asr_slr.corpora.media import read_features
from kd_asr_slr.corpora.media_check import check_media
from kd_asr_slr.errors import UserError


def keypoints(name: str, frames: int = 20) -> np.ndarray:
    return tree.values(name, frames, 133 * 3).reshape(frames, 133, 3)


def entry(name: str, text: str, tensor: bool) -> dict[str, Any]:
    array = keypoints(name)
    value = torch.from_numpy(array) if tensor else array
    return {"name": f"fullFrame-210x260px/{name}/1", "gloss": text, "num_frames": len(array), "keypoint": value}


def write_pickles(
    folder: Path, pattern: str = "phoenix-2014.{split}", tensor: bool = True, listed: bool = False
) -> Path:
    """As MSKA has them: a dictionary by name, torch tensors, the split as suffix."""
    folder.mkdir()
    for split, sentences in tree.SENTENCES.items():
        entries = [entry(name, text, tensor) for name, _, text in sentences if name != tree.BROKEN]
        content = entries if listed else {item["name"]: item for item in entries}
        (folder / pattern.format(split=split)).write_bytes(pickle.dumps(content))
    return folder


@pytest.fixture
def release(tmp_path: Path) -> Path:
    tree.write_2014(tmp_path / tree.MANUAL_2014)
    return tmp_path


def load(release: Path, folder: Path, **options: object) -> DatasetDict:
    options = {"features_dir": str(folder), **options}
    return load_corpus("phoenix2014", root=release, options=options, cache_dir=release / "cache")


@pytest.mark.parametrize(
    ("pattern", "tensor", "listed"),
    [("phoenix-2014.{split}", True, False), ("{split}.pkl", False, True), ("kp_{split}.pickle", False, False)],
)
def test_every_utterance_becomes_a_file(release: Path, pattern: str, tensor: bool, listed: bool) -> None:
    corpus = load(release, write_pickles(release / "pickles", pattern, tensor, listed))
    for split in corpus.values():
        for row in split:
            assert row["features"].endswith(f"{row['split']}/{row['id']}.npz")
            assert np.array_equal(read_features(row["features"]), keypoints(row["id"]).reshape(20, -1))
    assert check_media(corpus).width == 399


def test_conversion_is_done_once_and_again_when_the_pickle_changes(release: Path) -> None:
    folder = write_pickles(release / "pickles")
    first = load(release, folder)["train"][0]["features"]
    written = Path(first).stat().st_mtime_ns
    assert load(release, folder)["train"][0]["features"] == first and Path(first).stat().st_mtime_ns == written
    content = pickle.loads((folder / "phoenix-2014.train").read_bytes())
    for item in content.values():
        item["keypoint"] = item["keypoint"] + 1
    (folder / "phoenix-2014.train").write_bytes(pickle.dumps(content, protocol=2))
    second = load(release, folder)["train"][0]["features"]
    assert second != first
    assert np.allclose(read_features(second), read_features(first) + 1)
    assert not [path for path in (release / "cache").iterdir() if path.name.endswith(".partial")]


def test_a_conversion_that_was_cut_off_is_done_again(release: Path) -> None:
    folder = write_pickles(release / "pickles")
    path = Path(load(release, folder)["dev"][0]["features"])
    (path.parent.parent / "converted.json").unlink()
    path.unlink()
    assert Path(load(release, folder)["dev"][0]["features"]).is_file()


def test_where_conversions_go(release: Path) -> None:
    folder = write_pickles(release / "pickles")
    row = load(release, folder, converted_dir=str(release / "elsewhere"))["dev"][0]
    assert Path(row["features"]).is_relative_to(release / "elsewhere") and not (release / "cache").exists()
    record = json.loads((Path(row["features"]).parent.parent / "converted.json").read_text())
    assert record["written"] == 1 and record["left_out"] == 0


def test_gzipped_features_of_sign_language_transformers(tmp_path: Path) -> None:
    path = tmp_path / "phoenix14t.pami0.dev"
    content = [
        {"name": "dev/a-1", "signer": "Signer01", "gloss": "REGEN", "text": "regen", "sign": torch.ones(7, 1024)}
    ]
    path.write_bytes(gzip.compress(pickle.dumps(content)))
    (utterance,) = read_utterances(path)
    assert (utterance.name, utterance.gloss, utterance.values.shape) == ("dev/a-1", "REGEN", (7, 1024))
    assert find_pickle(tmp_path, "dev") == path and find_pickle(tmp_path, "train") is None


def test_glosses_of_another_utterance_are_refused(release: Path) -> None:
    folder = write_pickles(release / "pickles")
    content = pickle.loads((folder / "phoenix-2014.train").read_bytes())
    first, second = content.values()
    first["gloss"] = second["gloss"]
    (folder / "phoenix-2014.train").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match="another utterance.*MORGEN SONNE.*loc-NORD"):
        load(release, folder)


def test_a_pickle_of_another_split_is_refused(release: Path) -> None:
    folder = write_pickles(release / "pickles")
    (folder / "phoenix-2014.test").rename(folder / "phoenix-2014.dev")
    with pytest.raises(UserError, match="no utterance in common with the csv of 'dev'.*03June.*02May"):
        load(release, folder)
    assert not [path for path in (release / "cache").iterdir() if "dev" in path.name and path.is_dir()]


def test_several_pickles_of_a_split_are_refused(release: Path) -> None:
    folder = write_pickles(release / "pickles")
    (folder / "train.pkl").write_bytes(b"")
    with pytest.raises(UserError, match="several pickles of 'train': phoenix-2014.train, train.pkl"):
        load(release, folder)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ([{"name": "a", "gloss": "X"}], "'entry 1': has no array under keypoint"),
        ({"a": {"name": "a", "keypoint": np.zeros((2, 133, 3)), "num_frames": 3}}, "num_frames 3.* has 2 frames"),
        ({"a": {"name": "a", "keypoint": np.zeros(5)}}, r"shape \(5,\)"),
        ({"a": np.zeros((2, 133, 3))}, "'a': is ndarray"),
        ({}, "holds no utterance"),
        ("text", "holds str"),
    ],
)
def test_pickles_of_another_form(tmp_path: Path, content: Any, part: str) -> None:
    path = tmp_path / "train.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=part):
        list(read_utterances(path))
