"""What a repository holds already: what an earlier push left and this one no longer has, and what is somebody else's.

A push writes down its files and their contents in the repository (`RECORD`). Only what stands there, and is still as it
was pushed, is ever deleted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_asr_slr.files import canonical_json, sha256_of
from kd_asr_slr.hub.contents import PublishedFile

if TYPE_CHECKING:
    from huggingface_hub import HfApi

RECORD = "kd_asr_slr_files.json"
HUBS_OWN = {".gitattributes"}


@dataclass(frozen=True)
class Standing:
    """What becomes of the files that a repository holds.

    Attributes:
        stale: an earlier push made them, they are as it made them, and this push does not have them: deleted.
        foreign: nobody knows of an earlier push that made them, or they were changed since: left.
        overwritten: changed by somebody since the last push, and replaced by this one.
    """

    stale: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    overwritten: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """A line for each of them that there are any of."""
        told = (
            ("deleted, which an earlier push made and this run no longer has", self.stale),
            ("left as they are, not made by a push or changed since", self.foreign),
            ("replaced, though changed on the hub since the last push", self.overwritten),
        )
        return [f"  {what}: {', '.join(names)}" for what, names in told if names]


def with_record(files: Sequence[PublishedFile]) -> list[PublishedFile]:
    """The files of a push and, as one more, the record of them."""
    known = {file.name: dict(zip(("sha256", "blob"), _sums(file), strict=True)) for file in files}
    return [*files, PublishedFile(RECORD, canonical_json({"schema": 1, "files": known}))]


def standing_of(api: HfApi, name: str, files: Sequence[PublishedFile]) -> Standing:
    """Compare a repository with what is to be pushed into it.

    Args:
        api: the hub's client.
        name: OWNER/NAME, whether it exists or not.
        files: of the push.
    """
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    try:
        items = [item for item in api.list_repo_tree(name, recursive=True) if isinstance(item, RepoFile)]
    except RepositoryNotFoundError:
        return Standing()
    # A large file is known by its sha256, any other one by git's own sum.
    found = {item.path: item.lfs.sha256 if item.lfs else item.blob_id for item in items}
    pushed = _record_of(api, name) if RECORD in found else {}
    ours = {file.name: _sums(file) for file in files}
    stale: list[str] = []
    foreign: list[str] = []
    overwritten: list[str] = []
    for path, content in sorted(found.items()):
        as_pushed = content in pushed.get(path, {}).values()
        if path in ours:
            if path != RECORD and not as_pushed and content not in ours[path]:
                overwritten.append(path)
        elif path not in HUBS_OWN:
            (stale if as_pushed else foreign).append(path)
    return Standing(tuple(stale), tuple(foreign), tuple(overwritten))


def _record_of(api: HfApi, name: str) -> dict[str, Any]:
    """The record of the last push; empty where somebody has broken it."""
    try:
        found = json.loads(Path(api.hf_hub_download(name, RECORD)).read_text(encoding="utf-8"))
        files = found["files"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {path: sums for path, sums in files.items() if isinstance(sums, dict)} if isinstance(files, dict) else {}


def _sums(file: PublishedFile) -> tuple[str, str]:
    """sha256 of a file's content, and git's sum of it."""
    from huggingface_hub.utils.sha import git_hash

    content = file.content if isinstance(file.content, bytes) else file.content.read_bytes()
    return sha256_of(content), git_hash(content)
