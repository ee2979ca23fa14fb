"""Whom and what a run has heard, kept in its folder: so that a later run knows what this one can teach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from kd_asr_slr.arguments import DataArguments
from kd_asr_slr.command_line import as_dict
from kd_asr_slr.corpora.schema import UNTRANSCRIBED
from kd_asr_slr.errors import UserError
from kd_asr_slr.files import plain, read_json, sha256_of_file, write_json
from kd_asr_slr.training.data import corpus_name

NAME = "training_data.json"
SCHEMA = 1


@dataclass(frozen=True)
class TrainingData:
    """`training_data.json` of a run folder.

    Attributes:
        corpus: what tells the corpus from others (see `identity_of`).
        normaliser: of the transcripts.
        speakers: whose transcribed recordings the run was trained on.
        inherited_speakers: whom the network that it started from and its teachers had been trained on, as far as
            their folders say so.
        transcripts: every text of the training split once, sorted.
        schema: version of the file.
    """

    corpus: dict[str, Any]
    normaliser: str
    speakers: list[str]
    inherited_speakers: list[str]
    transcripts: list[str]
    schema: int = SCHEMA

    @property
    def heard(self) -> frozenset[str]:
        """Everyone whose transcripts had a part in the run."""
        return frozenset(self.speakers) | frozenset(self.inherited_speakers)


def identity_of(data: DataArguments) -> dict[str, Any]:
    """What tells a corpus from others: its kind, the namespace of its speakers, its options, its manifest's content.

    Folders are left out: a corpus that was moved is the same one.
    """
    manifest = sha256_of_file(Path(data.manifest)) if data.manifest else None
    options = plain(as_dict(data.corpus_options))
    return {"corpus": data.corpus, "name": corpus_name(data), "options": options, "manifest_sha256": manifest}


def record_training_data(
    folder: str | Path, rows: Dataset, data: DataArguments, ancestors: Iterable[str] = ()
) -> TrainingData:
    """Write `training_data.json` into a run folder.

    Args:
        folder: of the run.
        rows: what it was trained on; untranscribed recordings are left out.
        data: its data arguments.
        ancestors: run folders of the network it started from and of its teachers; what is no folder is passed over.
    """
    if UNTRANSCRIBED in rows.column_names:
        secret = rows[UNTRANSCRIBED]
        rows = rows.select([index for index, hidden in enumerate(secret) if not hidden])
    known = [record for path in ancestors if (record := read_training_data(path)) is not None]
    record = TrainingData(
        corpus=identity_of(data),
        normaliser=data.normaliser,
        speakers=sorted(set(rows["speaker"])),
        inherited_speakers=sorted(frozenset().union(*(item.heard for item in known))),
        transcripts=sorted(set(rows["text"])),
    )
    write_json(Path(folder) / NAME, asdict(record))
    return record


def read_training_data(folder: str | Path) -> TrainingData | None:
    """What a run was trained on; None where its folder does not say (an older run, a name on the hub).

    Raises:
        UserError: if the file is damaged.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        record = TrainingData(**content)
    except TypeError:
        record = None
    if record is None or record.schema != SCHEMA:
        raise UserError(f"{path} is damaged, or of another version", fix="train this run again, or remove the file")
    return record


def ancestors_of(config: Mapping[str, Any], teachers: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """The runs that a run stands on: the one it started from, and its teachers.

    Args:
        config: its resolved configuration.
        teachers: as results.json names them.
    """
    return [path for path in (config.get("model"), *(teacher["name"] for teacher in teachers)) if path]
