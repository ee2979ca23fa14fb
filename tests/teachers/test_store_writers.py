"""Several commands that write one store at the same time: nobody's work is deleted, and the bytes are those of one."""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import random
import signal
import sys
import time

import pytest
from fake_teachers import COUNT, SHARD, ids_of, loader, manifest_for, mean_pool

from kd_asr_slr.errors import UserError
from kd_asr_slr.teachers import claims
from kd_asr_slr.teachers.cache import write_cache
from kd_asr_slr.teachers.store import StoreWriter

PROCESSES = multiprocessing.get_context("fork")


def writer_of(folder, **options):
    return StoreWriter(folder, manifest_for(mean_pool(), **options), ids_of(COUNT))


def write(folder, pause=0.0, rank=0, world_size=1):
    """Make what is missing, slowly; the number of utterances that were made."""
    writer = writer_of(folder)
    made = write_cache(mean_pool(), loader(2, lambda position: time.sleep(pause)), writer, rank, world_size)
    if world_size == 1:
        writer.finish()
    return made


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """The files of a store that was written by one process at once."""
    folder = tmp_path_factory.mktemp("once")
    write(folder)
    return contents(folder)


def started(target, *arguments):
    process = PROCESSES.Process(target=target, args=arguments)
    process.start()
    return process


def report(queue, both, *arguments):
    both.wait(60)
    queue.put(write(*arguments))


def test_two_commands_share_the_shards(tmp_path, once):
    queue, both = PROCESSES.Queue(), PROCESSES.Barrier(2)
    processes = [started(report, queue, both, tmp_path, 0.1) for _ in range(2)]
    made = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert sum(made) == COUNT and min(made) >= SHARD - 1  # each shard was made once, and neither made them all
    assert contents(tmp_path) == once


def test_a_command_beside_a_run_of_two_processes(tmp_path, once):
    processes = [started(write, tmp_path, 0.02, rank, 2) for rank in range(2)] + [started(write, tmp_path, 0.02)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert contents(tmp_path) == once


def test_one_of_two_is_killed_at_any_moment_and_the_other_finishes_its_work(tmp_path, once):
    for trial in range(8):
        folder = tmp_path / str(trial)
        victim, other = (started(write, folder, 0.01) for _ in range(2))
        time.sleep(random.Random(trial).uniform(0, 0.15))
        os.kill(victim.pid, signal.SIGKILL)
        victim.join(60)
        other.join(60)
        assert other.exitcode == 0
        assert contents(folder) == once


def test_what_a_living_process_writes_is_not_deleted(tmp_path, once):
    path = tmp_path / "shard-00001-of-00004.safetensors"
    growing = tmp_path / f".{path.name}.{claims.owner()}.1{claims.TEMPORARY}"  # process 1 lives for ever

    def hold(ready, done):
        with writer_of(tmp_path).claim(1):
            growing.write_bytes(b"half")
            ready.set()
            done.wait(60)

    ready, done = PROCESSES.Event(), PROCESSES.Event()
    process = started(hold, ready, done)
    assert ready.wait(60)
    writer = writer_of(tmp_path)
    with writer.claim(1) as ours:
        assert not ours
    for shard in (0, 2, 3):
        with writer.claim(shard) as ours:
            assert ours
    claims.remove_abandoned(tmp_path)
    assert growing.exists()
    done.set()
    process.join(60)
    write(tmp_path)
    assert contents(tmp_path) == once


def test_what_killed_processes_left_is_removed_and_what_other_machines_write_is_not(tmp_path, once):
    write(tmp_path)
    path = tmp_path / ".shard-00001-of-00004.json"
    left = [tmp_path / f"{path.name}.{name}.7.tmp" for name in (claims.owner(), "old.elsewhere", "elsewhere")]
    left += [tmp_path / ".index.lock", tmp_path / f".index.arrow.{claims.owner()}.7.tmp", tmp_path / ".mine.tmp"]
    for file in left:
        file.write_bytes(b"half")
    os.utime(left[1], (0, time.time() - 2 * claims.ABANDONED))
    assert write(tmp_path) == 0
    assert contents(tmp_path) == once | {file.name: b"half" for file in (left[2], left[5])}


@pytest.mark.parametrize("number", sorted(claims.NO_LOCKS))
def test_a_disk_without_locks_is_written_all_the_same(tmp_path, once, monkeypatch, number):
    def refuse(descriptor, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(claims.fcntl, "flock", refuse)
    left = tmp_path / f".shard-00001-of-00004.json.{claims.owner()}.7.tmp"
    left.write_bytes(b"half")  # perhaps of a living process: nobody can tell
    assert write(tmp_path) == COUNT
    assert contents(tmp_path) == once | {left.name: b"half"}


def test_a_disk_that_shows_an_open_file_as_another_one_is_written_all_the_same(tmp_path, once, monkeypatch):
    monkeypatch.setattr(claims.os.path, "samestat", lambda one, other: False)
    assert write(tmp_path) == COUNT
    assert contents(tmp_path) == once


def test_locks_that_the_disk_refuses_otherwise_are_one_sentence(tmp_path, monkeypatch):
    def refuse(path, *arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(claims.os, "open", refuse)
    with pytest.raises(UserError, match="shard-00000-of-00004.lock cannot be written .No space left"):
        write(tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_two_commands_that_make_different_stores_do_not_mix_them(tmp_path):
    first, second = writer_of(tmp_path), writer_of(tmp_path, dtype="float32")
    write_cache(mean_pool(), loader(), first)
    before = contents(tmp_path)
    with pytest.raises(UserError, match="made for something else"):
        write_cache(mean_pool(), loader(), second)
    assert contents(tmp_path) == before


STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "fcntl.flock"}  # of the interpreter's audit events


def write_until(folder, step):
    """Write a store, and be killed before the given step of those that the system is asked for."""
    left = itertools.count(step, -1)

    def watch(event, details):
        if event in STEPS and (event == "fcntl.flock" or str(folder) in str(details[0])) and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    write(folder)


def test_killed_before_any_step_and_taken_up_again(tmp_path, once):
    """Every 7th step in turn, so that all kinds of them come up; the last one is after the end."""
    for step in itertools.count(0, 7):
        folder = tmp_path / str(step)
        process = started(write_until, folder, step)
        process.join(60)
        write(folder)
        assert contents(folder) == once, step
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert step > 80
