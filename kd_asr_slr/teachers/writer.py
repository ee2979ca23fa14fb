"""Writing a store of soft targets shard by shard."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from kd_asr_slr.errors import UserError
from kd_asr_slr.files import (
    canonical_json,
    is_temporary,
    make_folder,
    remove_empty,
    sha256_of,
    sha256_of_file,
    write_bytes,
)
from kd_asr_slr.teachers.claims import claimed, remove_abandoned
from kd_asr_slr.teachers.formats import format_of
from kd_asr_slr.teachers.index import ShardRecord, index_bytes
from kd_asr_slr.teachers.layout import COMPLETE, INDEX, MANIFEST, RESUME, few
from kd_asr_slr.teachers.manifest import (
    DamagedManifest,
    MissingStore,
    StoreManifest,
    fingerprint_of_texts,
    read_manifest,
    require_match,
)
from kd_asr_slr.teachers.shards import (
    EncodedTarget,
    StoredTarget,
    read_sidecar,
    shard_content,
    shard_path,
    sidecar_bytes,
    to_disk,
)


class StoreWriter:
    """Writes a store shard by shard; what is already there and whole is kept.

    Nothing is written before the first shard. Several commands may write one store at the same time: each shard is made
    by the one that claims it.

    Args:
        folder: where the store goes; created with the first shard.
        manifest: what it is made from.
        ids: the utterance ids in the order of the corpus.

    Raises:
        UserError: if the folder holds a store made from something else, or files that belong to no store.

    Example:
        >>> writer = StoreWriter("cache", manifest, ids)  # doctest: +SKIP
        >>> for shard in writer.missing_shards():  # doctest: +SKIP
        ...     with writer.claim(shard, wait=True):
        ...         targets = {name: writer.encode(name, target_of(name)) for name in writer.ids_of(shard)}
        ...         writer.write_shard(shard, targets)
        >>> writer.finish()  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path, manifest: StoreManifest, ids: Sequence[str]) -> None:
        if fingerprint_of_texts(ids) != manifest.ids:
            raise ValueError("the ids are not those of the manifest")
        self.folder = Path(folder)
        self.manifest = manifest
        self.encode = TargetEncoder(manifest)
        self.ids = list(ids)
        self._check_folder()

    @property
    def is_finished(self) -> bool:
        """Whether the store was finished before; parts of it may have been damaged since."""
        return (self.folder / COMPLETE).exists()

    def positions(self, shard: int) -> range:
        """Positions in the corpus of a shard's utterances."""
        start = shard * self.manifest.shard_size
        return range(start, min(start + self.manifest.shard_size, self.manifest.count))

    def ids_of(self, shard: int) -> list[str]:
        """A shard's utterances."""
        return [self.ids[position] for position in self.positions(shard)]

    def missing_shards(self, rank: int = 0, world_size: int = 1) -> list[int]:
        """Shards to be made by this process: absent, without a sidecar, or unlike their checksum.

        Args:
            rank: this process.
            world_size: number of processes; shard i belongs to process i % world_size.
        """
        return [shard for shard in range(rank, self.manifest.shards, world_size) if not self.is_whole(shard)]

    def is_whole(self, shard: int) -> bool:
        """Whether a shard is there and as it was written; reads all of it."""
        return self._whole_record(shard) is not None

    @contextlib.contextmanager
    def claim(self, shard: int, wait: bool = False) -> Iterator[bool]:
        """Keep other processes from making a shard meanwhile (see `claims.claimed`).

        Args:
            shard: its number.
            wait: for the process that is making it.

        Yields:
            False where another process is making it. Where it is True the other one may have made it before.
        """
        made = make_folder(self.folder)
        try:
            with claimed(self._path(shard), wait) as ours:
                yield ours
        finally:
            remove_empty(made)

    def write_shard(self, shard: int, targets: Mapping[str, EncodedTarget]) -> None:
        """Write one shard and, after it, its sidecar.

        Args:
            shard: its number.
            targets: by id, one for each of `ids_of(shard)`, from `encode`.
        """
        ids = self.ids_of(shard)
        if targets.keys() != set(ids):
            raise ValueError(f"shard {shard} has other utterances: {sorted(targets.keys() ^ set(ids))[:5]}")
        self._write_manifest()
        content, record = shard_content({name: targets[name] for name in ids}, self.manifest.checksum)
        path = self._path(shard)
        write_bytes(path, content)
        write_bytes(path.with_suffix(".json"), sidecar_bytes(record))

    def finish(self) -> None:
        """Write the index, once every process has written its shards (by one process).

        Raises:
            UserError: if shards are missing or damaged, or the disk does not take the index.
        """
        records = [self._whole_record(shard) for shard in range(self.manifest.shards)]
        whole = [record for record in records if record is not None]
        missing = [shard for shard, record in enumerate(records) if record is None]
        if missing:
            raise UserError(f"the store {self.folder} lacks the shards {few(missing)}", fix=RESUME)
        self._write_manifest()
        index = index_bytes(whole)
        seals = {MANIFEST: sha256_of(self.manifest.to_json()), INDEX: sha256_of(index)}
        for name, content in ((INDEX, index), (COMPLETE, canonical_json(seals))):
            self._write(name, content)
        remove_abandoned(self.folder)

    def size(self) -> int:
        """Bytes of what is there now."""
        sizes = 0
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # a temporary file of another process
                sizes += path.stat().st_size
        return sizes

    def _check_folder(self) -> None:
        path = self.folder / MANIFEST
        try:
            require_match(self.folder, read_manifest(path), self.manifest)
        except DamagedManifest:
            self._require_own_shards()
        except MissingStore:
            strangers = sorted(entry.name for entry in self.folder.glob("*") if not is_temporary(entry))
            # Another process of this run may have written it meanwhile, or it was lost and its shards are there.
            if strangers and not path.exists() and not self._has_own_shards():
                raise UserError(
                    f"{self.folder} holds {strangers[0]} and no manifest.json",
                    expected="an empty folder, or a store of soft targets",
                    fix="choose another --teacher_cache",
                ) from None

    def _write_manifest(self) -> None:
        make_folder(self.folder)
        self._write(MANIFEST, self.manifest.to_json())

    def _write(self, name: str, content: bytes) -> None:
        """Write a file of which there is one in a store, unless it is there."""
        path = self.folder / name
        if sha256_of_file(path) == sha256_of(content):
            return
        with claimed(path, wait=True):
            self._check_folder()  # a command that makes another store may have begun meanwhile
            write_bytes(path, content)

    def _records(self) -> list[ShardRecord | None]:
        """What the sidecars here say; None for a damaged one."""
        return [read_sidecar(path) for path in sorted(self.folder.glob("shard-*.json"))]

    def _has_own_shards(self) -> bool:
        """Whether there are shards here, and all that can be read were made for this manifest."""
        own = [record.manifest == self.manifest.checksum for record in self._records() if record is not None]
        return bool(own) and all(own)

    def _require_own_shards(self) -> None:
        """A damaged manifest does not say what the store was made from; the sidecars of its shards do."""
        if any(record is not None and record.manifest != self.manifest.checksum for record in self._records()):
            raise UserError(
                f"manifest.json in {self.folder} is damaged, and the shards beside it were made for something else",
                expected="a store that was made for this run",
                fix="choose another --teacher_cache, or cache the teachers that this one was made from",
            )

    def _path(self, shard: int) -> Path:
        return shard_path(self.folder, shard, self.manifest.shards)

    def _whole_record(self, shard: int) -> ShardRecord | None:
        record = read_sidecar(self._path(shard).with_suffix(".json"))
        if record is None or record.ids != self.ids_of(shard) or record.manifest != self.manifest.checksum:
            return None
        return record if sha256_of_file(self._path(shard)) == record.sha256 else None


class TargetEncoder:
    """What the teachers say of an utterance, brought into the form in which a store keeps it.

    Args:
        manifest: of the store.
    """

    def __init__(self, manifest: StoreManifest) -> None:
        self.contents, self.dtype = manifest.contents, manifest.dtype
        self.form = format_of(manifest.format, manifest.dtype)

    def __call__(self, name: str, target: StoredTarget) -> EncodedTarget:
        """The utterance as it will lie in a shard.

        Raises:
            UserError: if a target is not finite.
        """
        contents = self.contents if target.weight else []
        said: dict[str, Any] = target.tensors  # dense: they come from a teacher
        parts = {content: self._parts(name, content, said[content]) for content in contents}
        return EncodedTarget(target.frames, target.weight, parts)

    def _parts(self, name: str, content: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
        if not torch.isfinite(tensor).all():
            raise UserError(
                f"the teachers' {content} of utterance '{name}' holds values that are not finite",
                expected="finite log-probabilities and hidden states",
                fix="check this utterance's recording, and the teacher on it",
            )
        if content.endswith("log_probs"):
            return self.form.encode(tensor.detach().cpu(), name)
        return {"": to_disk(tensor, self.dtype)}
