"""`prepare`, and the recipe around it: everything is listed, a manifest of the rest is written, exit code 2."""

from __future__ import annotations

import csv
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from kd_asr_slr.arguments import DataArguments, ModelArguments
from kd_asr_slr.corpora.build import load_corpus
from kd_asr_slr.corpora.integrity import Report
from kd_asr_slr.errors import UserError
from kd_asr_slr.text import normalise
from kd_asr_slr.training.preparation import prepare
from kd_asr_slr.training.student import build_tokenizer

BROKEN = "13April_2011_Wednesday_tagesschau_default-14"
NAMES = {split: [f"{split}-{number}" for number in range(4)] for split in ("train", "dev", "test")}


def features(name: str) -> np.ndarray:
    return np.random.default_rng(sum(name.encode())).normal(size=(30, 6)).astype(np.float32)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release with a feature file an utterance, in `npz`."""
    manual = tmp_path / "phoenix2014-release/phoenix-2014-multisigner/annotations/manual"
    manual.mkdir(parents=True)
    for split, names in NAMES.items():
        rows = [f"{name}|{name}/1/*.png|Signer0{number}|REGEN loc-NORD  REGEN" for number, name in enumerate(names)]
        rows += [f"{BROKEN}|{BROKEN}/1/*.png|Signer07|REGEN SONNE"] if split == "train" else []
        (manual / f"{split}.corpus.csv").write_text("\n".join(["id|folder|signer|annotation", *rows]) + "\n")
        (tmp_path / "npz" / split).mkdir(parents=True)
        for name in names:
            np.savez(tmp_path / "npz" / split / f"{name}.npz", features=features(name), gloss="REGEN loc-NORD REGEN")
    return tmp_path


def data(release: Path, **options: object) -> DataArguments:
    given = json.dumps({"features_dir": str(release / "npz"), **options})
    return DataArguments(corpus="phoenix2014", data_dir=str(release), corpus_options=given)


def without_counts(report: Report) -> list[str]:
    """The problems that are not about a tree which is smaller than the corpus."""
    return [problem for problem in report.problems if "known are" not in problem]


def test_a_tree_without_mistakes(release: Path) -> None:
    report = prepare(data(release))
    assert without_counts(report) == []
    assert "train: 5 utterances, known are 5,672" in report.problems
    assert report.counts["train"]["frames"] == 120 and report.counts["train"]["utterances"] == 5
    assert any(BROKEN in note for note in report.notes)


def test_every_bad_file_is_named_and_the_others_are_written(release: Path) -> None:
    folder = release / "npz"
    (folder / "train/train-0.npz").unlink()
    (folder / "train/train-1.npz").write_bytes(b"")
    np.savez(folder / "dev/dev-0.npz", features=np.full((30, 6), np.nan))
    np.savez(folder / "dev/dev-1.npz", features=features("x"), gloss="SONNE SCHNEE")
    np.savez(folder / "test/test-0.npz", features=features("x")[:, :5])
    np.savez(folder / "test/test-1.npz", a=features("x"), b=features("y"))
    report = prepare(data(release), release / "out" / "manifest.csv")
    expected = {
        "train-0.npz": "does not exist",
        "train-1.npz": "0 bytes",
        "dev-0.npz": "not finite",
        "dev-1.npz": "features of another utterance",
        "test-0.npz": "5 values a frame",
        "test-1.npz": "2 arrays (a, b)",
    }
    problems = without_counts(report)
    assert len(problems) == len(expected)
    for name, part in expected.items():
        assert any(name in problem and part in problem for problem in problems), name
    manifest = release / "out" / "manifest.csv"
    corpus = load_corpus("manifest", manifest=manifest, name="again")
    assert {split: len(rows) for split, rows in corpus.items()} == {"train": 2, "dev": 2, "test": 2}
    row = corpus["train"][0]
    assert row["text"] == "REGEN loc-NORD  REGEN" and row["speaker"] == "phoenix2014/Signer02"
    assert row["features"] == str(folder / "train/train-2.npz") and row["signer"] == "Signer02"
    again = prepare(DataArguments(corpus="manifest", manifest=str(manifest), normaliser="phoenix2014"))
    assert again.problems == [] and again.counts["train"]["clean_types"] == 2


def test_paths_below_the_manifest_are_relative(release: Path) -> None:
    prepare(data(release), release / "manifest.csv")
    with (release / "manifest.csv").open(newline="") as file:
        assert {row["path"] for row in csv.DictReader(file) if row["split"] == "dev"} == {
            f"npz/dev/{name}.npz" for name in NAMES["dev"]
        }


def test_frames_of_the_videos_are_compared(release: Path) -> None:
    manual = release / "phoenix2014-release/phoenix-2014-multisigner/annotations/manual"
    lines = ["id,num_frames", *(f"{name},{31 if name == 'dev-3' else 30}" for name in NAMES["dev"])]
    (manual / "dev.num_frames.csv").write_text("\n".join(lines) + "\n")
    (problem,) = without_counts(prepare(data(release)))
    assert problem.endswith("dev-3.npz: 30 frames, but the video has 31")


def test_the_real_annotations_have_the_known_counts(shared_data: Path) -> None:
    report = prepare(DataArguments(corpus="phoenix2014", data_dir=str(shared_data / "phoenix2014")))
    assert report.problems == []
    assert [report.counts[split]["utterances"] for split in ("train", "dev", "test")] == [5672, 540, 629]
    assert [report.counts[split]["tokens"] for split in ("train", "dev", "test")] == [65227, 5540, 6504]
    assert [report.counts[split]["oov_tokens"] for split in ("dev", "test")] == [29, 37]
    assert report.infeasible["train"]["raw"] == {1: 1, 2: 1, 4: 1, 8: 274}  # at 1, 2 and 4 the broken item
    assert report.infeasible["dev"]["clean"] == {1: 0, 2: 0, 4: 0, 8: 7}
    assert report.infeasible["test"]["clean"] == {1: 0, 2: 0, 4: 0, 8: 6}
    # 48 of the train references and the broken item; 46 where every repetition is merged (see below).
    assert report.infeasible["train"]["clean"] == {1: 0, 2: 1, 4: 1, 8: 49}


def test_infeasible_items_counted_from_the_references(shared_data: Path) -> None:
    """The same numbers by another way: from the stm, and with the clean-up that merges every repetition."""
    folder = shared_data / "phoenix2014"
    with (folder / "train.num_frames.csv").open() as file:
        frames = {row["id"]: int(row["num_frames"]) for row in csv.DictReader(file)}

    def short(name: str, glosses: list[str]) -> bool:
        repeats = sum(glosses[place] == glosses[place - 1] for place in range(1, len(glosses)))
        return frames.get(name, 16) // 8 < len(glosses) + repeats

    stm = [line.split() for line in (folder / "phoenix2014-groundtruth-train.stm").read_text().splitlines()]
    assert sum(short(fields[0], fields[5:]) for fields in stm) == 48
    rows = [line.split("|") for line in (folder / "train.corpus.csv").read_text().splitlines()[1:]]
    assert sum(short(row[0], row[3].split()) for row in rows) == 274
    assert sum(short(row[0], normalise(row[3], "phoenix2014_slrt").split()) for row in rows) == 46


def test_speech(shared_data: Path) -> None:
    report = prepare(DataArguments(corpus="fsdd", data_dir=str(shared_data / "fsdd")))
    assert report.problems == [] and report.infeasible["train"] == {}
    files = list((shared_data / "fsdd" / "recordings").glob("*_theo_*.wav"))
    count, hours = report.speakers["fsdd/theo"]
    seconds = sum((path.stat().st_size - 44) / 16000 for path in files)  # 8 kHz, 16 bit
    assert count == len(files) and hours == pytest.approx(seconds / 3600, rel=1e-3)


def test_vocabulary_names_a_policy() -> None:
    splits = {"train": ["loc-B A"], "dev": ["C"], "test": ["D"]}
    corpus = DatasetDict({split: Dataset.from_dict({"text": texts}) for split, texts in splits.items()})

    def tokens(vocabulary: str, normaliser: str) -> list[str]:
        arguments = DataArguments(corpus="phoenix2014", data_dir="x", normaliser=normaliser)
        return build_tokenizer(ModelArguments(vocabulary=vocabulary), arguments, corpus).tokens

    assert tokens("vac1296", "raw") == ["<blank>", "A", "C", "D", "loc-B"]
    assert tokens("raw", "raw") == ["<blank>", "A", "loc-B"]
    with pytest.raises(UserError, match="do not go together"):
        tokens("cleaned", "raw")
    with pytest.raises(UserError, match="no vocabulary vac1295.*did you mean 'vac1296'"):
        tokens("vac1295", "raw")


def test_the_recipe_lists_everything_and_ends_with_2(
    release: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["prepare_data.py", *arguments])
        try:
            runpy.run_path(str(repository / "recipes" / "prepare_data.py"), run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    monkeypatch.chdir(release)
    phoenix = ("--corpus", "phoenix2014", "--corpus_options", '{"features_dir": "npz"}', "--data_dir")
    assert run(*phoenix, ".", "--output", "manifest.csv") == 2
    assert "train: 5 utterances, known are 5,672" in capsys.readouterr().out
    assert run("--manifest", "manifest.csv", "--normaliser", "phoenix2014") == 0
    assert capsys.readouterr().out.rstrip().endswith("problems: none")
    assert run(*phoenix, "nowhere", "--output", "x.csv") == 2
    assert capsys.readouterr().err.startswith("error: nowhere holds no annotations")
    assert run(*phoenix, ".", "--output", "x.json") == 2
    assert "output is 'x.json'; expected a .csv file" in capsys.readouterr().err
