"""The store: the same bytes however it was made, damage found, other data refused, cached equals live."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal as signals
import time
from pathlib import Path

import pytest
import torch
from fake_teachers import COUNT, SHARD, batch_of, ids_of, loader, manifest_for, mean_pool, routed_pool, teacher

from kd_asr_slr.errors import UserError
from kd_asr_slr.teachers.aggregation import AggregationSettings
from kd_asr_slr.teachers.cache import write_cache
from kd_asr_slr.teachers.cached import CachedTeachers
from kd_asr_slr.teachers.index import Index, ShardRecord, index_bytes
from kd_asr_slr.teachers.pool import TeacherPool
from kd_asr_slr.teachers.store import StoredTarget, StoreReader, StoreWriter


def write(folder, pool=None, factory=None, **options):
    pool = pool or mean_pool()
    writer = StoreWriter(folder, manifest_for(pool, **options), ids_of(COUNT))
    write_cache(pool, factory or loader(), writer)
    writer.finish()
    return StoreReader(folder)


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def divergence(target, lengths):
    """A KL of a fixed student against a signal, one value an utterance, as a loss would form it."""
    student = torch.randn(target.shape, generator=torch.Generator().manual_seed(5)).requires_grad_()
    frames = torch.nn.functional.kl_div(torch.log_softmax(student / 2, -1), target, reduction="none", log_target=True)
    mask = torch.arange(target.shape[1])[None] < lengths[:, None]
    loss = (frames.sum(-1) * mask).sum(-1) / lengths
    return loss.detach(), torch.autograd.grad(loss.sum(), student)[0]


POOLS = {
    "mean": mean_pool,
    "mean_with_decoders": lambda: mean_pool(decoder=True),
    "routed": routed_pool,
    "routed_with_decoders": lambda: routed_pool(decoder=True),
    "gate": lambda: TeacherPool([teacher(0), teacher(1)], AggregationSettings("gate")),
    "prob_mean": lambda: TeacherPool([teacher(0), teacher(1)], AggregationSettings("prob_mean")),
}


@pytest.mark.parametrize("name", POOLS)
def test_cached_equals_live_bit_for_bit_in_float32(tmp_path, name):
    pool = POOLS[name]()
    cached = CachedTeachers(write(tmp_path, pool, dtype="float32"))
    assert cached.provides == pool.provides - {"hidden_states"}
    assert (cached.vocabulary, cached.tokens, cached.blank_id) == (pool.vocabulary, pool.tokens, pool.blank_id)
    assert cached.frame_seconds == pool.frame_seconds
    for positions in ([0, 1, 2], [6, 7, 8], [7, 2, 10, 0], [5]):  # the last two are no batches of the cache
        if name == "prob_mean" and positions[0] not in (0, 6):
            continue  # logaddexp rounds by the place in memory; see the next test
        batch = batch_of(positions)
        one, other = pool.signal(batch), cached.signal(batch)
        for field in ("log_probs", "lengths", "weight", "decoder_log_probs", "decoder_lengths"):
            live, read = getattr(one, field), getattr(other, field)
            assert (live is None and read is None) or torch.equal(live, read), field
        assert (one.vocabulary, one.frame_seconds) == (other.vocabulary, other.frame_seconds)
        for live, read in zip(
            divergence(one.log_probs, one.lengths), divergence(other.log_probs, other.lengths), strict=True
        ):
            assert torch.equal(live, read)


def test_cached_probability_mean_of_other_batches_differs_by_rounding_only(tmp_path):
    pool = POOLS["prob_mean"]()
    cached = CachedTeachers(write(tmp_path, pool, dtype="float32"))
    batch = batch_of([7, 2, 10, 0])
    torch.testing.assert_close(pool.signal(batch).log_probs, cached.signal(batch).log_probs, atol=1e-6, rtol=0)


def test_cached_is_near_live_in_float16_and_sums_to_one(tmp_path):
    pool = mean_pool(decoder=True)
    cached = CachedTeachers(write(tmp_path, pool))
    batch = batch_of(range(COUNT))
    one, other = pool.signal(batch), cached.signal(batch)
    assert other.log_probs.dtype == torch.float32
    torch.testing.assert_close(other.log_probs.exp().sum(-1), torch.ones(COUNT, 8), atol=1e-6, rtol=0)
    torch.testing.assert_close(one.log_probs, other.log_probs, atol=4e-3, rtol=1e-3)
    torch.testing.assert_close(one.decoder_log_probs, other.decoder_log_probs, atol=4e-3, rtol=1e-3)
    for live, read in zip(
        divergence(one.log_probs, one.lengths), divergence(other.log_probs, other.lengths), strict=True
    ):
        torch.testing.assert_close(live, read, atol=2e-3, rtol=2e-3)


def test_very_small_probabilities_stay_finite_in_float16(tmp_path):
    pool = mean_pool()
    for one in pool.teachers:
        one.model.matrix.mul_(1e6)
    signal = CachedTeachers(write(tmp_path, pool)).signal(batch_of(range(4)))
    assert torch.isfinite(signal.log_probs).all()


def test_hidden_states_of_the_routed_teacher_are_cached(tmp_path):
    pool = routed_pool("skip")
    cached = CachedTeachers(write(tmp_path, pool, dtype="float32", hidden_layers=[1]))
    assert cached.provides == {"log_probs", "dense_log_probs", "hidden_states"}
    batch = batch_of([3, 4, 8])
    one, other = (source.signal(batch, hidden_layers=(1,)) for source in (pool, cached))
    assert torch.equal(one.hidden_states[1], other.hidden_states[1])
    with pytest.raises(UserError, match=r"hidden layers \[0\] are not in"):
        cached.signal(batch, hidden_layers=(0,))


def test_utterances_without_a_teacher_are_cached_as_such(tmp_path):
    teachers = [teacher(0, "zero", {"s0"})]
    pool = TeacherPool(teachers, AggregationSettings("route", "skip"))
    cached = CachedTeachers(write(tmp_path, pool, dtype="float32", hidden_layers=[1]))
    for positions in ([0, 1, 2], [1, 3]):  # s1 has no teacher; the second batch has nobody
        one, other = (source.signal(batch_of(positions), hidden_layers=(1,)) for source in (pool, cached))
        assert torch.equal(one.log_probs, other.log_probs)
        assert torch.equal(one.weight, other.weight)
        assert torch.equal(one.lengths, other.lengths)
        assert torch.equal(one.hidden_states[1], other.hidden_states[1])


class Stopped(Exception):
    pass


def test_stopped_in_the_middle_and_resumed_gives_the_same_bytes(tmp_path):
    write(tmp_path / "once")

    def stop(position):
        if position == 6:  # within the third shard of four
            raise Stopped

    with pytest.raises(Stopped):
        write(tmp_path / "twice", factory=loader(batch_size=2, after_batch=stop))
    assert (tmp_path / "twice" / "shard-00001-of-00004.json").exists()
    with pytest.raises(UserError, match="is not finished.*cache_teachers"):
        StoreReader(tmp_path / "twice")
    made = []
    pool = mean_pool()
    writer = StoreWriter(tmp_path / "twice", manifest_for(pool), ids_of(COUNT))
    assert writer.missing_shards() == [2, 3]
    assert write_cache(pool, loader(), writer, progress=made.append) == sum(made) == 5
    writer.finish()
    assert contents(tmp_path / "once") == contents(tmp_path / "twice")


def write_and_die(folder, victim):
    """Write a store and get killed after the temporary file of one file was written and before it is in place."""
    replace_file = os.replace

    def replace_or_die(source, target):
        if target.name == victim:
            os.kill(os.getpid(), signals.SIGKILL)
        replace_file(source, target)

    os.replace = replace_or_die
    write(folder)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_killed_while_writing_and_resumed_gives_the_same_bytes(tmp_path, suffix):
    folder = tmp_path / "killed"
    process = multiprocessing.get_context("fork").Process(
        target=write_and_die, args=(folder, f"shard-00002-of-00004{suffix}")
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signals.SIGKILL
    left = sorted(contents(folder))
    assert any(name.endswith(".tmp") for name in left) and "complete.json" not in left
    assert ("shard-00002-of-00004.safetensors" in left) == (suffix == ".json")
    write(folder)
    write(tmp_path / "once")
    assert contents(folder) == contents(tmp_path / "once")


def test_two_processes_write_what_one_writes(tmp_path):
    write(tmp_path / "one")
    pool = mean_pool()
    writers = [StoreWriter(tmp_path / "two", manifest_for(pool), ids_of(COUNT)) for _ in range(2)]
    assert [writer.missing_shards(rank, 2) for rank, writer in enumerate(writers)] == [[0, 2], [1, 3]]
    assert write_cache(pool, loader(2), writers[1], rank=1, world_size=2) == 5
    with pytest.raises(UserError, match="lacks the shards 0, 2"):
        writers[0].finish()
    assert write_cache(pool, loader(2), writers[0], rank=0, world_size=2) == 6
    writers[0].finish()
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def write_share_and_die(folder, rank):
    """One of two processes, killed when its second shard is about to be put in its place."""
    replace_file = os.replace

    def replace_or_die(source, target):
        if target.name == f"shard-{rank + 2:05d}-of-00004.safetensors":
            os.kill(os.getpid(), signals.SIGKILL)
        replace_file(source, target)

    os.replace = replace_or_die
    write_cache(mean_pool(), loader(), StoreWriter(folder, manifest_for(mean_pool()), ids_of(COUNT)), rank, 2)


def test_two_processes_killed_and_resumed_write_what_one_writes(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_share_and_die, args=(tmp_path / "two", rank)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [-signals.SIGKILL] * 2
    assert sum(name.endswith(".tmp") for name in contents(tmp_path / "two")) == 2
    assert StoreWriter(tmp_path / "two", manifest_for(mean_pool()), ids_of(COUNT)).missing_shards() == [2, 3]
    write(tmp_path / "two")
    write(tmp_path / "once")
    assert contents(tmp_path / "two") == contents(tmp_path / "once")


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["shard-00001-of-00004.safetensors", "shard-00001-of-00004.json"])
def test_a_flipped_byte_is_found_and_only_that_shard_is_made_again(tmp_path, name):
    reader = write(tmp_path)
    before = contents(tmp_path)
    assert reader.verify() == []
    size = len(before[name])
    for position in (0, size // 3, size // 2, size - 2):
        flip(tmp_path / name, position)
        assert StoreReader(tmp_path).verify() == [1]
        pool = mean_pool()
        writer = StoreWriter(tmp_path, manifest_for(pool), ids_of(COUNT))
        assert writer.missing_shards() == [1]
        assert write_cache(pool, loader(), writer) == SHARD
        writer.finish()
        assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["manifest.json", "index.arrow", "complete.json"])
def test_a_flipped_byte_outside_of_the_shards_is_found_at_opening(tmp_path, name):
    write(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 40)):
        flip(tmp_path / name, position)
        with pytest.raises(UserError):
            StoreReader(tmp_path)
        (tmp_path / name).write_bytes(whole)
    StoreReader(tmp_path)


def test_a_missing_or_short_shard_is_found_at_opening(tmp_path):
    write(tmp_path)
    path = tmp_path / "shard-00003-of-00004.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match="shards 3 .* missing or cut short"):
        StoreReader(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="shards 3 "):
        StoreReader(tmp_path)
    assert StoreWriter(tmp_path, manifest_for(mean_pool()), ids_of(COUNT)).missing_shards() == [3]


def test_an_utterance_that_was_not_cached_is_named(tmp_path):
    reader = write(tmp_path)
    with pytest.raises(UserError, match="'corpus/099' is not among the 11 soft targets"):
        CachedTeachers(reader).signal(batch_of([0, 99]))
    assert reader.missing(["corpus/004", "corpus/099"]) == ["corpus/099"]


def test_a_changed_transcript_is_found_where_decoders_were_cached(tmp_path):
    cached = CachedTeachers(write(tmp_path, mean_pool(decoder=True)))
    batch = batch_of([0])
    batch["labels"] = torch.tensor([[1, 2, 3]])
    with pytest.raises(UserError, match="has 3 labels and had 1"):
        cached.signal(batch)


def test_a_store_made_for_something_else_is_refused_in_one_message(tmp_path):
    write(tmp_path)
    before = contents(tmp_path)
    other = manifest_for(mean_pool(tokens=["<blank>", "X", "B", "C", "D"]), dtype="float32")
    with pytest.raises(UserError) as caught:
        StoreWriter(tmp_path, other, ids_of(COUNT))
    for piece in ("token 1 is 'A' in the store and 'X'", "dtype", str(tmp_path)):
        assert piece in str(caught.value)
    assert contents(tmp_path) == before


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("do not touch")
    with pytest.raises(UserError, match="holds thesis.tex and no manifest.json"):
        StoreWriter(tmp_path, manifest_for(mean_pool()), ids_of(COUNT))
    assert sorted(contents(tmp_path)) == ["thesis.tex"]


def test_no_store_is_said_so(tmp_path):
    with pytest.raises(UserError, match="there is no store of soft targets"):
        StoreReader(tmp_path / "nowhere")


def test_targets_that_are_not_finite_are_refused(tmp_path):
    writer = StoreWriter(tmp_path, manifest_for(mean_pool()), ids_of(COUNT))
    targets = {name: StoredTarget(1, 1.0, {"log_probs": torch.zeros(1, 5)}) for name in ids_of(SHARD)}
    targets["corpus/001"].tensors["log_probs"][0, 2] = float("nan")
    with pytest.raises(UserError, match="log_probs of utterance 'corpus/001'"):
        writer.write_shard(0, {name: writer.encode(name, target) for name, target in targets.items()})
    assert contents(tmp_path) == {}


def test_a_reader_travels_to_another_process(tmp_path):
    reader = write(tmp_path, dtype="float32")
    here = reader.read("corpus/007").tensors["log_probs"]
    again = pickle.loads(pickle.dumps(reader)).read("corpus/007").tensors["log_probs"]
    assert torch.equal(here, again)


def test_forked_workers_read_the_same(tmp_path):
    reader = write(tmp_path, dtype="float32")
    expected = [reader.read(name).tensors["log_probs"] for name in ids_of(COUNT)]
    found = torch.utils.data.DataLoader(ReadAll(reader), batch_size=None, num_workers=2)
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one, other)


class ReadAll(torch.utils.data.Dataset):
    def __init__(self, reader):
        self.reader = reader

    def __len__(self):
        return COUNT

    def __getitem__(self, position):
        return self.reader.read(ids_of(COUNT)[position]).tensors["log_probs"]


def test_a_large_index_opens_at_once(tmp_path):
    count = 200_000
    ids = [f"Sprecher-{position * 7919 % count:07d}-ä" for position in range(count)]
    halves = [ids[: count // 2], ids[count // 2 :]]
    records = [
        ShardRecord("", "0", 0, half, [len(name) + number for name in half], [1.0] * len(half), [[number]] * len(half))
        for number, half in enumerate(halves)
    ]
    (tmp_path / "index.arrow").write_bytes(index_bytes(records))
    start = time.perf_counter()
    index = Index(tmp_path / "index.arrow")
    opened = time.perf_counter() - start
    assert opened < 0.2 and len(index) == count
    for position in (0, 1, count // 2, count - 1):
        place = index.find(ids[position])
        assert (place.shard, place.frames) == (position >= count // 2, len(ids[position]) + (position >= count // 2))
        assert place.checks == [int(position >= count // 2)]
    assert index.find("Sprecher-9999999-ä") is None and index.find("") is None
    assert index.missing([ids[3], "", ids[7], "Sprecher-9999999-ä"]) == ["", "Sprecher-9999999-ä"]
