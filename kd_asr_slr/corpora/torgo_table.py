"""The hub's copy of TORGO: a table with `transcription`, `speech_status` and audio files named after their origin.

A name such as `unknown_1a2b3c_F03_Session2_headMic_0012.wav` is all that says who speaks, when, and into which
microphone. Audio inside of the table is written beside it once, because every corpus here points at files.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_asr_slr.errors import UserError

NAME = re.compile(
    r"(?:.*_)?(?P<speaker>[FM]C?[0-9]{2})_(?P<session>[A-Za-z]*[0-9]+(?:_[0-9]+)*)_(?P<microphone>[A-Za-z]\w*)"
    r"_(?P<number>[0-9]+)"
)
MICROPHONES = re.compile("head|array", re.IGNORECASE)
EXTRACTED = "audio"


@dataclass(frozen=True)
class Recording:
    """One recording before it is cleaned: whose, of which session and prompt, by which microphone."""

    path: Path
    speaker: str
    session: str
    number: str
    microphone: str
    prompt: str | None

    @property
    def utterance(self) -> str:
        """What both microphones heard: one utterance."""
        return f"{self.speaker}_{self.session}_{self.number}"


def find_table(folder: Path) -> Path | None:
    """The table of a hub copy: parquet files, a CSV beside the audio, or a dataset saved to disk; None without one."""
    if (folder / "dataset_info.json").is_file() or (folder / "dataset_dict.json").is_file():
        return folder
    for pattern in ("**/*.parquet", "metadata.csv", "*.csv", "*/metadata.csv"):
        found = sorted(folder.glob(pattern))
        if found:
            return found[0].parent if pattern.endswith("parquet") else found[0]
    return None


def read_table(table: Path, folder: Path) -> list[Recording]:
    """The recordings of a hub copy.

    Args:
        table: from `find_table`.
        folder: where audio that is inside of the table is written, under `audio`.

    Raises:
        UserError: if columns are missing, or a name does not tell the speaker.
    """
    recordings, unreadable = [], []
    for row in _rows(table):
        missing = [name for name in ("transcription", "audio") if row.get(name) is None]
        if missing:
            columns = ", ".join(map(str, row))
            raise UserError(f"{table} has the columns {columns}", expected="transcription, speech_status and audio")
        name = row["audio"]["path"] if isinstance(row["audio"], dict) else row["audio"]
        match = NAME.fullmatch(Path(name or "").stem)
        if match is None or (microphone := MICROPHONES.search(match["microphone"])) is None:
            unreadable.append(name or "(no name)")
            continue
        path = _audio(row["audio"], table if table.is_dir() else table.parent, folder)
        number = re.sub("^[A-Za-z]+", "", match["session"])
        recordings.append(
            Recording(
                path,
                match["speaker"],
                f"Session{number}",
                match["number"],
                microphone[0].lower(),
                str(row["transcription"]),
            )
        )
    if unreadable:
        raise UserError(
            f"{len(unreadable)} names in {table} do not tell the speaker, e.g. {unreadable[0]}",
            expected="unknown_<hash>_<speaker>_<session>_<microphone>_<number>.wav",
        )
    return recordings


def _rows(table: Path) -> Iterator[Mapping[str, Any]]:
    if table.suffix == ".csv":
        with table.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                yield {**row, "audio": row.get("audio") or row.get("file_name") or row.get("path")}
        return
    yield from _dataset(table)


def _dataset(table: Path) -> Iterator[Mapping[str, Any]]:
    from datasets import Audio, Dataset, DatasetDict, concatenate_datasets, load_from_disk

    if list(table.glob("*.parquet")):
        data = concatenate_datasets([Dataset.from_parquet(str(path)) for path in sorted(table.rglob("*.parquet"))])
    else:
        loaded = load_from_disk(str(table))
        data = concatenate_datasets(list(loaded.values())) if isinstance(loaded, DatasetDict) else loaded
    if "audio" in data.features and isinstance(data.features["audio"], Audio):
        data = data.cast_column("audio", Audio(decode=False))
    yield from data


def _audio(value: Any, beside: Path, folder: Path) -> Path:
    """The file of a row: named by it, or written once from the bytes that the table holds."""
    name, content = (value["path"], value.get("bytes")) if isinstance(value, dict) else (value, None)
    if content is None:
        path = Path(name)
        return path if path.is_absolute() else beside / path
    target = folder / EXTRACTED / Path(name).name
    if not target.is_file() or target.stat().st_size != len(content):
        target.parent.mkdir(exist_ok=True)
        partial = target.with_suffix(".partial")
        partial.write_bytes(content)
        partial.replace(target)
    return target
