"""Any corpus as a list of files: CSV or JSON lines with id, path, text, speaker and split."""

from __future__ import annotations

import csv
import io
import math
import os
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Features, Value

from kd_asr_slr.corpora.collisions import Collisions
from kd_asr_slr.corpora.manifest_files import EXAMPLE, Batch, ManifestFile, open_manifest
from kd_asr_slr.corpora.row_files import RowFile, rows_where
from kd_asr_slr.corpora.schema import (
    EXTRAS,
    MEDIA,
    REQUIRED,
    SPLIT_ORDER,
    SUFFIXES,
    UNTRANSCRIBED,
    Findings,
    check_corpus_name,
    did_you_mean,
    duplicate_ids,
    namespaced,
    unknown_columns,
    value_problems,
)
from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.files import write_text

MANIFEST_COLUMNS = ("id", "path", "text", "speaker", "split")
_VALUES = {str: Value("string"), float: Value("float64"), int: Value("int64")}


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
        `features` (.npz .npy .pose). The files themselves are not opened; `media_check.check_media` does that.

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
    file = open_manifest(path, where)
    fixed = {"text": "", "split": UNTRANSCRIBED} if untranscribed else {}
    columns = list(dict.fromkeys([*file.columns, *fixed]))
    raise_all(_header_problems(columns), where)
    base = Path(root) if root is not None else path.parent
    reading = _Reading(columns, name, base)
    try:
        for batch in file.batches():
            batch.columns |= {column: [value] * len(batch.lines) for column, value in fixed.items()}
            reading.add(batch)
        raise_all(reading.problems(file), where)
        if reading.file is None:
            raise UserError(f"{where} has a header but no row", expected=EXAMPLE, fix="write one row an utterance")
        return _by_split(reading.file.close())
    except BaseException:
        if reading.file is not None:
            reading.file.discard()
        raise


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


class _Reading:
    """A manifest while it is read: its rows go to a file batch by batch, and what is wrong with them is collected.

    Of a row nothing stays in memory but eight bytes, by which ids that come twice are suspected.
    """

    def __init__(self, columns: Sequence[str], name: str, base: Path) -> None:
        self.file: RowFile | None = None
        self._extras = [column for column in columns if column not in MANIFEST_COLUMNS]
        self._name = name
        self._base = base
        self._findings = Findings()
        self._collisions = Collisions(name)
        self._kinds: dict[str, list[int]] = {}  # audio or features -> number of files, first line
        self._ids = array("q")

    def add(self, batch: Batch) -> None:
        """Check some rows and write them, unless something is wrong with the manifest."""
        columns, problems = _typed_extras(batch, self._extras)
        columns |= {column: _as_texts(batch.columns[column]) for column in MANIFEST_COLUMNS}
        self._findings.add(batch.problems + value_problems(columns, batch.places) + self._path_problems(batch))
        self._findings.add(problems)
        self._collisions.add(columns["speaker"], columns["path"], batch.places)
        self._ids.extend(hash(value) for value in columns["id"] if isinstance(value, str))
        if batch.lines and not self._findings.count:
            media = next(iter(self._kinds))
            self.file = self.file or RowFile(_features(media, self._extras))
            self.file.write(self._as_rows(columns, media))

    def problems(self, file: ManifestFile) -> list[str]:
        """What is wrong, once all rows have been seen; where ids may come twice, `file` is read again."""
        if repeated := _repeated(self._ids):
            found = [
                (value, f"line {line}")
                for batch in file.batches()
                for value, line in zip(_as_texts(batch.columns["id"]), batch.lines, strict=True)
                if isinstance(value, str) and hash(value) in repeated
            ]
            self._findings.add(duplicate_ids([value for value, _ in found], [place for _, place in found]))
        if len(self._kinds) > 1:
            examples = [f"{count} {kind} files (first on line {line})" for kind, (count, line) in self._kinds.items()]
            mixed = f"audio and features are mixed: {' and '.join(examples)}; use one manifest for each"
            self._findings.add([mixed])
        self._findings.add(self._collisions.sentences())
        return self._findings.sentences()

    def _path_problems(self, batch: Batch) -> list[str]:
        problems = []
        for line, path in zip(batch.lines, batch.columns["path"], strict=True):
            kind = SUFFIXES.get(os.path.splitext(path)[1].lower()) if isinstance(path, str) else None
            if kind is not None:
                self._kinds.setdefault(kind, [0, line])[0] += 1
            elif isinstance(path, str) and path.strip():
                known = " ".join(SUFFIXES)
                problems.append(f"line {line}: the file '{path}' has an unknown suffix; known suffixes: {known}")
        return problems

    def _as_rows(self, columns: Mapping[str, list[Any]], media: str) -> dict[str, list[Any]]:
        return {
            **columns,
            media: [os.path.abspath(os.path.join(self._base, path)) for path in columns["path"]],
            "speaker": [namespaced(speaker, self._name) for speaker in columns["speaker"]],
            "text": [text.strip() for text in columns["text"]],
        }


def _features(media: str, extras: Sequence[str]) -> Features:
    return Features({column: _VALUES[EXTRAS.get(column, str)] for column in (*REQUIRED, media, *extras)})


def _repeated(hashes: array[int]) -> set[int]:
    ordered = np.sort(np.frombuffer(hashes, dtype=np.int64)) if hashes else np.zeros(0, np.int64)
    return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def _header_problems(columns: Sequence[str]) -> list[str]:
    unknown = [name for name in columns if name not in MANIFEST_COLUMNS]
    missing = [name for name in MANIFEST_COLUMNS if name not in columns]
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


def _typed_extras(batch: Batch, names: Sequence[str]) -> tuple[dict[str, list[Any]], list[str]]:
    columns: dict[str, list[Any]] = {}
    problems: list[str] = []
    for name in names:
        kind = EXTRAS.get(name, str)
        columns[name] = []
        for line, value in zip(batch.lines, batch.columns[name], strict=True):
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


def _by_split(rows: Dataset) -> DatasetDict:
    splits = rows.unique("split")
    splits.sort(key=lambda split: SPLIT_ORDER.index(split) if split in SPLIT_ORDER else len(SPLIT_ORDER))
    return DatasetDict({split: rows_where(rows, "split", [split]) for split in splits})
