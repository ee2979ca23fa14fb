"""The bytes that are said before a store is written, against those that are written."""

from __future__ import annotations

import shutil
from collections import namedtuple

import pytest
import torch

from kd_asr_slr.errors import UserError
from kd_asr_slr.teachers.formats import FORMATS, format_of
from kd_asr_slr.teachers.manifest import StoreManifest, fingerprint_of_texts
from kd_asr_slr.teachers.shards import StoredTarget
from kd_asr_slr.teachers.store import StoreWriter
from kd_asr_slr.training.store_size import Probe, require_room, store_size

Disk = namedtuple("Disk", "total used free")
PROBED = 16


def said(number, size, frames, spoken=True, decoder=False):
    """What a teacher says of an utterance: sharp, and mostly blank."""
    generator = torch.Generator().manual_seed(number)

    def distributions(rows):
        logits = 2 * torch.randn(rows, size, generator=generator)
        logits[:, 0] += 12 * (torch.rand(rows, generator=generator) < 0.7)
        return torch.log_softmax(logits, -1)

    tensors = {"log_probs": distributions(frames)}
    if decoder:
        tensors |= {"decoder_log_probs": distributions(3), "hidden_2": torch.randn(frames, 6, generator=generator)}
    return StoredTarget(frames, 1.0, tensors) if spoken else StoredTarget(frames, 0.0)


def written(folder, name, count, shard_size, size, ids, decoder=False, spoken=lambda number: True):
    """A store, and what was said of it before: bytes there, bytes foretold."""
    contents = ["decoder_log_probs", "hidden_2", "log_probs"] if decoder else ["log_probs"]
    manifest = StoreManifest(
        "made-up", count, fingerprint_of_texts(ids), None, [], None, {}, "v", [str(token) for token in range(size)], 0,
        "f", 0.01, contents, shard_size=shard_size, format=format_of({"name": name}).describe(),
    )  # fmt: skip
    lengths = [30 + 37 * number % 90 for number in range(count)]
    targets = [said(number, size, 1 + lengths[number] // 3, spoken(number), decoder) for number in range(count)]
    chosen = [number * count // min(PROBED, count) for number in range(min(PROBED, count))]
    probe = Probe({ids[at]: targets[at] for at in chosen}, [lengths[at] for at in chosen], sum(lengths))
    foretold = store_size(manifest, ids, probe)
    writer = StoreWriter(folder, manifest, ids)
    for shard in writer.missing_shards():
        part = {ids[at]: writer.encode(ids[at], targets[at]) for at in writer.positions(shard)}
        writer.write_shard(shard, part)
    writer.finish()
    return writer.size(), foretold


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shard_size", [1, 3, 64])
def test_a_store_takes_what_was_foretold_or_a_little_less(tmp_path, name, shard_size):
    """Ids of very different lengths, in no order; the last shard is short."""
    ids = [f"{'ü' if number % 5 else 'long' * 15}/{number}" for number in range(100)]
    taken, foretold = written(tmp_path, name, 100, shard_size, 24, ids)
    data_dependent = name in ("topk", "sampled")  # 16 of 100 utterances say less of these
    assert taken <= foretold < taken * (1.08 if data_dependent else 1.03)


@pytest.mark.parametrize("name", FORMATS)
def test_so_does_one_of_large_targets(tmp_path, name):
    taken, foretold = written(tmp_path, name, 60, 32, 1200, [f"u{number}" for number in range(60)])
    assert taken <= foretold < taken * (1.08 if name in ("topk", "sampled") else 1.03)


def test_so_does_one_of_several_contents_and_of_utterances_that_nobody_speaks_for(tmp_path):
    ids = [f"u{number}" for number in range(100)]
    taken, foretold = written(tmp_path / "all", "dense", 100, 8, 24, ids, decoder=True)
    assert taken <= foretold < taken * 1.05
    taken, foretold = written(tmp_path / "some", "dense", 100, 8, 24, ids, spoken=lambda number: number % 7)
    assert taken <= foretold < taken * 1.3  # which of them are silent is not known before


def test_a_store_that_was_probed_whole_is_foretold_to_the_byte_but_for_digits(tmp_path):
    taken, foretold = written(tmp_path, "topk", 7, 2, 24, list("abcdefg"))
    assert taken <= foretold < taken * 1.01


def test_whole_blocks_are_reckoned(tmp_path, monkeypatch):
    """1,000 shards of 100 bytes are 2,000 files; the disk gives each of them a block."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(10**9, 10**9, 5 * 10**6))
    require_room(tmp_path, 10**5, 1)
    with pytest.raises(UserError, match=r"need about 8\.\d MB and .* 5\.0 MB left.*--cache_shard_size"):
        require_room(tmp_path, 10**5, 1000)
    for number in range(1500):
        (tmp_path / f"shard-{number}").touch()
    require_room(tmp_path, 10**5, 1000)
    with pytest.raises(UserError, match=r"need about 8\.0 MB") as caught:  # one shard beside the one it replaces
        require_room(tmp_path / "other", 4 * 10**6, 1)
    assert "shard_size" not in str(caught.value)
