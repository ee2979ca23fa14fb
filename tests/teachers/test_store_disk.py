"""What the disk refuses is one sentence, leaves nothing half-written, and the same command goes on from there."""

from __future__ import annotations

import errno
import os
import resource

import pytest
from fake_teachers import COUNT, SHARD, batch_of, ids_of, loader, manifest_for, mean_pool

from kd_asr_slr.errors import UserError
from kd_asr_slr.files import write_text
from kd_asr_slr.teachers.cache import write_cache
from kd_asr_slr.teachers.cached import CachedTeachers
from kd_asr_slr.teachers.store import StoreReader, StoreWriter

FILES = (
    "manifest.json",
    "index.arrow",
    "complete.json",
    "shard-00002-of-00004.safetensors",
    "shard-00002-of-00004.json",
)
STEPS = ("open", "fsync", "replace")


def write(folder):
    """Make what is missing; the number of utterances that were made."""
    writer = StoreWriter(folder, manifest_for(mean_pool()), ids_of(COUNT))
    made = write_cache(mean_pool(), loader(), writer)
    writer.finish()
    return made


def read(folder):
    reader = StoreReader(folder)
    reader.require_whole()
    CachedTeachers(reader).signal(batch_of(range(COUNT)))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class FullDisk:
    """A disk that refuses one step of the writing of one file."""

    def __init__(self, patch, file, step, number):
        self.file, self.step, self.number = file, step, number
        self.descriptors = set()
        self.open, self.fsync, self.replace = open, os.fsync, os.replace
        patch.setattr("builtins.open", self.opened)
        patch.setattr("os.fsync", self.synced)
        patch.setattr("os.replace", self.replaced)

    def refuse(self, step):
        if step == self.step:
            raise OSError(self.number, os.strerror(self.number))

    def opened(self, path, *arguments, **options):
        ours = str(path).endswith(".tmp") and f".{self.file}." in str(path)
        if ours:
            self.refuse("open")
        stream = self.open(path, *arguments, **options)
        if not ours:
            return stream
        self.descriptors.add(stream.fileno())
        return Refusing(stream, self) if self.step == "write" else stream

    def synced(self, descriptor):
        if descriptor in self.descriptors:
            self.refuse("fsync")
        self.fsync(descriptor)

    def replaced(self, source, target):
        if target.name == self.file:
            self.refuse("replace")
        self.replace(source, target)


class Refusing:
    """A stream that takes the first half of what it is given."""

    def __init__(self, stream, disk):
        self.stream, self.disk = stream, disk

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stream.close()

    def write(self, content):
        self.stream.write(content[: len(content) // 2])
        self.disk.refuse("write")


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """The files of a store that was written at once."""
    folder = tmp_path_factory.mktemp("once")
    write(folder)
    return contents(folder)


@pytest.mark.parametrize(
    ("file", "step"), [*((file, "write") for file in FILES), *((FILES[3], step) for step in STEPS)]
)
def test_a_disk_that_fills_up_is_one_sentence_and_freeing_it_goes_on(tmp_path, once, file, step):
    folder = tmp_path / "store"
    with pytest.MonkeyPatch.context() as patch:
        FullDisk(patch, file, step, errno.ENOSPC)
        with pytest.raises(UserError, match=f"{file} cannot be written .No space left.*room on its disk.*free some"):
            write(folder)
    if file == "manifest.json":
        assert not folder.exists()
    else:
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
        assert not (folder / file).exists() and not (folder / "complete.json").exists()
        with pytest.raises(UserError):
            read(folder)
    there = [int(path.name[6:11]) for path in folder.glob("shard-*.json")]
    assert write(folder) == sum(number // SHARD not in there for number in range(COUNT))
    assert contents(folder) == once


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES])
def test_other_refusals_are_sentences_with_their_own_remedy(tmp_path, number):
    with pytest.MonkeyPatch.context() as patch:
        FullDisk(patch, "note.txt", "open", number)
        with pytest.raises(UserError, match=rf"note.txt cannot be written .{os.strerror(number)}.; expected .* fix it"):
            write_text(tmp_path / "note.txt", "text")
    assert not contents(tmp_path)


def test_a_limit_on_the_size_of_files_is_named(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(UserError, match="ulimit -f unlimited"):
            write(tmp_path / "store")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("file", FILES)
def test_a_folder_in_the_place_of_a_file_is_left_alone(tmp_path, file):
    write(tmp_path)
    (tmp_path / file).unlink()
    (tmp_path / file).mkdir()
    (tmp_path / file / "mine").write_text("do not touch")
    for use in (read, write):
        with pytest.raises(UserError, match=r"move the folder away|choose another|missing or cut short"):
            use(tmp_path)
    assert (tmp_path / file / "mine").read_text() == "do not touch"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_may_not_be_read_is_no_damage(tmp_path, file, monkeypatch):
    """As root every file can be read, so that the refusal is made here."""
    write(tmp_path)

    def refuse(descriptor, *arguments, **options):
        path = str(descriptor)
        if path.endswith(f"/{file}"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(descriptor, *arguments, **options)

    real = open
    monkeypatch.setattr("io.open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    for use in (read, write):
        with pytest.raises(UserError, match=f"{file} cannot be read .Permission denied"):
            use(tmp_path)


def test_a_finished_store_is_not_touched_again(tmp_path):
    write(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.iterdir()]}
    assert write(tmp_path) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_finished_store_that_may_not_be_written_is_no_obstacle(tmp_path, monkeypatch):
    """One that a group shares, with what a killed process of its owner left."""
    write(tmp_path)
    (tmp_path / ".index.lock").touch()

    def refuse(path, *arguments, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr("kd_asr_slr.teachers.claims.os.open", refuse)
    assert write(tmp_path) == 0
    read(tmp_path)
