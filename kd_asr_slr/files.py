"""Whole files or none: everything that is kept is written through here."""

from __future__ import annotations

import enum
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from kd_asr_slr.errors import UserError

TEMPORARY = ".tmp"


def temporary_path(path: Path) -> Path:
    """Where the new content of `path` grows before it takes the file's place: hidden, same folder, one a process."""
    return path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")


def is_temporary(path: Path) -> bool:
    """Whether a killed process left this file behind half-written (or it is a lock); readers ignore such files."""
    return path.name.startswith(".") and path.suffix in (TEMPORARY, ".lock")


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file so that a reader (or a kill) sees either the old content or the new one, never a part.

    Args:
        path: the file; its folder must exist.
        content: all of it.

    Returns:
        `path`.
    """
    temporary = temporary_path(path)
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)
    return path


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of `path`'s temporary files."""
    for leftover in path.parent.glob(f".{path.name}.*{TEMPORARY}"):
        leftover.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> Path:
    """`write_bytes` in UTF-8."""
    return write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, value: Any) -> Path:
    """Write a value as indented JSON; NaN and infinity are refused, since JSON has neither.

    Raises:
        ValueError: where the value holds NaN or infinity.
    """
    return write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


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


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: where the file is not JSON, naming the line.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start})", expected="JSON") from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is not valid JSON (line {error.lineno}, column {error.colno}: {error.msg})",
            expected="the file as the run wrote it",
            fix="restore the file, or run again into another folder",
        ) from error


def plain(value: Any) -> Any:
    """The same value in dictionaries, lists, strings, numbers, booleans and None only.

    Paths and enums become strings, sets sorted lists, NumPy scalars and arrays Python's numbers and lists;
    dictionary keys keep their type, since `{30: 3.5}` must come back from YAML as it went in.

    Raises:
        ValueError: where a value has no such form.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):  # subclasses too (np.float64 is a float), which YAML would not write
        if isinstance(value, kind):
            return kind(value)
    if hasattr(value, "tolist"):  # NumPy scalars and arrays, without importing NumPy
        return value.tolist()
    raise ValueError(f"{value!r} ({type(value).__name__}) has no form in JSON")


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
