"""The columns every corpus has, and the check that says which rows break the contract.

A row stands for one utterance: `id` (unique), `split`, `speaker`, `text`, and the path of one file, under `audio`
or under `features`. Speakers carry their corpus, so that `uaspeech/F03` is never taken for `torgo/F03`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datasets import Dataset

from kd_asr_slr.errors import UserError, raise_all

REQUIRED = ("id", "split", "speaker", "text")
MEDIA = ("audio", "features")
# What a corpus may know besides, and the type it is kept as. A private column starts with "x_".
EXTRAS: dict[str, type] = {
    "signer": str,
    "block": str,
    "session": str,
    "take": str,
    "word": str,
    "word_id": str,
    "utterance": str,
    "category": str,
    "group": str,
    "prompt": str,
    "translation": str,
    "microphone": str,
    "intelligibility": float,
    "band": str,
    "severity": float,
    "gender": str,
    "age": str,
    "frames": int,
    "seconds": float,
}
PRIVATE_PREFIX = "x_"
COLUMNS = (*REQUIRED, *MEDIA, *EXTRAS)

SUFFIXES = {
    ".wav": "audio",
    ".flac": "audio",
    ".ogg": "audio",
    ".npz": "features",
    ".npy": "features",
    ".pose": "features",
}
SPLIT_ORDER = ("train", "dev", "test")
# Name of the split of recordings without text, whose rows may have an empty one; and of the column that marks them.
UNTRANSCRIBED = "untranscribed"

# Control characters, line separators and lone surrogates break keys, JSON lines and UTF-8.
_UNSAFE_IN_KEY = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSAFE_IN_TEXT = re.compile("[\x00\ud800-\udfff]")
_SPLIT_NAME = re.compile(r"\w+")

Columns = Mapping[str, Sequence[Any]]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that names the closest known word, or nothing where none is close.

    Example:
        >>> did_you_mean("speeker", ["speaker", "text"])
        " (did you mean 'speaker'?)"
    """
    close = difflib.get_close_matches(name.strip().lower(), list(known), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""


def is_known_extra(column: str) -> bool:
    """Whether a column beyond the required ones may stand in a corpus."""
    return column in EXTRAS or column.startswith(PRIVATE_PREFIX)


def unknown_columns(names: Iterable[str], known: Sequence[str]) -> list[str]:
    """One sentence for each column that is neither in `known`, nor a known extra, nor private."""
    candidates = [*known, *EXTRAS]
    return [
        f"unknown column '{name}'{did_you_mean(name, candidates)}; known columns: {', '.join(candidates)}; "
        f"a private column starts with '{PRIVATE_PREFIX}'"
        for name in names
        if name not in known and not is_known_extra(name)
    ]


def shortened(problems: Sequence[str], max_listed: int = 20) -> list[str]:
    """The first `max_listed` problems and, where there are more, a last line with their number."""
    findings = Findings(max_listed)
    findings.add(problems)
    return findings.sentences()


class Findings:
    """Problems of a file that is never in memory as a whole: the first are kept, the others counted.

    Args:
        max_listed: how many are kept.

    Example:
        >>> findings = Findings(max_listed=1)
        >>> findings.add(["line 2: 'id' is empty", "line 3: 'id' is empty"])
        >>> findings.sentences()
        ["line 2: 'id' is empty", '... and 1 more (2 in all)']
    """

    def __init__(self, max_listed: int = 20) -> None:
        self.count = 0
        self._listed: list[str] = []
        self._max_listed = max_listed

    def add(self, problems: Sequence[str]) -> None:
        """Take note of more."""
        self._listed += problems[: max(0, self._max_listed - len(self._listed))]
        self.count += len(problems)

    def sentences(self) -> list[str]:
        """The kept ones and, where there are more, a last line with their number."""
        more = self.count - len(self._listed)
        return [*self._listed, *([f"... and {more} more ({self.count} in all)"] if more else [])]


def check_corpus_name(name: str) -> None:
    """Refuse a corpus name that cannot stand before a speaker.

    Raises:
        UserError: if the name is empty, has blanks around it, a slash or a control character.
    """
    if not name or name != name.strip() or "/" in name or _UNSAFE_IN_KEY.search(name):
        raise UserError(
            f"the corpus name {name!r} cannot be used",
            expected="a short name without a slash, which is put before every speaker",
            fix="give a name such as 'uaspeech'",
        )


def namespaced(speaker: str, corpus_name: str) -> str:
    """`corpus_name/speaker`; a speaker that already has a namespace stays as it is.

    Example:
        >>> namespaced("theo", "fsdd"), namespaced("fsdd/theo", "other")
        ('fsdd/theo', 'fsdd/theo')
    """
    return speaker if "/" in speaker else f"{corpus_name}/{speaker}"


def check_rows(rows: Sequence[Mapping[str, Any]] | Dataset, where: str) -> None:
    """Check that rows keep the contract; every problem is reported at once, with row numbers from 1.

    Args:
        rows: dictionaries, or a dataset; `audio` or `features` holds a path as a string.
        where: what is being checked, for the message.

    Raises:
        UserError: if columns are missing or unknown, or a row breaks the contract.

    Example:
        >>> check_rows([{"id": "a", "split": "train", "speaker": "s/1", "text": "ONE", "audio": "a.wav"}], "demo")
    """
    columns = _as_columns(rows)
    raise_all(column_problems(columns), where)
    length = len(columns["id"])
    raise_all(shortened(row_problems(columns, [f"row {number}" for number in range(1, length + 1)])), where)


def column_problems(columns: Columns) -> list[str]:
    """Sentences about missing, unknown and contradicting columns."""
    problems = [f"column '{name}' is missing" for name in REQUIRED if name not in columns]
    media = [name for name in MEDIA if name in columns]
    if len(media) != 1:
        present = " and ".join(media) or "neither"
        problems.append(f"expected exactly one of the columns {' and '.join(MEDIA)}, found {present}")
    problems += unknown_columns(columns, (*REQUIRED, *MEDIA))
    if not problems and len(columns["id"]) == 0:
        problems.append("there is no row")
    return problems


def row_problems(columns: Columns, places: Sequence[str]) -> list[str]:
    """Sentences about rows that break the contract.

    Args:
        columns: the required columns and `audio`, `features` or a manifest's `path`; all of one length.
        places: how to name each row in a message, e.g. "row 3" or "line 4".
    """
    return value_problems(columns, places) + duplicate_ids(columns["id"], places)


def value_problems(columns: Columns, places: Sequence[str]) -> list[str]:
    """Sentences about the values of rows, each taken by itself; arguments as for `row_problems`."""
    problems: list[str] = []
    for name in (*REQUIRED, *MEDIA, "path"):
        if name in columns:
            problems += _value_problems(name, _needed(name, columns), places)
    return problems


def _needed(name: str, columns: Columns) -> Sequence[Any]:
    """The values of a column; a text that is empty because its recording is untranscribed is none to complain of."""
    if name != "text" or "split" not in columns:
        return columns[name]
    pairs = zip(columns[name], columns["split"], strict=True)
    return ["(none)" if split == UNTRANSCRIBED and text in ("", None) else text for text, split in pairs]


def _value_problems(name: str, values: Sequence[Any], places: Sequence[str]) -> list[str]:
    found = ((place, _value_problem(name, value)) for place, value in zip(places, values, strict=True))
    return [f"{place}: {problem}" for place, problem in found if problem]


def _value_problem(name: str, value: Any) -> str:
    """What is wrong with one value; empty where nothing is."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return f"'{name}' is empty"
    if not isinstance(value, str):
        return f"'{name}' is {value!r}, not a text"
    if name == "text":
        return "'text' holds a character that cannot be stored" if _UNSAFE_IN_TEXT.search(value) else ""
    if _UNSAFE_IN_KEY.search(value):
        return f"'{name}' {value!r} holds a control character"
    if name not in REQUIRED:
        return ""
    if value != value.strip():
        return f"'{name}' {value!r} has blanks around it"
    if name == "split" and not _SPLIT_NAME.fullmatch(value):
        return f"'split' {value!r} is no split name; use letters, digits and '_', as in train, dev, test"
    return ""


def duplicate_ids(ids: Sequence[Any], places: Sequence[str]) -> list[str]:
    """Sentences about ids that stand more than once among these; what is no text or empty is passed over."""
    first: dict[Any, str] = {}
    problems = []
    for place, value in zip(places, ids, strict=True):
        if not isinstance(value, str) or not value:
            continue
        if value in first:
            problems.append(f"{place}: id '{value}' was already used in {first[value]}; ids must be unique")
        else:
            first[value] = place
    return problems


def _as_columns(rows: Sequence[Mapping[str, Any]] | Dataset) -> dict[str, list[Any]]:
    if isinstance(rows, Dataset):
        return {name: rows[name][:] for name in rows.column_names}
    names = dict.fromkeys(name for row in rows for name in row) or dict.fromkeys((*REQUIRED, MEDIA[0]))
    return {name: [row.get(name) for row in rows] for name in names}
