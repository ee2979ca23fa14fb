"""Any corpus as a list of files: CSV or JSON lines with id, path, text, speaker and split."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features, Value

from kd_asr_slr.corpora.collisions import collisions
from kd_asr_slr.corpora.schema import (
    EXTRAS,
    MEDIA,
    REQUIRED,
    SPLIT_ORDER,
    SUFFIXES,
    UNTRANSCRIBED,
    check_corpus_name,
    did_you_mean,
    namespaced,
    row_problems,
    shortened,
    unknown_columns,
)
from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.files import write_text

MANIFEST_COLUMNS = ("id", "path", "text", "speaker", "split")
_VALUES = {str: Value("string"), float: Value("float64"), int: Value("int64")}
_EXAMPLE = "a CSV file with the header id,path,text,speaker,split, or a JSONL file with these keys"


@dataclass
class _Table:
    """The manifest as read: raw values by column, and the line each row starts on."""

    columns: dict[str, list[Any]]
    lines: list[int]

    @property
    def places(self) -> list[str]:
        return [f"line {line}" for line in self.lines]


def load_manifest(
    path: str | Path, name: str, root: str | Path | None = None, untranscribed: bool = False
) -> DatasetDict:
    """Read a manifest into one dataset a split.

    Args:
        path: a `.csv` file (UTF-8, commas, quoted texts) or a `.jsonl` file (one object a line) with `id`, `path`,
            `text`, `speaker`, `split`, the known extras of `schema.EXTRAS`, and private columns named `x_...`.
        name: name of the corpus; put before every speaker that has no namespace yet.
        root: folder the paths are relative to; the manifest's own folder by default.
        untranscribed: whether all of it is the split "untranscribed", without text, whatever stands in the file.

    Returns:
        Splits in the order train, dev, test, others. The file's path is in `audio` (.wav .flac .ogg) or in
        `features` (.npz .npy .pose). The files themselves are not opened; `media.check_media` does that.

    Raises:
        UserError: with every problem of the manifest, by line.

    Example:
        >>> corpus = load_manifest("fsdd/manifest.csv", name="fsdd")
        >>> corpus["train"][0]["speaker"]
        'fsdd/jackson'
    """
    path = Path(path)
    check_corpus_name(name)
    where = f"the manifest {path}"
    table = _read(path, where)
    if untranscribed:
        fixed = {"text": "", "split": UNTRANSCRIBED}
        table.columns |= {column: [value] * len(table.lines) for column, value in fixed.items()}
    raise_all(_header_problems(table), where)
    kinds = [_media_kind(value) for value in table.columns["path"]]
    columns, extra_problems = _typed_extras(table)
    columns |= {column: _as_texts(table.columns[column]) for column in MANIFEST_COLUMNS}
    problems = row_problems(columns, table.places)
    problems += _path_problems(table, kinds) + extra_problems
    problems += collisions(columns["speaker"], columns["path"], table.places, name)
    raise_all(shortened(problems), where)
    base = Path(root) if root is not None else path.parent
    return _as_datasets(columns, kinds[0] or "features", name, base)


def save_manifest(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as a manifest that `load_manifest` reads back; files in or below its folder get relative paths.

    Args:
        path: a `.csv` file; its folder is made where there is none.
        rows: with `id`, `split`, `speaker`, `text`, `audio` or `features`, and known extras.

    Raises:
        UserError: if the path is no .csv file, there is no row, or the file cannot be written.

    Example:
        >>> save_manifest("phoenix/manifest.csv", corpus["train"].to_list() + corpus["dev"].to_list())
    """
    path = Path(path)
    if path.suffix.lower() != ".csv":
        raise UserError(f"the manifest {path} ends in '{path.suffix}'", expected="a .csv file")
    if not rows:
        raise UserError(f"there is no row for the manifest {path}", expected="at least one usable file")
    names = dict.fromkeys(name for row in rows for name in row if name not in (*MANIFEST_COLUMNS, *MEDIA))
    content = io.StringIO(newline="")
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow([*MANIFEST_COLUMNS, *names])
    for row in rows:
        media = _relative(row.get("audio") or row["features"], path.parent)
        cells = [row["id"], media, row["text"], row["speaker"], row["split"], *(row.get(name) for name in names)]
        writer.writerow(["" if cell is None else cell for cell in cells])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_text(path, content.getvalue())
    except OSError as error:
        raise UserError(f"the manifest {path} cannot be written ({error.strerror})", fix="check its folder") from error


def _relative(media: str, folder: Path) -> str:
    place, base = Path(os.path.abspath(media)), Path(os.path.abspath(folder))
    return place.relative_to(base).as_posix() if place.is_relative_to(base) else str(place)


def _read(path: Path, where: str) -> _Table:
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{where} ends in '{path.suffix}'", expected=_EXAMPLE, fix="convert it to .csv or .jsonl")
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{where} {found}", expected=_EXAMPLE, fix="check the path")
    content = _decoded(path, where)
    if not content.strip():
        raise UserError(f"{where} is empty", expected=_EXAMPLE, fix="write one row an utterance")
    table = reader(content, where)
    if not table.lines:
        raise UserError(f"{where} has a header but no row", expected=_EXAMPLE, fix="write one row an utterance")
    return table


def _decoded(path: Path, where: str) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where} is not UTF-8 (byte {error.start})", expected="UTF-8 text", fix="save it again as UTF-8"
        ) from error
    except OSError as error:
        raise UserError(f"{where} cannot be read ({error.strerror})", fix="check the file's rights") from error


