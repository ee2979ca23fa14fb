"""PHOENIX: the exact layouts and headers, features by id, and the real annotations."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import phoenix_tree as tree
import pytest
from datasets import DatasetDict

from kd_asr_slr.corpora.build import load_corpus
from kd_asr_slr.corpora.media import read_features
from kd_asr_slr.corpora.media_check import check_media
from kd_asr_slr.corpora.phoenix_annotations import read_annotations
from kd_asr_slr.corpora.schema import check_rows
from kd_asr_slr.errors import UserError
from kd_asr_slr.text import normalise, normaliser_of_split


def load(root: Path, corpus: str = "phoenix2014", **options: object) -> DatasetDict:
    return load_corpus(corpus, root=root, options=options, cache_dir=root.parent / "cache")


def message(root: Path, corpus: str = "phoenix2014", **options: object) -> str:
    with pytest.raises(UserError) as caught:
        load(root, corpus, **options)
    return str(caught.value)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release of PHOENIX-2014 with features in `npz`."""
    tree.write_2014(tmp_path / tree.MANUAL_2014)
    tree.write_features(tmp_path / "npz")
    return tmp_path


def test_rows_of_a_release(release: Path) -> None:
    corpus = load(release / "phoenix2014-release", features_dir=str(release / "npz"))
    assert {split: part["id"][:] for split, part in corpus.items()} == {
        split: [name for name, _, _ in sentences if name != tree.BROKEN] for split, sentences in tree.SENTENCES.items()
    }
    row = corpus["train"][0]
    assert row["speaker"] == "phoenix2014/Signer04" and row["signer"] == "Signer04" and row["split"] == "train"
    assert np.array_equal(read_features(row["features"]), tree.values(row["id"]))
    # Two blanks keep the official clean-up from merging equal glosses: they must reach it.
    assert corpus["dev"][0]["text"] == "MOEGLICH  MOEGLICH SCHNEE"
    assert corpus["test"][0]["text"] == "REGEN  NORD"
    for split in corpus.values():
        check_rows(split, "the corpus")


@pytest.mark.parametrize("depth", range(5))
def test_any_folder_on_the_way_to_the_annotations(release: Path, depth: int) -> None:
    root = release.joinpath(*tree.MANUAL_2014.parts[:depth])
    assert load(root, features_dir=str(release / "npz"))["train"].num_rows == 2


def test_csv_files_in_one_folder_and_features_beside_them(tmp_path: Path) -> None:
    folder = tree.write_2014(tmp_path / "flat")
    tree.write_features(folder / "features", suffix=".npy")
    corpus = load(folder)
    assert corpus["test"][0]["features"].endswith("features/test/03June_2011_Friday_heute_default-1.npy")


def test_features_inside_the_release_are_found(tmp_path: Path) -> None:
    folder = tree.write_2014(tmp_path / tree.MANUAL_2014)
    tree.write_features(folder.parent.parent / "features")
    assert load(tmp_path)["dev"].num_rows == 1


def test_si5_has_its_own_files_and_takes_the_features_of_all(tmp_path: Path) -> None:
    tree.write_2014(tmp_path / tree.MANUAL_SI5, "{split}.SI5.corpus.csv")
    tree.write_features(tmp_path / "npz")
    np.savez(tmp_path / "npz/dev/another-0.npz", features=tree.values("another"))
    named = load(tmp_path / "phoenix2014-release", "phoenix2014_si5", features_dir=str(tmp_path / "npz"))
    variant = load(tmp_path, variant="SI5", features_dir=str(tmp_path / "npz"))
    assert named["dev"]["id"][:] == variant["dev"]["id"][:] == ["02May_2011_Monday_heute_default-3"]
    assert named["train"][0]["speaker"] == "phoenix2014_si5/Signer04"
    assert "train.corpus.csv" in message(tmp_path, features_dir=str(tmp_path / "npz"))


def test_2014t_has_translations(tmp_path: Path) -> None:
    manual = tree.write_2014t(tmp_path / tree.MANUAL_2014T)
    tree.write_features(tmp_path / "npz")
    for root in (tmp_path, tmp_path / "PHOENIX-2014-T-release-v3", manual):
        corpus = load(root, "phoenix2014t", features_dir=str(tmp_path / "npz"))
        assert corpus["train"][1]["translation"] == "am tag regen"
        assert corpus["train"][1]["text"] == "MORGEN SONNE"
    complex_train = manual / "PHOENIX-2014-T.train-complex-annotation.corpus.csv"
    complex_train.write_text(tree.csv_2014t([("01April_2010_Thursday_heute_default-2", "Signer01", "SONNE")]))
    assert load(tmp_path, "phoenix2014t", variant="complex", features_dir=str(tmp_path / "npz"))["train"].num_rows == 1


def test_poses_are_features(release: Path, shared_data: Path) -> None:
    poses = sorted((shared_data / "pose" / "sgg_lexicon").rglob("*.pose"))
    for split, sentences in tree.SENTENCES.items():
        (release / "poses" / split).mkdir(parents=True)
        for (name, _, _), pose in zip(sentences, poses, strict=False):
            shutil.copyfile(pose, release / "poses" / split / f"{name}.pose")
    corpus = load(release, features_dir=str(release / "poses"))
    assert read_features(corpus["train"][1]["features"]).shape == (45, 178 * 3)  # kinder.pose
    assert check_media(corpus).width == 178 * 3


@pytest.mark.parametrize("form", ["MORGEN SONNE", "morgen sonne", ["MORGEN", "SONNE"], b"MORGEN SONNE"])
def test_glosses_inside_may_be_written_in_several_ways(release: Path, form: object) -> None:
    name = "01April_2010_Thursday_heute_default-2"
    np.savez(release / f"npz/train/{name}.npz", features=tree.values(name), gloss=np.array(form))
    assert load(release, features_dir=str(release / "npz"))["train"].num_rows == 2


