"""How large a store of soft targets will be, told from a few utterances before it is written."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import torch

from kd_asr_slr.errors import UserError
from kd_asr_slr.files import canonical_json
from kd_asr_slr.teachers.index import ShardRecord, index_bytes
from kd_asr_slr.teachers.layout import INDEX, MANIFEST
from kd_asr_slr.teachers.manifest import StoreManifest
from kd_asr_slr.teachers.shards import EncodedTarget, StoredTarget, sidecar_bytes
from kd_asr_slr.teachers.writer import TargetEncoder

DEVIATIONS = 2.6  # standard errors that are added: of 100 estimates from 16 utterances one is too low
SHA256 = "0" * 64
BLOCK = 4096  # bytes of a disk that does not say


@dataclass(frozen=True)
class Probe:
    """What the teachers said of a few utterances, and what these are of the corpus.

    Attributes:
        said: by id.
        lengths: input frames (samples, for waveforms) of each of them.
        total: of the whole corpus.
    """

    said: dict[str, StoredTarget]
    lengths: list[int]
    total: int

    @property
    def share(self) -> float:
        """How much of the corpus they are, 0 to 1."""
        return sum(self.lengths) / max(self.total, 1)


def store_size(manifest: StoreManifest, ids: Sequence[str], probe: Probe) -> int:
    """Bytes of the whole store: shards, sidecars, index and manifest.

    What the targets take is estimated from the utterances that were made, and what that estimate may be wrong by is
    added; what is written around them is reckoned.

    Args:
        manifest: of the store.
        ids: of all its utterances.
        probe: the utterances that were made.
    """
    encode = TargetEncoder(manifest)
    made = [encode(name, target) for name, target in probe.said.items()]
    sizes = [sum(tensor.nbytes for _, tensor in tensors_of(target)) for target in made]
    targets = _extrapolated(sizes, probe, manifest.count)
    parts = sum(len(list(tensors_of(target))) for target in made) / len(made)
    texts = sum(len(json.dumps(name, ensure_ascii=False).encode()) - 2 for name in ids)
    full, rest = divmod(manifest.count, manifest.shard_size)
    around = full * _around(made, manifest.shard_size) + (_around(made, rest) if rest else 0)
    seals = len(manifest.to_json()) + len(canonical_json({MANIFEST: SHA256, INDEX: SHA256}))
    # A name stands in the header for each of its tensors, in the sidecar, and in the index.
    return math.ceil(targets + around + texts * (parts + 2) + _index_size(made, manifest) + seals)


def tensors_of(target: EncodedTarget) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors of an utterance, with the end of their key in a shard."""
    for part, tensors in target.parts.items():
        for ending, tensor in tensors.items():
            yield f"/{part}{ending}", tensor


def _extrapolated(sizes: Sequence[int], probe: Probe, count: int) -> float:
    """Bytes of all utterances, in proportion to their lengths, and the error of that estimate (of a ratio) on top."""
    made = len(sizes)
    if made == count:
        return sum(sizes)
    rate = sum(sizes) / max(sum(probe.lengths), 1)
    errors = [(size - rate * length) ** 2 for size, length in zip(sizes, probe.lengths, strict=True)]
    variance = sum(errors) / max(made - 1, 1) * (1 - made / count) / made
    return rate * probe.total + DEVIATIONS * count * math.sqrt(variance)


def _around(made: Sequence[EncodedTarget], utterances: int) -> int:
    """Bytes of a shard and its sidecar but for targets and ids."""
    end, header = 0, 2
    members = list(islice(cycle(made), utterances))
    for key, tensor in (keyed for target in members for keyed in tensors_of(target)):
        entry = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [end, end + tensor.nbytes]}
        header += len(f'"{key}":{json.dumps(entry, separators=(",", ":"))},')
        end += tensor.nbytes
    return 8 + 8 * math.ceil(header / 8) + len(sidecar_bytes(_record(members, end)))


def _record(members: Sequence[EncodedTarget], size: int) -> ShardRecord:
    """Of a shard of nameless utterances."""
    checks = [[2**32 - 1] * len(target.parts) for target in members]
    frames, weights = [target.frames for target in members], [float(target.weight) for target in members]
    return ShardRecord(SHA256, SHA256, size, [""] * len(members), frames, weights, checks)


def _index_size(made: Sequence[EncodedTarget], manifest: StoreManifest) -> float:
    """Bytes of the index but for ids; it grows by the same for every shard, and for every utterance."""
    rows = 256  # the buffers of an Arrow file are padded
    few, many = (_record(list(islice(cycle(made), number)), 10**9) for number in (rows, 2 * rows))
    empty = _record([], 10**9)
    base, with_rows, with_shards = (len(index_bytes(all_)) for all_ in ([few], [many], [few] + rows * [empty]))
    shards = (manifest.shards - 1) * (with_shards - base) / rows
    return base + shards + (manifest.count - rows) * (with_rows - base) / rows


def require_room(folder: str | Path, size: int, shards: int) -> None:
    """Refuse to begin a store that the disk cannot hold. What is there of it already counts as written.

    A file takes whole blocks of a disk, which is most of what tiny shards take; and a damaged shard stays until the one
    that is made in its place is whole.

    Args:
        folder: of the store.
        size: its bytes.
        shards: their number; each is two files.

    Raises:
        UserError: naming what is needed and what is free.
    """
    folder = Path(folder)
    disk = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    block = os.statvfs(disk).f_frsize if hasattr(os, "statvfs") else BLOCK
    there = sum(path.stat().st_size + block for path in folder.glob("shard-*"))
    needed = size + math.ceil(size / shards) + (2 * shards + 3) * block - there
    free = shutil.disk_usage(disk).free
    if needed > free:
        raise UserError(
            f"the soft targets need about {readable(needed)} and the disk of {folder} has {readable(free)} left",
            expected="a disk that holds them",
            fix="choose another --teacher_cache, or a smaller form (--cache_format quantised, topk or sampled)"
            + (", or more utterances a shard (--cache_shard_size)" if 2 * shards * block > size else ""),
        )


def readable(size: float) -> str:
    """Bytes with a unit that suits them.

    Example:
        >>> readable(2_345_678)
        '2.3 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
