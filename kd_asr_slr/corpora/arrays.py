"""Arrays from .npy and .npz files: never a pickle, and never more or fewer bytes than the header declares."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from kd_asr_slr.errors import UserError

FEATURES_KEY = "features"
_MAX_TEXT_BYTES = 1 << 20
_FIX = "make the file again with numpy.save or numpy.savez from one numeric array"


def load_array(path: Path) -> np.ndarray:
    """Read the one array of a .npy file, or `features` (or the only array) of a .npz file.

    Args:
        path: an existing file that is not empty.

    Raises:
        UserError: if there is no such array, or it is cut off, pickled or not numeric.
    """
    with _opened(path) as (file, size):
        shape, fortran, dtype = _header(path, file, size)
        data = file.read()
    array = np.frombuffer(data, dtype=dtype, count=math.prod(shape))
    return array.reshape(shape, order="F" if fortran else "C")


def array_shape(path: Path) -> tuple[int, ...]:
    """The shape `load_array` would return, from the header alone, with the same errors."""
    with _opened(path) as (file, size):
        return _header(path, file, size)[0]


def embedded_text(path: Path, key: str) -> str | None:
    """A text saved beside the features of a .npz file, e.g. its glosses; None where there is none.

    Args:
        path: an existing .npz file.
        key: name of the text; a list of texts is joined by blanks.

    Raises:
        UserError: if the archive cannot be read, or what it holds there is no text (e.g. a pickle).
    """
    with _reading(path), zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if key not in members:
            return None
        if members[key].file_size > _MAX_TEXT_BYTES:
            raise UserError(f"{path}: '{key}' has {members[key].file_size} bytes", expected="a text")
        with archive.open(members[key]) as file:
            shape, _, dtype = _header(f"{path}, '{key}'", file, members[key].file_size, kinds="US")
            data = file.read()
    if not dtype.itemsize:
        return ""
    texts = np.frombuffer(data, dtype=dtype, count=math.prod(shape)).tolist()
    return " ".join(text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in texts)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Errors of the file system and of broken archives as sentences."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise UserError(f"{path}: cannot be read as {path.suffix.lower()} ({error})", fix=_FIX) from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """The stream in .npy format and its size, out of the archive where it is one."""
    with _reading(path):
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                member = _member(path, archive)
                with archive.open(member) as file:
                    yield file, member.file_size
        else:
            with path.open("rb") as file:
                yield file, path.stat().st_size


def _member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if FEATURES_KEY in members:
        return members[FEATURES_KEY]
    if len(members) == 1:
        return next(iter(members.values()))
    found = ", ".join(sorted(members)) or "none"
    raise UserError(
        f"{path}: {len(members)} arrays ({found}) and none is called '{FEATURES_KEY}'",
        expected=f"one array, or one called '{FEATURES_KEY}'",
        fix=f"save it with numpy.savez(path, {FEATURES_KEY}=array)",
    )


def _header(
    path: Path | str, file: IO[bytes], size: int, kinds: str = "fiub"
) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type, after a check of type and declared size; leaves the stream at the first value."""
    start = file.read(8)
    if len(start) == 8 and start[:6] == np.lib.format.MAGIC_PREFIX:
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        reader = readers.get((start[6], start[7]))
    else:
        raise UserError(f"{path}: not a numpy array (a pickle or another format)", fix=_FIX)
    if reader is None:
        raise UserError(f"{path}: unknown version {start[6]}.{start[7]} of the numpy format", fix=_FIX)
    try:
        shape, fortran, dtype = reader(file)
    except ValueError as error:
        raise UserError(f"{path}: the numpy header cannot be read ({error})", fix=_FIX) from error
    if dtype.hasobject:
        raise UserError(f"{path}: holds pickled Python objects, which are never loaded", fix=_FIX)
    if dtype.kind not in kinds:
        expected = "text" if kinds == "US" else "real numbers"
        raise UserError(f"{path}: holds values of type {dtype}", expected=expected, fix=_FIX)
    declared, present = math.prod(shape) * dtype.itemsize, size - file.tell()
    if declared != present:
        raise UserError(f"{path}: the header declares {declared} bytes of values but the file has {present}", fix=_FIX)
    return shape, fortran, dtype
