"""Where each utterance lies in a store: one Arrow file with sorted ids, memory-mapped, searched by bisection."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute

COLUMNS = pa.schema(
    [
        *(("id", pa.large_string()), ("shard", pa.int32()), ("frames", pa.int32()), ("weight", pa.float32())),
        ("checks", pa.list_(pa.uint32())),
    ]
)


@dataclass(frozen=True)
class ShardRecord:
    """What the sidecar of a shard says of it.

    Attributes:
        manifest: checksum of the manifest of the store it belongs to.
        sha256: of the shard's bytes.
        size: in bytes.
        ids: its utterances, in the order of the corpus.
        frames: valid frames of each.
        weights: 1 where a teacher speaks for the utterance, 0 where none may.
        checks: of each utterance a checksum for each of its contents.
    """

    manifest: str
    sha256: str
    size: int
    ids: list[str]
    frames: list[int]
    weights: list[float]
    checks: list[list[int]]


@dataclass(frozen=True)
class Place:
    """Where an utterance lies.

    Attributes:
        shard: number of its shard.
        frames: its valid frames.
        weight: 1 where a teacher speaks for it, else 0.
        checks: a checksum for each of its contents, in the order of the manifest; none where it has no contents.
    """

    shard: int
    frames: int
    weight: float
    checks: list[int]


def index_bytes(shards: Sequence[ShardRecord]) -> bytes:
    """The content of the index file of a finished store.

    Args:
        shards: the records of all shards, in order.
    """
    rows = [
        (name, number, frames, weight, checks)
        for number, shard in enumerate(shards)
        for name, frames, weight, checks in zip(shard.ids, shard.frames, shard.weights, shard.checks, strict=True)
    ]
    rows.sort()
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), COLUMNS, strict=True)]
    files = [{"sha256": shard.sha256, "size": shard.size} for shard in shards]
    schema = COLUMNS.with_metadata({"shards": json.dumps(files)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    return sink.getvalue().to_pybytes()


class Index:
    """The memory-mapped index of a store.

    Opening it reads the table of shards only; the ids stay on disk, one million open in milliseconds.

    Args:
        path: the Arrow file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        self._ids, *self._columns = batch.columns
        self.files: list[dict[str, str | int]] = json.loads(batch.schema.metadata[b"shards"])

    def __len__(self) -> int:
        return len(self._ids)

    def __reduce__(self) -> tuple[type[Index], tuple[Path]]:
        return Index, (self.path,)

    def find(self, name: str) -> Place | None:
        """Where an utterance lies, or None."""
        position = bisect_left(self._ids, name, key=lambda scalar: scalar.as_py())
        if position == len(self) or self._ids[position].as_py() != name:
            return None
        return Place(*(column[position].as_py() for column in self._columns))

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that the index does not have."""
        wanted = pa.array(names, pa.large_string())
        compute: Any = pa.compute  # it makes its functions as it is imported
        absent = compute.invert(compute.is_in(wanted, value_set=self._ids))
        return wanted.filter(absent).to_pylist()

    def ids(self) -> list[str]:
        """All ids, sorted."""
        return self._ids.to_pylist()
