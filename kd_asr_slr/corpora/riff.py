"""Does a WAV file hold the bytes its header declares? libsndfile reads a cut-off file without a word."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import BinaryIO

from kd_asr_slr.errors import UserError

_CHUNK_NAME = re.compile(rb"[\x20-\x7e]{4}")
_FIX = "copy the file again from its source, or rewrite its header (sox --ignore-length old.wav new.wav)"


def check_riff(path: Path) -> None:
    """Walk the chunks of a RIFF file and compare the declared sizes with the file's.

    Args:
        path: an existing file. Other containers with the same suffix (RF64, NIST SPHERE) are left to the decoder.

    Raises:
        UserError: if the data chunk declares more or fewer bytes than there are, or is missing.

    Source: Multimedia Programming Interface and Data Specifications 1.0 (IBM and Microsoft, 1991), chapter 2.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] not in (b"RIFF", b"RIFX"):
            return
        order = "<" if head[:4] == b"RIFF" else ">"
        if len(head) < 12 or head[8:] != b"WAVE":
            raise UserError(f"{path}: the RIFF header is cut off or is not that of a WAV file", fix=_FIX)
        declared = 8 + struct.unpack(f"{order}I", head[4:8])[0]
        _walk(path, file, size, order)
    if declared > size + 1:  # + 1: the padding byte of an odd chunk is often left out
        raise UserError(f"{path}: the header declares {declared} bytes but the file has {size}", fix=_FIX)


def _walk(path: Path, file: BinaryIO, size: int, order: str) -> None:
    """Every chunk must lie in the file, one of them must be `data`, and nothing may be left over."""
    position = 12
    names: set[bytes] = set()
    while size - position > 1:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8 or not _CHUNK_NAME.fullmatch(head[:4]):
            _raise_left_over(path, size - position, names)
        declared = struct.unpack(f"{order}I", head[4:])[0]
        present = size - position - 8
        if declared > present:
            if head[:4] != b"data" and b"data" in names:
                _raise_left_over(path, size - position, names)
            name = head[:4].decode("ascii").strip()
            raise UserError(f"{path}: the '{name}' chunk declares {declared} bytes but {present} follow", fix=_FIX)
        names.add(head[:4])
        position += 8 + declared + declared % 2
    if b"data" not in names:
        raise UserError(f"{path}: the WAV file has no data chunk", fix=_FIX)


def _raise_left_over(path: Path, count: int, names: set[bytes]) -> None:
    after = "the end its 'data' chunk declares" if b"data" in names else "its last readable chunk"
    raise UserError(f"{path}: {count} bytes stand after {after}", fix=_FIX)
