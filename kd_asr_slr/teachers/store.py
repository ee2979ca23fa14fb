"""The store of soft targets: a folder of safetensors shards that can be resumed, checked and read by utterance id.

    manifest.json                             what the targets were made from
    shard-00000-of-00012.safetensors          `<id>/log_probs` [T, V], and what else the manifest's contents name
    shard-00000-of-00012.json                 its checksum and ids, written after it
    index.arrow                               where each id lies, written when every shard is there
    complete.json                             checksums of manifest and index, written last

Utterances lie in the order of the corpus, `shard_size` a shard, so that a shard's bytes depend on nothing but its own
utterances: killed and resumed, or written by several processes, the folder is the same.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from kd_asr_slr.errors import UserError
from kd_asr_slr.files import (
    canonical_json,
    remove_leftovers,
    sha256_of,
    sha256_of_file,
    write_bytes,
)
from kd_asr_slr.teachers.index import Index, Place, ShardRecord, index_bytes
from kd_asr_slr.teachers.manifest import StoreManifest, fingerprint_of_texts, read_manifest, require_match
from kd_asr_slr.teachers.shards import (
    StoredTarget,
    from_disk,
    read_sidecar,
    shard_path,
    sidecar_bytes,
    to_disk,
)

MANIFEST, INDEX, COMPLETE = "manifest.json", "index.arrow", "complete.json"
OPEN_SHARDS = 128  # memory-mapped shards a process keeps open
RESUME = "run recipes/cache_teachers.py again with the same configuration; it makes only what is missing or damaged"


class StoreWriter:
    """Writes a store shard by shard; what is already there and whole is kept.

    Args:
        folder: where the store goes; created if need be.
        manifest: what it is made from.
        ids: the utterance ids in the order of the corpus.

    Raises:
        UserError: if the folder holds a store made from something else, or files that belong to no store.

    Example:
        >>> writer = StoreWriter("cache", manifest, ids)  # doctest: +SKIP
        >>> for shard in writer.missing_shards():  # doctest: +SKIP
        ...     writer.write_shard(shard, {name: target_of(name) for name in writer.ids_of(shard)})
        >>> writer.finish()  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path, manifest: StoreManifest, ids: Sequence[str]) -> None:
        if fingerprint_of_texts(ids) != manifest.ids:
            raise ValueError("the ids are not those of the manifest")
        self.folder = Path(folder)
        self.manifest = manifest
        self.ids = list(ids)
        self._claim()

    def positions(self, shard: int) -> range:
        """Positions in the corpus of a shard's utterances."""
        start = shard * self.manifest.shard_size
        return range(start, min(start + self.manifest.shard_size, self.manifest.count))

    def ids_of(self, shard: int) -> list[str]:
        """A shard's utterances."""
        return [self.ids[position] for position in self.positions(shard)]

    def missing_shards(self, rank: int = 0, world_size: int = 1) -> list[int]:
        """Shards to be made by this process: absent, without a sidecar, or unlike their checksum.

        Leftovers of a killed run in this process's share are removed.

        Args:
            rank: this process.
            world_size: number of processes; shard i belongs to process i % world_size.
        """
        share = range(rank, self.manifest.shards, world_size)
        for shard in share:
            remove_leftovers(self._path(shard))
            remove_leftovers(self._path(shard).with_suffix(".json"))
        return [shard for shard in share if self._whole_record(shard) is None]

    def write_shard(self, shard: int, targets: dict[str, StoredTarget]) -> None:
        """Write one shard and, after it, its sidecar.

        Args:
            shard: its number.
            targets: by id, one for each of `ids_of(shard)`.

        Raises:
            UserError: if a target is not finite.
        """
        ids = self.ids_of(shard)
        if targets.keys() != set(ids):
            raise ValueError(f"shard {shard} has other utterances: {sorted(targets.keys() ^ set(ids))[:5]}")
        content = save({key: tensor for name in ids for key, tensor in self._tensors(name, targets[name]).items()})
        path = self._path(shard)
        write_bytes(path, content)
        frames = [targets[name].frames for name in ids]
        weights = [float(targets[name].weight) for name in ids]
        record = ShardRecord(sha256_of(content), len(content), ids, frames, weights)
        write_bytes(path.with_suffix(".json"), sidecar_bytes(record))

    def finish(self) -> None:
        """Write the index, once every process has written its shards (by one process).

        Raises:
            UserError: if shards are missing or damaged.
        """
        records = [self._whole_record(shard) for shard in range(self.manifest.shards)]
        missing = [shard for shard, record in enumerate(records) if record is None]
        if missing:
            raise UserError(f"the store {self.folder} lacks the shards {_few(missing)}", fix=RESUME)
        index = index_bytes(records)
        for name in (MANIFEST, INDEX, COMPLETE):
            remove_leftovers(self.folder / name)
        write_bytes(self.folder / INDEX, index)
        seals = {MANIFEST: sha256_of(self.manifest.to_json()), INDEX: sha256_of(index)}
        write_bytes(self.folder / COMPLETE, canonical_json(seals))

    def _claim(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / MANIFEST
        if path.exists():
            require_match(self.folder, read_manifest(path), self.manifest)
        else:
            strangers = sorted(entry.name for entry in self.folder.iterdir() if not entry.name.startswith(MANIFEST))
            if strangers and not path.exists():  # another process of this run may have written it meanwhile
                raise UserError(
                    f"{self.folder} holds {strangers[0]} and no manifest.json",
                    expected="an empty folder, or a store of soft targets",
                    fix="choose another --teacher_cache",
                )
        if not path.exists() or path.read_bytes() != self.manifest.to_json():
            write_bytes(path, self.manifest.to_json())

    def _path(self, shard: int) -> Path:
        return shard_path(self.folder, shard, self.manifest.shards)

    def _whole_record(self, shard: int) -> ShardRecord | None:
        record = read_sidecar(self._path(shard).with_suffix(".json"))
        if record is None or record.ids != self.ids_of(shard):
            return None
        return record if sha256_of_file(self._path(shard)) == record.sha256 else None

    def _tensors(self, name: str, target: StoredTarget) -> dict[str, torch.Tensor]:
        if target.weight == 0:
            return {}
        found = {}
        for content in self.manifest.contents:
            tensor = target.tensors[content]
            if not torch.isfinite(tensor).all():
                raise UserError(
                    f"the teachers' {content} of utterance '{name}' holds values that are not finite",
                    expected="finite log-probabilities and hidden states",
                    fix="check this utterance's recording, and the teacher on it",
                )
            found[f"{name}/{content}"] = to_disk(tensor, self.manifest.dtype)
        return found


class StoreReader:
    """Reads a finished store by utterance id.

    Opening checks that the store is whole as far as file sizes, manifest and index go; `verify` reads everything.
    Shards are memory-mapped when first needed, by each process for itself, so a reader can be handed to workers.

    Args:
        folder: the store.

    Raises:
        UserError: if there is no store, or an unfinished or damaged one.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder / MANIFEST)
        self._check_seals()
        self.index = Index(self.folder / INDEX)
        self._check_sizes()
        self._opened: OrderedDict[int, Any] = OrderedDict()
        self._owner = os.getpid()

    def __len__(self) -> int:
        return len(self.index)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": OrderedDict()}

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that the store does not hold."""
        return [name for name in ids if self.index.find(name) is None]

    def read(self, name: str, contents: Sequence[str] = ("log_probs",)) -> StoredTarget:
        """One utterance; float32, distributions stored in float16 renormalised to sum 1.

        Args:
            name: the utterance id.
            contents: which of the manifest's contents are wanted.

        Raises:
            UserError: if the store does not hold the utterance.
        """
        place = self.index.find(name)
        if place is None:
            raise UserError(
                f"utterance '{name}' is not among the {len(self)} soft targets in {self.folder}",
                expected="a target for every utterance of the training data",
                fix="cache the teachers for this corpus, or correct teacher_cache",
            )
        return StoredTarget(place.frames, place.weight, self._tensors(name, place, contents))

    def width(self, content: str) -> int:
        """Size of the last dimension of a content, such as D of "hidden_3"; 0 where no utterance has it."""
        for number in range(self.manifest.shards):
            shard = self._shard(number)
            for key in shard.keys():  # noqa: SIM118 - safe_open is no mapping
                if key.endswith(f"/{content}"):
                    return shard.get_slice(key).get_shape()[-1]
        return 0

    def verify(self) -> list[int]:
        """Numbers of the shards that are missing or damaged; reads every byte."""
        return [shard for shard in range(self.manifest.shards) if not self._is_whole(shard)]

    def require_whole(self) -> None:
        """Refuse a store with missing or damaged shards; reads every byte.

        Raises:
            UserError: naming the shards.
        """
        if damaged := self.verify():
            raise UserError(
                f"the shards {_few(damaged)} in {self.folder} are missing or unlike their checksum", fix=RESUME
            )

    def _tensors(self, name: str, place: Place, contents: Sequence[str]) -> dict[str, torch.Tensor]:
        if place.weight == 0:
            return {}
        try:
            shard = self._shard(place.shard)
            return {content: from_disk(shard.get_tensor(f"{name}/{content}"), content) for content in contents}
        except SafetensorError as error:
            raise UserError(f"shard {place.shard} in {self.folder} is damaged ({error})", fix=RESUME) from error

    def _shard(self, number: int) -> Any:
        if self._owner != os.getpid():  # a forked worker maps its own
            self._opened, self._owner = OrderedDict(), os.getpid()
        if number not in self._opened:
            if len(self._opened) >= OPEN_SHARDS:
                self._opened.popitem(last=False)
            path = shard_path(self.folder, number, self.manifest.shards)
            self._opened[number] = safe_open(path, framework="pt")
        self._opened.move_to_end(number)
        return self._opened[number]

    def _is_whole(self, shard: int) -> bool:
        path, entry = shard_path(self.folder, shard, self.manifest.shards), self.index.files[shard]
        record = read_sidecar(path.with_suffix(".json"))
        return record is not None and record.sha256 == entry["sha256"] == sha256_of_file(path)

    def _check_seals(self) -> None:
        try:
            seals = json.loads((self.folder / COMPLETE).read_bytes())
        except FileNotFoundError:
            raise UserError(f"the store of soft targets in {self.folder} is not finished", fix=RESUME) from None
        except ValueError:
            seals = {}
        damaged = [
            name
            for name in (MANIFEST, INDEX)
            if not isinstance(seals, dict) or seals.get(name) != sha256_of_file(self.folder / name)
        ]
        if damaged:
            raise UserError(f"{', '.join(damaged)} in {self.folder} is missing or unlike its checksum", fix=RESUME)

    def _check_sizes(self) -> None:
        damaged = []
        for number, entry in enumerate(self.index.files):
            path = shard_path(self.folder, number, self.manifest.shards)
            if not path.is_file() or path.stat().st_size != entry["size"]:
                damaged.append(number)
        if damaged:
            raise UserError(f"the shards {_few(damaged)} in {self.folder} are missing or cut short", fix=RESUME)


def _few(numbers: Sequence[int]) -> str:
    listed = ", ".join(str(number) for number in numbers[:10])
    return listed if len(numbers) <= 10 else f"{listed} and {len(numbers) - 10} more"
