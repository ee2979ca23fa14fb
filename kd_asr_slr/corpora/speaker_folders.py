"""A folder per speaker: `<root>/<speaker>/*.wav`, each with its text in `<stem>.txt`, or all in one table.

The table is `transcripts.tsv` (or .csv) in the root or in a speaker's folder, with the columns `file` and `text`. A
share of each speaker's recordings tunes, another one tests, by the names of the files; or hold a speaker out.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from kd_asr_slr.corpora.recordings import Found, audio_files, unread_kinds, usable, visible
from kd_asr_slr.corpora.schema import namespaced
from kd_asr_slr.corpora.speaker_shares import utterances_for_dev
from kd_asr_slr.corpora.synthetic import number_problem, parse_options
from kd_asr_slr.errors import UserError

CORPUS = "speaker_folders"
TABLES = ("transcripts.tsv", "transcripts.csv")
TEXT_SUFFIXES = (".txt", ".TXT")
LISTED = 5


@dataclass(frozen=True)
class FolderOptions:
    """Settings of the loader: shares of each speaker's recordings that tune and that test."""

    dev_share: float = 0.1
    test_share: float = 0.1

    def problems(self) -> list[str]:
        """One sentence for each value that cannot be used."""
        return [problem for name in ("dev_share", "test_share") for problem in self._share_problem(name)]

    def _share_problem(self, name: str) -> list[str]:
        return number_problem(name, getattr(self, name), 0.0, 0.9)


def load(*, name: str | None, root: str | Path | None, options: dict[str, Any], **unused: Any) -> DatasetDict:
    """Load a folder per speaker.

    Args:
        name: namespace of the speakers; the root's name by default.
        root: the folder of the speakers' folders.
        options: see `FolderOptions`.
        **unused: settings of other corpora.

    Raises:
        UserError: if there are no recordings, or some have no text.

    Example:
        >>> corpus = load(name="clinic", root="recordings", options={})  # doctest: +SKIP
    """
    return survey(name=name, root=root, options=options).as_corpus(f"the recordings in {root}")


def survey(*, name: str | None, root: str | Path | None, options: dict[str, Any], **unused: Any) -> Found:
    """What is there: usable rows, and what is left out with its reason; see `load`.

    Raises:
        UserError: if there is no folder, no recording in it, or a recording without a text.
    """
    chosen = parse_options(FolderOptions, options, CORPUS)
    if root is None or not Path(root).is_dir():
        raise UserError(f"there is no folder {root}", expected="a folder per speaker", fix="set --data_dir")
    folder = Path(root)
    texts, found = _texts(folder), Found()
    inside = [path for path in sorted(visible(folder)) if path.is_dir()]
    found.differences = unread_kinds(inside)
    rows = []
    for speaker in (path for path in inside if audio_files(path)):
        own = {**texts, **_texts(speaker, f"{speaker.name}/")}
        rows += [_row(path, own, name or folder.resolve().name) for path in usable(audio_files(speaker), found)]
    if not rows:
        raise UserError(
            "; ".join([f"{folder} holds no recordings that can be used", *found.differences]),
            expected=f"{folder}/<speaker>/<name>.wav",
            fix="set --data_dir",
        )
    silent = [row["id"] for row in rows if row["text"] is None]
    if silent:
        raise UserError(
            f"{len(silent)} recordings in {folder} have no text: {', '.join(silent[:LISTED])}",
            expected="a text for each",
            fix=f"write <name>.txt beside each, or {TABLES[0]} with the columns file (<speaker>/<name>.wav) and text",
        )
    found.rows = _divided(rows, chosen)
    return found


def _divided(rows: list[dict[str, Any]], chosen: FolderOptions) -> list[dict[str, Any]]:
    tested = utterances_for_dev([(row["speaker"], row["id"]) for row in rows], chosen.test_share)
    left = [(row["speaker"], row["id"]) for row in rows if row["id"] not in tested]
    tuned = utterances_for_dev(left, chosen.dev_share)
    return [
        row | {"split": "test" if row["id"] in tested else "dev" if row["id"] in tuned else "train"} for row in rows
    ]


def _row(path: Path, texts: dict[str, str], name: str) -> dict[str, Any]:
    key = f"{path.parent.name}/{path.name}"
    text = texts.get(key, texts.get(f"{path.parent.name}/{path.stem}"))
    beside = (path.with_suffix(suffix) for suffix in TEXT_SUFFIXES)
    if text is None and (found := next((text for text in beside if text.is_file()), None)):
        text = found.read_text(encoding="utf-8-sig", errors="replace").strip()
    return {
        "id": f"{path.parent.name}-{path.stem}",
        "split": "train",
        "speaker": namespaced(path.parent.name, name),
        "text": text or None,
        "audio": str(path),
    }


def _texts(folder: Path, prefix: str = "") -> dict[str, str]:
    """<speaker>/<file> -> text, of the table in a folder; empty where it has none."""
    for table in (folder / name for name in TABLES):
        if table.is_file():
            return _read_table(table, prefix)
    return {}


def _read_table(table: Path, prefix: str) -> dict[str, str]:
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{table} cannot be read ({error})", expected="UTF-8 text") from error
    reader = csv.DictReader(lines, delimiter="," if table.suffix == ".csv" else "\t")
    missing = [name for name in ("file", "text") if name not in (reader.fieldnames or [])]
    if missing:
        raise UserError(f"{table} has no column {' and no '.join(missing)}", expected="the columns file and text")
    return {f"{prefix}{row['file']}".replace("\\", "/"): (row["text"] or "").strip() for row in reader}
