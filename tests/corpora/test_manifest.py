"""Manifests: what is read, and one sentence for each mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import Dataset

from kd_asr_slr.corpora.build import CORPORA, load_corpus
from kd_asr_slr.corpora.manifest import load_manifest
from kd_asr_slr.corpora.schema import check_rows
from kd_asr_slr.errors import UserError

HEADER = "id,path,text,speaker,split"


def write(folder: Path, *lines: str, name: str = "manifest.csv", end: str = "\n", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes((end.join(lines) + end).encode(encoding))
    return path


def message(path: Path, name: str = "c") -> str:
    with pytest.raises(UserError) as caught:
        load_manifest(path, name)
    return str(caught.value)


def test_csv_is_read_into_splits(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "id,path,text,speaker,split,severity,frames,x_room",
        'c,sub/c.WAV,"YES, SIR",theo,test,,,lab',
        "a,a.wav,ONE,theo,train,0.5,12,",
        "",
        "b,/abs/b.flac,TWO,other/eva,dev,1,13,hall",
    )
    corpus = load_manifest(path, "fsdd")
    assert list(corpus) == ["train", "dev", "test"]
    assert corpus["train"].column_names == ["id", "split", "speaker", "text", "audio", "severity", "frames", "x_room"]
    assert corpus["train"][0]["audio"] == str(tmp_path / "a.wav")
    assert corpus["train"][0]["severity"] == 0.5 and corpus["train"][0]["frames"] == 12
    assert corpus["test"][0]["text"] == "YES, SIR"
    assert corpus["test"][0]["audio"] == str(tmp_path / "sub" / "c.WAV")
    assert corpus["test"][0]["severity"] is None
    assert corpus["dev"][0]["audio"] == "/abs/b.flac"
    assert [split[0]["speaker"] for split in corpus.values()] == ["fsdd/theo", "other/eva", "fsdd/theo"]
    for split in corpus.values():
        check_rows(split, "the loaded corpus")


def test_byte_order_mark_and_windows_line_ends_are_tolerated(tmp_path: Path) -> None:
    lines = (HEADER, 'a,a.npy,"REGEN Ä",s,train', "b,b.npy,SCHNEE,s,test")
    plain = load_manifest(write(tmp_path, *lines, name="plain.csv"), "c")
    windows = load_manifest(write(tmp_path, *lines, name="windows.csv", end="\r\n", encoding="utf-8-sig"), "c")
    assert {name: split.to_list() for name, split in plain.items()} == {
        name: split.to_list() for name, split in windows.items()
    }
    assert windows["train"][0]["text"] == "REGEN Ä" and windows["train"][0]["features"].endswith("a.npy")


def test_jsonl_equals_csv(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "path": "a.wav", "text": "ONE, TWO", "speaker": 3, "split": "train", "block": 1},
        {"id": "b", "path": "b.wav", "text": "TWO", "speaker": "3", "split": "train"},
    ]
    jsonl = write(tmp_path, *(json.dumps(row) for row in rows), name="m.jsonl")
    csv = write(tmp_path, HEADER + ",block", 'a,a.wav,"ONE, TWO",3,train,1', "b,b.wav,TWO,3,train,")
    assert load_manifest(jsonl, "c")["train"].to_list() == load_manifest(csv, "c")["train"].to_list()


def test_root_replaces_the_manifests_folder(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER, "a,a.wav,ONE,s,train")
    assert load_manifest(path, "c", root=tmp_path / "audio")["train"][0]["audio"] == str(tmp_path / "audio" / "a.wav")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((HEADER, "a,a.wav,ONE,s,train", "b,b.wav,TWO,s,train", "a,c.wav,X,s,dev"), ["line 4", "'a'", "line 2"]),
        ((HEADER, "a,a.wav,,s,train"), ["line 2: 'text' is empty"]),
        ((HEADER, "a,a.wav, ,s,train"), ["line 2: 'text' is empty"]),
        ((HEADER, "a,a.wav,ONE,,train"), ["line 2: 'speaker' is empty"]),
        ((HEADER, "a,,ONE,s,train"), ["line 2: 'path' is empty"]),
        ((HEADER, "a,a.mp4,ONE,s,train"), ["line 2", "a.mp4", ".wav .flac .ogg .npz .npy"]),
        ((HEADER, "a,a.wav,ONE,s,train", "b,b.npy,TWO,s,train"), ["mixed", "line 2", "line 3"]),
        ((HEADER, " a,a.wav,ONE,s,train"), ["line 2: 'id' ' a' has blanks around it"]),
        ((HEADER, "a\x07,a.wav,ONE,s,train"), ["line 2", "control character"]),
        ((HEADER, "a,a.wav,ONE,s,train set"), ["line 2", "'train set'"]),
        ((HEADER, "a,a.wav,YES, SIR,s,train"), ["line 2: 6 fields, but the header has 5", "quotes"]),
        ((HEADER, 'a,a.wav,"YES,s,train', "b,b.wav,NO,s,train"), ["line 2", "quotes"]),
        (("id,path,text,speaker", "a,a.wav,ONE,s"), ["column 'split' is missing", "train, dev or test"]),
        (("id,path,text,speeker,split", "a,a.wav,ONE,s,train"), ["'speaker' is missing", "did you mean 'speeker'"]),
        ((HEADER + ",severty", "a,a.wav,ONE,s,train,1"), ["unknown column 'severty'", "did you mean 'severity'"]),
        ((HEADER + ",severity", "a,a.wav,ONE,s,train,high"), ["line 2: 'severity' is 'high', not a number"]),
        ((HEADER + ",severity", "a,a.wav,ONE,s,train,nan"), ["line 2: 'severity' is 'nan', not a number"]),
        ((HEADER + ",text", "a,a.wav,ONE,s,train,TWO"), ["'text'", "more than once"]),
        (("id;path;text;speaker;split", "a;a.wav;ONE;s;train"), ["semicolons", "commas"]),
        ((HEADER,), ["no row"]),
        (("",), ["is empty"]),
    ],
)
def test_each_mistake_has_its_sentence(tmp_path: Path, lines: tuple[str, ...], expected: list[str]) -> None:
    path = write(tmp_path, *lines)
    text = message(path)
    assert str(path) in text
    for part in expected:
        assert part in text


def test_all_mistakes_at_once_and_many_are_counted(tmp_path: Path) -> None:
    text = message(write(tmp_path, HEADER, "a,a.wav,,s,train", "b,b.mp4,ONE,s,train", "a,c.wav,ONE,,train"))
    assert "4 problems" in text
    many = message(write(tmp_path, HEADER, *(f"u{n},u{n}.wav,,s,train" for n in range(50))))
    assert "and 30 more (50 in all)" in many and "line 21:" in many and "line 22:" not in many


def test_bad_json_names_its_lines(tmp_path: Path) -> None:
    good = json.dumps({"id": "a", "path": "a.wav", "text": "x", "speaker": "s", "split": "train"})
    text = message(write(tmp_path, good, "{'id': 1}", "", "[1]", name="m.jsonl"))
    assert "line 2: not valid JSON" in text and "line 4: expected an object" in text


def test_json_values_of_the_wrong_type(tmp_path: Path) -> None:
    row = {"id": "a", "path": ["a.wav"], "text": None, "speaker": True, "split": "train", "block": {"a": 1}}
    text = message(write(tmp_path, json.dumps(row), name="m.jsonl"))
    for part in ("'text' is empty", "'speaker' is True", "'path'", "'block' is"):
        assert part in text


@pytest.mark.parametrize(("name", "part"), [("none.csv", "does not exist"), ("m.txt", "'.txt'")])
def test_a_manifest_that_is_none(tmp_path: Path, name: str, part: str) -> None:
    assert part in message(tmp_path / name)


def test_a_manifest_that_is_not_utf8(tmp_path: Path) -> None:
    assert "not UTF-8" in message(write(tmp_path, HEADER, "a,a.wav,SCHÖN,s,train", encoding="latin-1"))


@pytest.mark.parametrize("name", ["", "a/b", " a", "a\n"])
def test_corpus_names_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="corpus name"):
        load_manifest(write(tmp_path, HEADER, "a,a.wav,ONE,s,train"), name)


def test_check_rows_names_rows_and_columns() -> None:
    row = {"id": "a", "split": "train", "speaker": "c/s", "text": "ONE", "audio": "a.wav"}
    check_rows([row], "demo")
    with pytest.raises(UserError, match=r"row 2: id 'a' was already used in row 1"):
        check_rows([row, row], "demo")
    with pytest.raises(UserError, match="found audio and features"):
        check_rows([{**row, "features": "a.npy"}], "demo")
    with pytest.raises(UserError, match="found neither"):
        check_rows([{name: value for name, value in row.items() if name != "audio"}], "demo")
    with pytest.raises(UserError, match="there is no row"):
        check_rows([], "demo")
    with pytest.raises(UserError, match="did you mean 'speaker'"):
        check_rows(Dataset.from_list([{**row, "speakr": "x"}]), "demo")


def test_load_corpus_checks_its_settings(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER, "a,a.wav,ONE,s,train")
    assert load_corpus("manifest", manifest=path, name="c")["train"].num_rows == 1
    assert set(CORPORA) >= {"manifest", "synthetic_speech", "synthetic_sign"}
    with pytest.raises(UserError, match="did you mean 'synthetic_sign'"):
        load_corpus("syntetic_sign")
    with pytest.raises(UserError, match="has no name"):
        load_corpus("manifest", manifest=path)
    with pytest.raises(UserError, match="no manifest file"):
        load_corpus("manifest", name="c")
    with pytest.raises(UserError, match="takes no options"):
        load_corpus("manifest", manifest=path, name="c", options={"seed": 1})
    with pytest.raises(UserError, match="takes no manifest"):
        load_corpus("synthetic_speech", manifest=path, cache_dir=tmp_path)
