"""Reading a finished store of soft targets by utterance id."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from kd_asr_slr.errors import UserError
from kd_asr_slr.files import canonical_json, refusing, sha256_of_file
from kd_asr_slr.outputs import SparseTargets
from kd_asr_slr.teachers.formats import format_of
from kd_asr_slr.teachers.index import Index, Place
from kd_asr_slr.teachers.layout import COMPLETE, INDEX, MANIFEST, RESUME, few
from kd_asr_slr.teachers.manifest import read_manifest
from kd_asr_slr.teachers.shards import StoredTarget, checksum, from_disk, read_sidecar, shard_path

OPEN_SHARDS = 128  # memory-mapped shards a process keeps open


class StoreReader:
    """Reads a finished store by utterance id.

    Opening checks that the store is whole as far as file sizes, manifest and index go; reading an utterance checks its
    own bytes; `verify` reads everything. Shards are memory-mapped when first needed, by each process for itself, so a
    reader can be handed to workers.

    Args:
        folder: the store.

    Raises:
        UserError: if there is no store, or an unfinished or damaged one.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder / MANIFEST)
        self._check_seals()
        self.form = format_of(self.manifest.format, self.manifest.dtype)
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
        return self.index.missing(ids)

    def read(self, name: str, contents: Sequence[str] = ("log_probs",)) -> StoredTarget:
        """One utterance; float32, distributions stored in float16 renormalised to sum 1, sparse ones as they are.

        Args:
            name: the utterance id.
            contents: which of the manifest's contents are wanted.

        Raises:
            UserError: if the store does not hold the utterance, or its bytes are unlike their checksum.
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
            try:
                shard = self._shard(number)
                for key in shard.keys():  # noqa: SIM118 - safe_open is no mapping
                    if key.endswith(f"/{content}"):
                        return shard.get_slice(key).get_shape()[-1]
            except (SafetensorError, OSError) as error:
                raise self._damaged(number, str(error)) from error
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
                f"the shards {few(damaged)} in {self.folder} are missing or unlike their checksum", fix=RESUME
            )

    def _tensors(self, name: str, place: Place, contents: Sequence[str]) -> dict[str, torch.Tensor | SparseTargets]:
        if place.weight == 0:
            return {}
        checks = dict(zip(self.manifest.contents, place.checks, strict=True))
        try:
            return {content: self._content(name, place.shard, content, checks[content]) for content in contents}
        except (SafetensorError, OSError) as error:
            raise self._damaged(place.shard, str(error)) from error

    def _content(self, name: str, number: int, content: str, check: int) -> torch.Tensor | SparseTargets:
        distributions = content.endswith("log_probs")
        shard, endings = self._shard(number), self.form.endings if distributions else ("",)
        parts = {ending: shard.get_tensor(f"{name}/{content}{ending}") for ending in endings}
        if checksum(parts) != check:
            raise self._damaged(number, f"utterance '{name}' is unlike its checksum")
        if distributions:
            return self.form.decode(parts, len(self.manifest.tokens))
        return from_disk(parts[""], content)

    def _damaged(self, number: int, why: str) -> UserError:
        return UserError(f"shard {number} in {self.folder} is damaged ({why})", fix=RESUME)

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
        path = self.folder / COMPLETE
        try:
            with refusing(path, "read"):
                content = path.read_bytes()
        except FileNotFoundError:
            raise UserError(f"the store of soft targets in {self.folder} is not finished", fix=RESUME) from None
        found = {name: sha256_of_file(self.folder / name) for name in (MANIFEST, INDEX)}
        if content == canonical_json(found):
            return
        try:
            damaged = [name for name, seal in json.loads(content).items() if found.get(name) != seal]
        except (ValueError, AttributeError, RecursionError):
            damaged = []
        raise UserError(
            f"{', '.join(damaged or [COMPLETE])} in {self.folder} is missing or unlike its checksum", fix=RESUME
        )

    def _check_sizes(self) -> None:
        damaged = []
        for number, entry in enumerate(self.index.files):
            path = shard_path(self.folder, number, self.manifest.shards)
            if not path.is_file() or path.stat().st_size != entry["size"]:
                damaged.append(number)
        if damaged:
            raise UserError(f"the shards {few(damaged)} in {self.folder} are missing or cut short", fix=RESUME)
