"""Rows on disk: a manifest ten times as long costs no more memory, and what is wrong with it is still found."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, Features, Value

from kd_asr_slr.arguments import DataArguments
from kd_asr_slr.corpora.manifest import load_manifest
from kd_asr_slr.corpora.media_check import check_media
from kd_asr_slr.corpora.row_files import BATCH, RowFile, rows_where, values_of, with_value
from kd_asr_slr.corpora.row_folder import LOCK, discard_rows
from kd_asr_slr.corpora.splits import apply_split
from kd_asr_slr.errors import UserError
from kd_asr_slr.training.data import load_data

HEADER = "id,path,text,speaker,split"


def manifest(folder: Path, rows: int, *more: str, speakers: int = 10) -> Path:
    lines = (f"u{n:06d},{n}.wav,WORD {n % 7},s{n % speakers},{'dev' if n % 10 else 'train'}" for n in range(rows))
    path = folder / f"{rows}.csv"
    path.write_text("\n".join([HEADER, *lines, *more]) + "\n", encoding="utf-8")
    return path


def python_peak(path: Path) -> tuple[int, int]:
    """Bytes of Python objects while a manifest is read, and what stays of them; Arrow's memory beside them."""
    tracemalloc.start()
    corpus = load_manifest(path, "c")
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(corpus["train"]) + len(corpus["dev"]) == int(path.stem)
    return peak, held


def test_ten_times_the_rows_take_no_more_memory(tmp_path: Path) -> None:
    load_manifest(manifest(tmp_path, BATCH), "c")  # what is made once
    few, _ = python_peak(manifest(tmp_path, 2 * BATCH))
    many, held = python_peak(manifest(tmp_path, 20 * BATCH))
    # 8 bytes by which repeated ids are found, sorted: a copy; the numbers of each split's rows, and a mask. As Python
    # objects the rows would be some 500 bytes each.
    assert many - few < 32 * 18 * BATCH, (few, many)
    assert held < 100_000, held
    assert pa.total_allocated_bytes() < 40 * 20 * BATCH


def test_rows_come_from_a_file_through_every_step(tmp_path: Path) -> None:
    path = manifest(tmp_path, 50)
    data = DataArguments(manifest=str(path), corpus_name="c", media_check="none", split_policy="held_out_speaker")
    data.held_out_speakers = ["s3"]
    corpus = load_data(data, splits=["train"])
    assert all(part.cache_files for part in corpus.values())
    assert {name: len(part) for name, part in corpus.items()} == {"train": 5, "dev": 40, "test": 5}
    assert set(corpus["test"]["speaker"]) == {"c/s3"} and set(corpus["test"]["split"]) == {"test"}
    assert corpus["test"]["id"][:] == [f"u{n:06d}" for n in range(3, 50, 10)]


def test_an_id_that_comes_back_after_thousands_of_rows(tmp_path: Path) -> None:
    path = manifest(tmp_path, 2 * BATCH + 5, "u000003,x.wav,ONE,s1,train", "u000003,y.wav,ONE,s1,train")
    with pytest.raises(UserError) as caught:
        load_manifest(path, "c")
    lines = str(caught.value).splitlines()
    assert "2 problems" in lines[0]
    assert f"line {2 * BATCH + 7}: id 'u000003' was already used in line 5" in lines[1]
    assert f"line {2 * BATCH + 8}: id 'u000003' was already used in line 5" in lines[2]


def test_mistakes_in_several_batches_are_told_together(tmp_path: Path) -> None:
    path = manifest(tmp_path, BATCH + 1, "v1,v1.wav,,s1,train", "v2,v2.npy,ONE,s1,train", "v3,v3.wav,ONE")
    with pytest.raises(UserError) as caught:
        load_manifest(path, "c")
    text = str(caught.value)
    assert f"line {BATCH + 3}: 'text' is empty" in text and f"line {BATCH + 5}: 3 fields" in text
    assert f"{BATCH + 2} audio files (first on line 2) and 1 features files (first on line {BATCH + 4})" in text


