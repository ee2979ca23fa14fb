"""A flipped byte in every part of a store: never read as a target, and only what is damaged is made again."""

from __future__ import annotations

import pytest
import torch
from fake_teachers import COUNT, SHARD, batch_of, ids_of, loader, manifest_for, mean_pool

from kd_asr_slr.errors import UserError
from kd_asr_slr.teachers.cache import write_cache
from kd_asr_slr.teachers.cached import CachedTeachers
from kd_asr_slr.teachers.formats import FORMATS, format_of
from kd_asr_slr.teachers.store import StoreReader, StoreWriter


def write(folder, name="dense", **options):
    """Make what is missing; the number of utterances that were made."""
    options |= {"target_format": format_of({"name": name}).describe()}
    writer = StoreWriter(folder, manifest_for(mean_pool(), **options), ids_of(COUNT))
    made = write_cache(mean_pool(), loader(), writer)
    writer.finish()
    return made


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def said(folder):
    """Every number that a student would be taught."""
    signal = CachedTeachers(folder).signal(batch_of(range(COUNT)))
    return torch.cat([signal.log_probs.flatten(), signal.weight, signal.lengths.float()])


@pytest.mark.parametrize("name", FORMATS)
def test_a_flipped_byte_anywhere_is_never_taught_and_only_its_shard_is_made_again(tmp_path, name):
    write(tmp_path, name)
    whole, taught = contents(tmp_path), said(tmp_path)
    for file, content in whole.items():
        for position in {0, 7, len(content) // 3, len(content) // 2, len(content) - 2}:
            damaged = bytearray(content)
            damaged[position] ^= 4
            (tmp_path / file).write_bytes(damaged)
            try:
                assert torch.equal(said(tmp_path), taught), f"{file}, byte {position}"
                assert StoreReader(tmp_path).verify(), f"{file}, byte {position}"
            except UserError as error:
                assert "cache_teachers" in str(error)
            assert write(tmp_path, name) == (SHARD - ("-00003-" in file) if file.startswith("shard") else 0)
            assert contents(tmp_path) == whole


@pytest.mark.parametrize("name", FORMATS)
def test_every_flipped_byte_of_a_shard_is_told_when_it_is_read(tmp_path, name):
    write(tmp_path, name)
    path = tmp_path / "shard-00001-of-00004.safetensors"
    whole, reader = path.read_bytes(), StoreReader(tmp_path)
    taught = [reader.read(one).tensors["log_probs"] for one in ids_of(COUNT)[SHARD : 2 * SHARD]]
    for position in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        try:  # a byte of another utterance, or of the padding, harms nobody
            found = [StoreReader(tmp_path).read(one).tensors["log_probs"] for one in ids_of(COUNT)[SHARD : 2 * SHARD]]
        except UserError as error:
            assert "shard 1" in str(error) and "cache_teachers" in str(error)
        else:
            dense = [[part if torch.is_tensor(part) else part.dense() for part in parts] for parts in (found, taught)]
            assert all(map(torch.equal, *dense)), position


def test_the_manifest_of_an_unfinished_store_is_written_again(tmp_path):
    write(tmp_path)
    whole = contents(tmp_path)
    (tmp_path / "complete.json").unlink()
    (tmp_path / "manifest.json").write_bytes(whole["manifest.json"].replace(b"made-up", b"made-uP"))
    with pytest.raises(UserError, match="manifest.json is damaged"):
        StoreReader(tmp_path)
    assert write(tmp_path) == 0
    assert contents(tmp_path) == whole


def test_a_damaged_manifest_does_not_make_another_store_ours(tmp_path):
    write(tmp_path, dtype="float32")
    (tmp_path / "manifest.json").write_bytes(b"{")
    before = contents(tmp_path)
    with pytest.raises(UserError, match="damaged, and the shards beside it were made for something else"):
        write(tmp_path)
    assert contents(tmp_path) == before


def test_shards_under_another_manifest_are_not_taken_for_its_own(tmp_path):
    write(tmp_path / "half")
    write(tmp_path / "full", dtype="float32")
    for path in (tmp_path / "half").glob("shard-00002*"):
        (tmp_path / "full" / path.name).write_bytes(path.read_bytes())
    assert write(tmp_path / "full", dtype="float32") == SHARD


def test_a_store_of_an_older_layout_is_named_as_such(tmp_path):
    write(tmp_path)
    text = (tmp_path / "manifest.json").read_text()
    old = "\n".join(line for line in text.splitlines() if "sha256" not in line).replace('"schema": 2', '"schema": 1')
    (tmp_path / "manifest.json").write_text(old)
    with pytest.raises(UserError, match="layout of version 1; expected version 2"):
        StoreReader(tmp_path)


def test_a_lost_manifest_is_written_again_and_nothing_else(tmp_path):
    write(tmp_path)
    whole = contents(tmp_path)
    (tmp_path / "manifest.json").unlink()
    assert write(tmp_path) == 0
    assert contents(tmp_path) == whole
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "shard-00001-of-00004.json").write_text("{")
    assert write(tmp_path) == SHARD
    assert contents(tmp_path) == whole
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(UserError, match="choose another --teacher_cache"):
        write(tmp_path, "quantised")


def test_a_file_in_the_place_of_the_store_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(UserError, match="choose another --teacher_cache"):
            write(folder)


def test_any_other_content_is_damage_and_only_what_it_stood_for_is_made_again(tmp_path):
    """Cut by a byte, emptied, zeroed, another file of the store: none of it is read, none ends in a traceback."""
    write(tmp_path)
    whole = contents(tmp_path)
    for file, content in whole.items():
        others = {b"", content[:-1], content[:9], content + b"\n", bytes(len(content)), b"[]", b"null", b"[" * 100_000}
        for damaged in others | {whole["complete.json"], whole["shard-00003-of-00004.json"]} - {content}:
            (tmp_path / file).write_bytes(damaged)
            with pytest.raises(UserError, match="cache_teachers"):
                StoreReader(tmp_path).require_whole()
            assert write(tmp_path) == (SHARD - ("-00003-" in file) if file.startswith("shard") else 0)
            assert contents(tmp_path) == whole
