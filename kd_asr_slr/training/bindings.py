"""Which folder is whose teacher: `SPEAKER=FOLDER`, a folder for everyone, or all teachers of an adaptation at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from kd_asr_slr.errors import UserError
from kd_asr_slr.files import read_json, write_json

INDEX = "adaptation.json"
INDEX_SCHEMA = 1


def bindings_of(entries: Sequence[str]) -> list[tuple[str | None, str]]:
    """(speaker, folder) of every entry of `--teachers`; the speaker is None for a teacher of everyone.

    Args:
        entries: "SPEAKER=FOLDER", "FOLDER", or the folder that recipes/adapt_teachers.py wrote, which stands for all
            teachers in it.

    Raises:
        UserError: if such a folder's index is damaged.

    Example:
        >>> bindings_of(["theo=runs/theo", "runs/generalist"])
        [('theo', 'runs/theo'), (None, 'runs/generalist')]
    """
    found: list[tuple[str | None, str]] = []
    for entry in entries:
        speaker, equals, path = entry.partition("=")
        if equals:
            found.append((speaker, path))
        elif (Path(entry) / INDEX).is_file():
            found += [(who, str(Path(entry) / name)) for who, name in read_index(entry).items()]
        else:
            found.append((None, entry))
    return found


def folder_name(speaker: str) -> str:
    """The folder of a speaker's teacher: the name without its corpus, safe for every file system.

    Example:
        >>> folder_name("uaspeech/F03"), folder_name("mine/Frau Möller")
        ('F03', 'Frau_M_ller')
    """
    return re.sub(r"[^A-Za-z0-9_.-]", "_", speaker.split("/", 1)[-1])


def write_index(folder: str | Path, generalist: str, teachers: Mapping[str, str]) -> Path:
    """Say which sub-folder is whose teacher.

    Args:
        folder: of the adaptation.
        generalist: the run that all were adapted from.
        teachers: speaker -> name of the sub-folder.
    """
    index = {"schema": INDEX_SCHEMA, "generalist": generalist, "teachers": dict(teachers)}
    return write_json(Path(folder) / INDEX, index)


def read_index(folder: str | Path) -> dict[str, str]:
    """Speaker -> sub-folder, as `write_index` wrote it.

    Raises:
        UserError: if it is no such index.
    """
    path = Path(folder) / INDEX
    index = read_json(path)
    teachers = index.get("teachers") if isinstance(index, dict) and index.get("schema") == INDEX_SCHEMA else None
    if not isinstance(teachers, dict) or not teachers or not all(isinstance(name, str) for name in teachers.values()):
        raise UserError(
            f"{path} names no teachers",
            expected="the index that recipes/adapt_teachers.py writes",
            fix="run recipes/adapt_teachers.py again; finished teachers are kept",
        )
    return teachers
