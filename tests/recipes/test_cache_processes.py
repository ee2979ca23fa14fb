"""The store of soft targets, written by programs that are killed, or by two at once: the same bytes as by one."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from recipe_runs import distillation, done, finished, read_rows, run, start, write_rows

COPIES = 16  # of every training utterance: enough shards to be killed between two of them


@pytest.fixture(scope="module")
def options(speech: Path, speech_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A distillation whose training split has many utterances (of few recordings), a shard each."""
    rows = read_rows(speech)
    many = [row | {"id": f"{row['id']}-{copy}"} for copy in range(COPIES) for row in rows if row["split"] == "train"]
    manifest = write_rows(
        tmp_path_factory.mktemp("many") / "many.csv", [row for row in rows if row["split"] != "train"] + many
    )
    return distillation(manifest, speech_run, "unused") | {"cache_shard_size": 1, "data_dir": speech.parent}


@pytest.fixture(scope="module")
def reference(options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The store as one uninterrupted process writes it."""
    folder = tmp_path_factory.mktemp("reference") / "store"
    done(run("cache_teachers", teacher_cache=folder, **options))
    return content(folder)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.slow
def test_killed_and_taken_up_again(options: dict[str, Any], reference: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "store"
    process = start("cache_teachers", teacher_cache=folder, **options)
    deadline = time.monotonic() + 120
    while len(list(folder.glob("shard-*.json"))) < 20 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    killed = finished(process)
    assert killed.code == -9, f"it ended before it could be killed: {killed}"
    there = len(list(folder.glob("shard-*.json")))
    assert 20 <= there < len(reference) // 2
    assert not (folder / "complete.json").exists()

    result = done(run("cache_teachers", teacher_cache=folder, **options))
    made = int(re.search(r"(\d+) utterances made now", result.out)[1])
    assert made == COPIES * 24 - there
    assert content(folder) == reference


@pytest.mark.slow
def test_two_processes_write_what_one_writes(
    options: dict[str, Any], reference: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "store"
    result = finished(start("cache_teachers", teacher_cache=folder, processes=2, **options))
    assert result.code == 0, result.err
    made = [int(number) for number in re.findall(r"(\d+) utterances made now \(process [01] of 2\)", result.out)]
    assert made == [COPIES * 12, COPIES * 12]
    assert content(folder) == reference


@pytest.mark.slow
def test_two_commands_on_one_store_of_which_one_is_killed(
    options: dict[str, Any], reference: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "store"
    victim, other = (start("cache_teachers", teacher_cache=folder, **options) for _ in range(2))
    deadline = time.monotonic() + 120
    while len(list(folder.glob("shard-*.json"))) < 20 and victim.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    victim.kill()
    assert finished(victim).code == -9
    result = finished(other)
    assert result.code == 0, result.err
    assert content(folder) == reference