def _read_csv(content: str, where: str) -> _Table:
    # strict: an unclosed quote is an error instead of one endless field
    rows = _csv_rows(content, where)
    _, header = next(rows)
    header = [cell.strip() for cell in header]
    _check_delimiter(header, where)
    repeated = [name for name, count in Counter(header).items() if count > 1]
    raise_all([f"column '{name}' stands in the header more than once" for name in repeated], where)
    table = _Table({name: [] for name in header}, [])
    problems = []
    for line, row in rows:
        if len(row) != len(header):
            problems.append(
                f"line {line}: {len(row)} fields, but the header has {len(header)}; a text with a comma needs quotes"
            )
            continue
        table.lines.append(line)
        for name, cell in zip(header, row, strict=True):
            table.columns[name].append(cell)
    raise_all(shortened(problems), where)
    return table


def _csv_rows(content: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the number of the line it starts on."""
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    start = 1
    try:
        for row in reader:
            if row:
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


def _read_jsonl(content: str, where: str) -> _Table:
    records: list[dict[str, Any]] = []
    lines: list[int] = []
    problems = []
    # not splitlines(): it would also cut at the line separators a JSON text may hold
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            problems.append(f"line {number}: not valid JSON ({error.msg}, column {error.colno})")
            continue
        if not isinstance(record, dict):
            problems.append(f'line {number}: expected an object such as {{"id": ...}}, found {line.strip()[:40]}')
            continue
        records.append(record)
        lines.append(number)
    raise_all(shortened(problems), where)
    names = dict.fromkeys(name for record in records for name in record)
    return _Table({name: [record.get(name) for record in records] for name in names}, lines)


def _header_problems(table: _Table) -> list[str]:
    unknown = [name for name in table.columns if name not in MANIFEST_COLUMNS]
    missing = [name for name in MANIFEST_COLUMNS if name not in table.columns]
    problems = []
    for name in missing:
        hint = ""
        if name == "split":
            hint = "; give every row train, dev or test"
        problems.append(f"column '{name}' is missing{did_you_mean(name, unknown)}{hint}")
    return problems + unknown_columns(unknown, MANIFEST_COLUMNS)


def _as_texts(values: Sequence[Any]) -> list[Any]:
    """The values as they are, but whole numbers of JSON (speaker 3) as texts."""
    return [str(value) if isinstance(value, int) and not isinstance(value, bool) else value for value in values]


def _media_kind(path: Any) -> str | None:
    return SUFFIXES.get(Path(path).suffix.lower()) if isinstance(path, str) else None


def _path_problems(table: _Table, kinds: Sequence[str | None]) -> list[str]:
    problems = []
    for line, path, kind in zip(table.lines, table.columns["path"], kinds, strict=True):
        if isinstance(path, str) and path.strip() and kind is None:
            known = " ".join(SUFFIXES)
            problems.append(f"line {line}: the file '{path}' has an unknown suffix; known suffixes: {known}")
    counts = Counter(kind for kind in kinds if kind)
    if len(counts) > 1:
        examples = [f"{counts[kind]} {kind} files (first on line {table.lines[kinds.index(kind)]})" for kind in counts]
        problems.append(f"audio and features are mixed: {' and '.join(examples)}; use one manifest for each")
    return problems


def _typed_extras(table: _Table) -> tuple[dict[str, list[Any]], list[str]]:
    columns: dict[str, list[Any]] = {}
    problems: list[str] = []
    for name, values in table.columns.items():
        if name in MANIFEST_COLUMNS:
            continue
        kind = EXTRAS.get(name, str)
        columns[name] = []
        for line, value in zip(table.lines, values, strict=True):
            try:
                columns[name].append(_typed(value, kind))
            except ValueError:
                problems.append(f"line {line}: '{name}' is {value!r}, not {_KIND_WORDS[kind]}")
    return columns, problems


_KIND_WORDS = {str: "a text", float: "a number", int: "a whole number"}


def _typed(value: Any, kind: type) -> Any:
    """The value as its column's type; None where it is blank. Raises ValueError where it is something else."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, (bool, list, dict)):
        raise ValueError(value)
    typed = kind(value.strip() if isinstance(value, str) else value)
    if kind is float and not math.isfinite(typed):
        raise ValueError(value)
    return typed


def _as_datasets(columns: dict[str, list[Any]], media: str, name: str, base: Path) -> DatasetDict:
    columns = dict(columns)
    columns[media] = [os.path.abspath(base / path) for path in columns.pop("path")]
    columns["speaker"] = [namespaced(speaker, name) for speaker in columns["speaker"]]
    columns["text"] = [text.strip() for text in columns["text"]]
    order = [*REQUIRED, media, *(column for column in columns if column not in REQUIRED and column != media)]
    features = Features({column: _VALUES[EXTRAS.get(column, str)] for column in order})
    whole = Dataset.from_dict({column: columns[column] for column in order}, features=features)
    splits = list(dict.fromkeys(columns["split"]))
    splits.sort(key=lambda split: SPLIT_ORDER.index(split) if split in SPLIT_ORDER else len(SPLIT_ORDER))
    rows: dict[str, list[int]] = {split: [] for split in splits}
    for index, split in enumerate(columns["split"]):
        rows[split].append(index)
    return DatasetDict({split: whole.select(indices) for split, indices in rows.items()})
