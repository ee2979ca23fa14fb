"""Small copies of UASpeech and TORGO in the layouts of the releases, with the real words."""

from __future__ import annotations

import csv
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import soundfile

SHEET = "Word_filename"


def write_tone(path: Path, seconds: float = 0.5, rate: int = 8000) -> None:
    """A recording that is neither silent nor clipped; its suffix may be in capitals."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.3 * np.sin(np.arange(round(seconds * rate)) * 0.2 + len(path.name))
    soundfile.write(path, tone, rate, subtype="PCM_16", format="WAV")


def real_words(shared: Path) -> list[tuple[str, str, str]]:
    """(block or *, word id, word) of all 455 ids."""
    with (shared / "uaspeech" / "word_table.tsv").open(encoding="utf-8") as file:
        return [(row["block"], row["word_id"], row["word"]) for row in csv.DictReader(file, delimiter="\t")]


def release_rows(words: Iterable[tuple[str, str, str]]) -> list[tuple[str, str]]:
    """Word and file name as the release's sheet has them: ids of uncommon words carry their block."""
    return [(word, word_id if block == "*" else f"{block}_{word_id}") for block, word_id, word in words]


def write_xls(path: Path, sheets: dict[str, Sequence[Sequence[str]]]) -> None:
    """A BIFF8 stream by hand: globals with a BOUNDSHEET a sheet, then each sheet with a LABEL a cell.

    Source: OpenOffice.org's Documentation of the Microsoft Excel File Format, sections 5.8, 5.95 and 5.63.
    """

    def record(kind: int, data: bytes = b"") -> bytes:
        return struct.pack("<HH", kind, len(data)) + data

    def begin(substream: int) -> bytes:
        return record(0x0809, struct.pack("<HHHHII", 0x0600, substream, 0, 1997, 0, 6))

    def bound(name: str, offset: int) -> bytes:
        return record(0x0085, struct.pack("<IBBBB", offset, 0, 0, len(name), 0) + name.encode("latin-1"))

    def label(row: int, column: int, text: str) -> bytes:
        return record(0x0204, struct.pack("<HHHHB", row, column, 0, len(text), 0) + text.encode("latin-1"))

    end = record(0x000A)
    parts = {
        name: begin(0x0010)
        + b"".join(label(r, c, cell) for r, row in enumerate(rows) for c, cell in enumerate(row))
        + end
        for name, rows in sheets.items()
    }
    offset = len(begin(5)) + sum(len(bound(name, 0)) for name in parts) + len(end)
    head = begin(5)
    for name, part in parts.items():
        head += bound(name, offset)
        offset += len(part)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + end + b"".join(parts.values()))


def write_word_list(path: Path, shared: Path) -> None:
    """speaker_wordlist.xls: a sheet about the speakers, then WORD and FILE NAME of every id."""
    rows = [("WORD", "FILE NAME"), *release_rows(real_words(shared))]
    write_xls(path, {"Speaker": [("Speaker", "Intelligibility"), ("M04", "Very low (2%)")], SHEET: rows})


def write_labels(folder: Path, speaker: str, names: Sequence[tuple[str, str]]) -> None:
    """mlf/<SPK>/<SPK>_word.mlf with the words of some recordings."""
    lines = [line for name, word in names for line in (f'"*/{name}.lab"', word, ".")]
    (folder / speaker).mkdir(parents=True, exist_ok=True)
    (folder / speaker / f"{speaker}_word.mlf").write_text("\n".join(["#!MLF!#", *lines]) + "\n")
