"""Finding recordings on disk: what can be used, and what is left out, with the reason."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from kd_asr_slr.corpora.media import read_header
from kd_asr_slr.corpora.schema import SPLIT_ORDER, check_rows
from kd_asr_slr.errors import UserError
from kd_asr_slr.progress import Progress

logger = logging.getLogger(__name__)

NO_SAMPLES = "has 0 samples"
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg")
UNREAD_SUFFIXES = (".mp3", ".m4a", ".mp4", ".aac", ".opus", ".wma", ".aif", ".aiff", ".webm", ".amr")


@dataclass
class Found:
    """What a loader found.

    Attributes:
        rows: usable utterances, as `schema` has them.
        problems: path -> why its recording is left out, though it should not be.
        notes: sentences about what is known to be missing, and counts of what was cleaned away.
        differences: sentences about counts that are not those of the whole corpus.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    def as_corpus(self, where: str) -> DatasetDict:
        """The rows by split; what was left out is logged.

        Raises:
            UserError: if there is no row, or a row breaks the schema.
        """
        for note in self.notes + self.differences:
            logger.info("%s", note)
        if self.problems:
            first = next(iter(self.problems.values()))
            logger.warning("%d recordings in %s are left out; first: %s", len(self.problems), where, first)
        if not self.rows:
            raise UserError(f"{where} holds no usable recording", fix="look at it with recipes/prepare_data.py")
        check_rows(self.rows, where)
        splits = {split: [row for row in self.rows if row["split"] == split] for split in SPLIT_ORDER}
        return DatasetDict({split: Dataset.from_list(part) for split, part in splits.items() if part})


def audio_files(folder: Path) -> list[Path]:
    """The recordings right in a folder, sorted by name; suffixes in any case, hidden files left aside."""
    return sorted(path for path in visible(folder) if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())


def visible(folder: Path) -> Iterator[Path]:
    """What lies in a folder, but for hidden files: Macs put a `._NAME` beside every NAME, which is no recording."""
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def unread_kinds(folders: Iterable[Path]) -> list[str]:
    """One sentence about the recordings of kinds that are not read; none where there are none."""
    kinds = Counter(path.suffix.lower() for folder in folders for path in visible(folder))
    unread = {kind: kinds[kind] for kind in UNREAD_SUFFIXES if kind in kinds}
    if not unread:
        return []
    listed = ", ".join(f"{count} {kind}" for kind, count in unread.items())
    return [f"recordings of kinds that are not read: {listed}; convert them to {' or '.join(AUDIO_SUFFIXES)}"]


def why_unusable(path: Path) -> str | None:
    """Why a recording cannot be used, as far as its header says; None where it can."""
    if path.stat().st_size == 0:
        return f"{path}: {NO_SAMPLES} (an empty file)"
    try:
        header = read_header(path)
    except UserError as error:
        return str(error)
    return f"{path}: {NO_SAMPLES}" if header.length == 0 else None


def is_empty(reason: str) -> bool:
    """Whether a recording was left out because it holds nothing, by its reason."""
    return NO_SAMPLES in reason


def usable(paths: Iterable[Path], found: Found) -> Iterator[Path]:
    """Those of the recordings whose header is whole; the others go to `found.problems`."""
    for path in Progress(list(paths), "reading headers", "file"):
        reason = why_unusable(path)
        if reason is None:
            yield path
        else:
            found.problems[str(path)] = reason


def counted(reasons: Mapping[str, int] | Counter[str], what: str) -> list[str]:
    """One sentence for each reason that something was left out.

    Example:
        >>> counted({"no prompt": 2}, "recordings")
        ['2 recordings left out: no prompt']
    """
    return [f"{count} {what} left out: {reason}" for reason, count in sorted(reasons.items()) if count]
