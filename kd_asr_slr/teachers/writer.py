"""Writing a store of soft targets shard by shard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save

from kd_asr_slr.errors import UserError
from kd_asr_slr.files import canonical_json, remove_leftovers, sha256_of, sha256_of_file, write_bytes
from kd_asr_slr.teachers.formats import format_of
from kd_asr_slr.teachers.index import ShardRecord, index_bytes
from kd_asr_slr.teachers.layout import COMPLETE, INDEX, MANIFEST, RESUME, few
from kd_asr_slr.teachers.manifest import StoreManifest, fingerprint_of_texts, read_manifest, require_match
from kd_asr_slr.teachers.shards import StoredTarget, read_sidecar, shard_path, sidecar_bytes, to_disk


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
        self._format = format_of(manifest.format, manifest.dtype)
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
            raise UserError(f"the store {self.folder} lacks the shards {few(missing)}", fix=RESUME)
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
            if content.endswith("log_probs"):
                parts = self._format.encode(tensor.detach().cpu(), name)
                found |= {f"{name}/{content}{ending}": part for ending, part in parts.items()}
            else:
                found[f"{name}/{content}"] = to_disk(tensor, self.manifest.dtype)
        return found
