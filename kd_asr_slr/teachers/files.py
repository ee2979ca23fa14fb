"""Files that are either whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

TEMPORARY = ".tmp"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a kill at any moment leaves the old one, the new one or none, never a part.

    Args:
        path: where it goes; the temporary file lies beside it and ends on `.tmp`.
        content: its bytes.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_folder(path.parent)


def remove_leftovers(path: Path) -> None:
    """Remove what killed runs left of `path`'s temporary files."""
    for leftover in path.parent.glob(f"{path.name}.*{TEMPORARY}"):
        leftover.unlink(missing_ok=True)


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no timestamps, so that equal values give equal bytes."""
    return (json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1) + "\n").encode()


def sha256_of(content: bytes) -> str:
    """sha256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str | None:
    """sha256 of a file, in hexadecimal; None where there is no such file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