def test_a_refused_manifest_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    discard_rows()  # so that the folder is made anew, there
    with pytest.raises(UserError):
        load_manifest(manifest(tmp_path, BATCH, "v1,v1.wav,,s1,train"), "c")
    (folder,) = tmp_path.glob("kd_asr_slr_rows_*")
    assert [path.name for path in folder.iterdir()] == [LOCK]
    discard_rows()
    assert not folder.exists()


def test_no_room_for_the_rows_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    discard_rows()
    with pytest.raises(UserError, match="set TMPDIR to a folder that has it"):
        load_manifest(manifest(tmp_path, 3), "c")


def test_the_folder_goes_with_the_process(tmp_path: Path) -> None:
    program = (
        "import sys, tempfile; from kd_asr_slr.corpora.manifest import load_manifest;"
        "rows = load_manifest(sys.argv[1], 'c')['train']; print(len(rows), rows.cache_files[0]['filename'])"
    )
    command = [sys.executable, "-c", program, str(manifest(tmp_path, 20))]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    count, file = done.stdout.split()
    assert count == "2" and Path(file).is_relative_to(tmp_path) and not Path(file).parent.exists()


def test_values_and_rows_of_a_column() -> None:
    rows = Dataset.from_dict({"id": list("abcd"), "speaker": ["x", "y", "x", None], "split": ["dev"] * 4})
    assert list(values_of(rows, "id")) == list("abcd")
    assert rows_where(rows, "speaker", {"x"})["id"][:] == ["a", "c"]
    assert rows_where(rows, "speaker", ["x"], among=False)["id"][:] == ["b", "d"]
    shuffled = rows.select([3, 0, 2])  # rows by a list of numbers
    assert rows_where(shuffled, "speaker", ["x"])["id"][:] == ["a", "c"]
    moved = with_value(shuffled, "split", "test")
    assert moved.column_names == rows.column_names and moved.features == rows.features
    assert moved.to_list() == [{**row, "split": "test"} for row in shuffled.to_list()]
    assert len(with_value(rows.select([]), "split", "test")) == 0


def test_a_row_file_refuses_what_is_no_value_of_its_column() -> None:
    file = RowFile(Features({"id": Value("string"), "frames": Value("int64")}))
    file.write({"id": ["a"], "frames": [None], "not asked for": [1]})
    with pytest.raises(pa.ArrowInvalid):
        file.write({"id": ["b"], "frames": ["many"]})
    assert file.close().to_list() == [{"id": "a", "frames": None}]


def test_paths_that_stand_in_several_splits_are_read_once(tmp_path: Path) -> None:
    corpus = load_manifest(manifest(tmp_path, 5), "c")
    with pytest.raises(UserError, match="checked 5 files, 5 cannot be used"):
        check_media(DatasetDict({**corpus, "again": corpus["dev"]}))
    with pytest.raises(UserError, match="unknown speaker"):
        apply_split(corpus, "held_out_speaker", held_out=["nobody"])


def test_what_a_killed_process_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else: not the folder of one that still runs, and none that has just been made."""
    program = (
        "import sys; from kd_asr_slr.corpora.row_folder import rows_folder; print(rows_folder()); sys.stdin.read()"
    )
    start = [sys.executable, "-c", program]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(start, **pipes, env=os.environ | {"TMPDIR": str(tmp_path)}) for _ in range(2)]
    folders = [Path(process.stdout.readline().strip()) for process in processes]
    foreign = tmp_path / "kd_asr_slr_rows_of_mine"
    foreign.mkdir()
    processes[0].kill()
    processes[0].wait()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    discard_rows()
    load_manifest(manifest(tmp_path, 3), "c")
    assert all(folder.exists() for folder in folders), "made less than a minute ago"
    for folder in (*folders, foreign):
        os.utime(folder, (0, 0))
    discard_rows()
    load_manifest(manifest(tmp_path, 3), "c")
    assert [folder.exists() for folder in (*folders, foreign)] == [False, True, True]
    processes[1].communicate("")
    assert processes[1].returncode == 0 and not folders[1].exists()
    discard_rows()