def test_glosses_inside_may_be_cleaned(release: Path) -> None:
    name = "01April_2010_Thursday_heute_default-0"
    np.savez(release / f"npz/train/{name}.npz", features=tree.values(name), gloss=np.array("__ON__ NORD REGEN WOLKE"))
    assert load(release, features_dir=str(release / "npz"))["train"].num_rows == 2


def test_features_of_another_utterance_are_refused(release: Path) -> None:
    first, second = (f"01April_2010_Thursday_heute_default-{number}" for number in (0, 2))
    shutil.copyfile(release / f"npz/train/{first}.npz", release / f"npz/train/{second}.npz")
    text = message(release, features_dir=str(release / "npz"))
    for part in (f"{second}.npz", "another utterance", "__ON__ loc-NORD", f"'{first}'", f"'{second}'", "MORGEN SONNE"):
        assert part in text


def test_a_pickled_gloss_is_refused(release: Path) -> None:
    name = "01April_2010_Thursday_heute_default-2"
    pickled = np.array(["MORGEN", "SONNE"], dtype=object)
    np.savez(release / f"npz/train/{name}.npz", features=tree.values(name), gloss=pickled)
    assert "pickled Python objects, which are never loaded" in message(release, features_dir=str(release / "npz"))


def test_a_split_with_no_utterance_in_common_is_refused(release: Path) -> None:
    shutil.rmtree(release / "npz" / "dev")
    shutil.copytree(release / "npz" / "test", release / "npz" / "dev")
    text = message(release, features_dir=str(release / "npz"))
    for part in ("'dev'", "03June_2011_Friday_heute_default-1.npz", "'02May_2011_Monday_heute_default-3'"):
        assert part in text
    shutil.rmtree(release / "npz" / "dev")
    assert f"there is no folder {release / 'npz' / 'dev'}" in message(release, features_dir=str(release / "npz"))


def test_a_missing_file_keeps_its_row_and_is_named_by_the_media_check(release: Path) -> None:
    missing = release / "npz/train/01April_2010_Thursday_heute_default-2.npz"
    missing.unlink()
    corpus = load(release, features_dir=str(release / "npz"))
    assert corpus["train"].num_rows == 2
    with pytest.raises(UserError, match=f"{missing.name}: the file does not exist"):
        check_media(corpus)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("|annotation", "|glosses", ["train.corpus.csv has no column 'annotation'", "id|folder|signer|glosses"]),
        ("id|folder|signer|annotation", "id,folder,signer,annotation", ["'id'", "'annotation'", "id,folder"]),
        ("|Signer04|", "|", ["line 2: 3 fields, but the header has 4"]),
        ("|Signer04|", "||", ["line 2: 'speaker' is empty"]),
        ("MORGEN SONNE", "", ["line 3: 'text' is empty"]),
        ("heute_default-2|", "heute_default-0|", ["line 3: id '01April_2010_Thursday_heute_default-0'", "line 2"]),
    ],
)
def test_each_mistake_in_a_csv_has_its_sentence(release: Path, before: str, after: str, expected: list[str]) -> None:
    path = release / tree.MANUAL_2014 / "train.corpus.csv"
    content = path.read_text(encoding="utf-8")
    assert before in content
    path.write_text(content.replace(before, after), encoding="utf-8")
    text = message(release, features_dir=str(release / "npz"))
    for part in expected:
        assert part in text


def test_windows_line_ends_and_a_byte_order_mark_are_tolerated(release: Path) -> None:
    path = release / tree.MANUAL_2014 / "train.corpus.csv"
    plain = read_annotations(release).splits
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_annotations(release).splits == plain


def test_folders_and_options_that_cannot_be_used(release: Path) -> None:
    features = str(release / "npz")
    assert "holds no annotations of 'phoenix2014t'" in message(release, "phoenix2014t", features_dir=features)
    assert "unknown option 'feature_dir' (did you mean 'features_dir'?)" in message(release, feature_dir=features)
    assert "no variant 'si6' (did you mean 'si5'?)" in message(release, variant="si6", features_dir=features)
    assert "set features_dir in corpus_options" in message(release)
    assert f"there is no folder {release / 'nowhere'}" in message(release, features_dir=str(release / "nowhere"))
    (release / tree.MANUAL_2014 / "dev.corpus.csv").unlink()
    assert "has train.corpus.csv but not dev.corpus.csv" in message(release, features_dir=features)
    with pytest.raises(UserError, match="has no folder"):
        load_corpus("phoenix2014")
    with pytest.raises(UserError, match="takes no manifest"):
        load_corpus("phoenix2014", root=release, manifest="m.csv")


def test_the_real_annotations(shared_data: Path) -> None:
    annotations = read_annotations(shared_data / "phoenix2014")
    counts = {split: (len(part), len(annotations.usable(split))) for split, part in annotations.splits.items()}
    assert counts == {"train": (5672, 5671), "dev": (540, 540), "test": (629, 629)}
    assert {split: sum(frames.values()) for split, frames in annotations.frames.items()} == {
        "train": 799_006 - 16,
        "dev": 75_186,
        "test": 89_472,
    }


def test_the_real_texts_become_the_official_references(shared_data: Path) -> None:
    annotations = read_annotations(shared_data / "phoenix2014")
    for split in annotations.splits:
        stm = shared_data / "phoenix2014" / f"phoenix2014-groundtruth-{split}.stm"
        references = {line.split()[0]: line.split()[5:] for line in stm.read_text(encoding="utf-8").splitlines()}
        name = normaliser_of_split("phoenix2014", training=split == "train")
        assert {item.id: normalise(item.text, name).split() for item in annotations.usable(split)} == references
