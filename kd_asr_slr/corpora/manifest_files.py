"""Reading a manifest's file a batch of rows at a time, each row with the line it starts on: CSV and JSON lines."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from kd_asr_slr.corpora.row_files import BATCH
from kd_asr_slr.corpora.schema import Findings
from kd_asr_slr.errors import UserError, raise_all

EXAMPLE = "a CSV file with the header id,path,text,speaker,split, or a JSONL file with these keys"


@dataclass
class Batch:
    """Some rows as they were read.

    Attributes:
        columns: raw values by column.
        lines: the line each row starts on.
        problems: sentences about lines that are no row.
    """

    columns: dict[str, list[Any]]
    lines: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def places(self) -> list[str]:
        """How each row is named in a message."""
        return [f"line {line}" for line in self.lines]


@dataclass(frozen=True)
class ManifestFile:
    """A manifest that can be read as often as is needed.

    Attributes:
        columns: names of its columns.
        batches: reads it from its beginning.
    """

    columns: list[str]
    batches: Callable[[], Iterator[Batch]]


def open_manifest(path: Path, where: str) -> ManifestFile:
    """Look at a manifest: that it can be read, and which columns it has.

    Args:
        path: a .csv or .jsonl file.
        where: what it is called in messages.

    Raises:
        UserError: if there is no such file, it is empty or not UTF-8, its header or (JSONL) one of its lines cannot be
            read.
    """
    openers = {".csv": _open_csv, ".jsonl": _open_jsonl}
    opener = openers.get(path.suffix.lower())
    if opener is None:
        raise UserError(f"{where} ends in '{path.suffix}'", expected=EXAMPLE, fix="convert it to .csv or .jsonl")
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{where} {found}", expected=EXAMPLE, fix="check the path")
    return opener(path, where)


@contextmanager
def _text(path: Path, where: str, newline: str) -> Iterator[TextIO]:
    """The file's text, with or without a byte order mark."""
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as stream:
            yield stream
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where} is not UTF-8 (byte {_first_bad_byte(path)})", expected="UTF-8 text", fix="save it again as UTF-8"
        ) from error
    except OSError as error:
        raise UserError(f"{where} cannot be read ({error.strerror})", fix="check the file's rights") from error


def _first_bad_byte(path: Path) -> int:
    """Its place in the file; the error of a stream counts from the block it has just read."""
    place = 0
    with path.open("rb") as stream:
        for line in stream:
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return place + error.start
            place += len(line)
    return place


def _open_csv(path: Path, where: str) -> ManifestFile:
    with _text(path, where, newline="") as stream:
        header = next((row for _, row in _csv_rows(stream, where)), None)
    if header is None:
        raise _empty(where)
    header = [cell.strip() for cell in header]
    _check_delimiter(header, where)
    repeated = [name for name, count in Counter(header).items() if count > 1]
    raise_all([f"column '{name}' stands in the header more than once" for name in repeated], where)
    return ManifestFile(header, lambda: _csv_batches(path, where, header))


def _csv_batches(path: Path, where: str, header: Sequence[str]) -> Iterator[Batch]:
    with _text(path, where, newline="") as stream:
        rows = _csv_rows(stream, where)
        next(rows)  # the header
        batch = Batch({name: [] for name in header})
        for line, row in rows:
            if len(row) == len(header):
                batch.lines.append(line)
                for name, cell in zip(header, row, strict=True):
                    batch.columns[name].append(cell)
            else:
                found = f"{len(row)} fields, but the header has {len(header)}; a text with a comma needs quotes"
                batch.problems.append(f"line {line}: {found}")
            if len(batch.lines) + len(batch.problems) == BATCH:
                yield batch
                batch = Batch({name: [] for name in header})
        yield batch


def _csv_rows(stream: TextIO, where: str) -> Iterator[tuple[int, list[str]]]:
    """The header and the rows that are not blank, each with the number of the line it starts on."""
    # strict: an unclosed quote is an error instead of one endless field
    reader = csv.reader(stream, strict=True)
    start, found = 1, False
    try:
        for row in reader:
            if row and (found := found or len(row) > 1 or bool(row[0].strip())):  # blanks before the header are none
                yield start, row
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{where}: line {start} cannot be read as CSV ({error})",
            expected="commas between fields and double quotes around a text with a comma",
            fix="close the quotes on that line, and write a quote inside a text twice",
        ) from error


def _check_delimiter(header: Sequence[str], where: str) -> None:
    for delimiter, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(header) == 1 and delimiter in header[0]:
            raise UserError(f"{where} has {word} between its columns", expected="commas", fix="save it with commas")


def _open_jsonl(path: Path, where: str) -> ManifestFile:
    names: dict[str, None] = {}
    problems, found = Findings(), False
    for number, record in _json_lines(path, where):
        found = True
        if isinstance(record, dict):
            names |= dict.fromkeys(record)
        else:
            problems.add([f"line {number}: {record}"])
    if not found:
        raise _empty(where)
    raise_all(problems.sentences(), where)
    return ManifestFile(list(names), lambda: _jsonl_batches(path, where, list(names)))


def _jsonl_batches(path: Path, where: str, names: Sequence[str]) -> Iterator[Batch]:
    batch = Batch({name: [] for name in names})
    for number, record in _json_lines(path, where):
        if not isinstance(record, dict):
            continue  # refused when the file was opened
        batch.lines.append(number)
        for name in names:
            batch.columns[name].append(record.get(name))
        if len(batch.lines) == BATCH:
            yield batch
            batch = Batch({name: [] for name in names})
    yield batch


def _json_lines(path: Path, where: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The number of every line that is not blank, and its object, or what is wrong with it."""
    # cut at line feeds only: a JSON text may hold the other separators of lines
    with _text(path, where, newline="\n") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line.removesuffix("\n"))
            except json.JSONDecodeError as error:
                yield number, f"not valid JSON ({error.msg}, column {error.colno})"
                continue
            if isinstance(record, dict):
                yield number, record
            else:
                yield number, f'expected an object such as {{"id": ...}}, found {line.strip()[:40]}'


def _empty(where: str) -> UserError:
    return UserError(f"{where} is empty", expected=EXAMPLE, fix="write one row an utterance")
