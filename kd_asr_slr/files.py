"""Whole files or none: everything that is kept is written through here."""

from __future__ import annotations

import contextlib
import enum
import errno
import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from kd_asr_slr.errors import UserError

TEMPORARY, LOCK = ".tmp", ".lock"
AGAIN = "type the same command again"
PERMISSION = (
    "permission to do so",
    f"change the permissions there (ls -la shows them) and {AGAIN}, or give another folder",
)
REMEDIES = {  # errno: what was expected, and what to do
    errno.ENOSPC: ("room on its disk", f"free some space there, then {AGAIN}"),
    errno.EDQUOT: ("room within the quota of its disk", f"free some space there, then {AGAIN}"),
    errno.EFBIG: ("a limit that allows files of this size", f"raise it (ulimit -f unlimited), then {AGAIN}"),
    errno.EACCES: PERMISSION,
    errno.EPERM: PERMISSION,
    errno.EROFS: ("a disk that can be written", "give another folder"),
    errno.EISDIR: ("a file in this place", f"move the folder away, then {AGAIN}"),
    errno.ENOTDIR: ("a folder above it", "give another folder"),
    errno.EEXIST: ("a folder in this place", "give another folder"),
    errno.ENOENT: ("its folder, which is gone", AGAIN),
}


def owner() -> str:
    """The name of this machine, by which it knows its own temporary files on a disk that it shares with others."""
    return socket.gethostname()


def temporary_path(path: Path) -> Path:
    """Where the new content of `path` grows before it takes the file's place: hidden, same folder, one a process."""
    return path.with_name(f".{path.name}.{owner()}.{os.getpid()}{TEMPORARY}")


def is_temporary(path: Path) -> bool:
    """Whether a killed process left this file behind half-written (or it is a lock); readers ignore such files."""
    return path.name.startswith(".") and path.suffix in (TEMPORARY, LOCK)


@contextlib.contextmanager
def refusing(path: Path, verb: str) -> Iterator[None]:
    """What the system refuses becomes a sentence about `path`; that a file is missing stays a FileNotFoundError.

    Args:
        path: what is worked on.
        verb: what cannot be done with it: "read".

    Raises:
        UserError: with what to do about it.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise refused(path, verb, error) from error


def refused(path: Path, verb: str, error: OSError) -> UserError:
    """The sentence about what the system refused, and what to do about it."""
    expected, fix = REMEDIES.get(error.errno or 0, ("a disk that works", f"check it, then {AGAIN}"))
    return UserError(f"{path} cannot be {verb} ({error.strerror or error})", expected, fix)


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file so that a reader (or a kill) sees either the old content or the new one, never a part.

    Args:
        path: the file; its folder must exist.
        content: all of it.

    Returns:
        `path`.

    Raises:
        UserError: where the disk does not take it; nothing is left of it.
    """
    temporary = temporary_path(path)
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise refused(path, "written", error) from error
        raise
    _sync_folder(path.parent)
    return path


def make_folder(path: Path) -> list[Path]:
    """Make a folder and those above it.

    Returns:
        Those that were not there, the lowest first.

    Raises:
        UserError: where it cannot be made; nothing is left of it.
    """
    absent: list[Path] = []
    try:
        absent += (folder for folder in (path, *path.parents) if not folder.exists())
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remove_empty(absent)
        raise refused(path, "made", error) from error
    return absent


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, the lowest first, up to one that holds something."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


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
    """sha256 of a file, in hexadecimal; None where there is no such file.

    Raises:
        UserError: where it cannot be read.
    """
    try:
        with refusing(path, "read"), open(path, "rb") as file:
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
    """Make a rename last through a power cut, where the system can (some network disks cannot)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
