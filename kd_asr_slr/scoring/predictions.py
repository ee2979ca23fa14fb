"""Prediction rows: what was said, what was recognised. Joined by utterance id, kept as one JSON object a line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.files import write_text

REQUIRED = ("id", "speaker", "reference", "hypothesis")
LISTED = 5


class Prediction(TypedDict):
    """One utterance. A plain dict; further keys travel along."""

    id: str
    speaker: str
    reference: str
    hypothesis: str
    utterance: NotRequired[str]  # shared by the recordings of one utterance (several microphones)
    band: NotRequired[str]
    category: NotRequired[str]
    block: NotRequired[str]
    microphone: NotRequired[str]
    intelligibility: NotRequired[float]
    seen: NotRequired[bool]  # whether the reference occurs among the training texts


def join(
    references: Iterable[Mapping[str, Any]],
    hypotheses: Mapping[str, str] | Iterable[tuple[str, str]],
    keep: Sequence[str] = (),
) -> list[Prediction]:
    """Put hypotheses beside their references, by id; every id must be on both sides exactly once.

    Args:
        references: rows with `id`, `speaker` and `text`; their order is kept.
        hypotheses: hypothesis text by id, or pairs (id, text) in any order.
        keep: further keys of the reference rows that the predictions carry along (severity, microphone, ...).

    Raises:
        UserError: listing ids that are missing, extra or there twice: a missing utterance is an error, never a
            shorter average.

    Example:
        >>> join([{"id": "u1", "speaker": "fsdd/theo", "text": "ONE"}], {"u1": "NINE"})
        [{'id': 'u1', 'speaker': 'fsdd/theo', 'reference': 'ONE', 'hypothesis': 'NINE'}]
    """
    rows = list(references)
    pairs = list(hypotheses.items() if isinstance(hypotheses, Mapping) else hypotheses)
    _check_ids(Counter(row["id"] for row in rows), Counter(identity for identity, _ in pairs))
    text = dict(pairs)
    return [
        cast(
            Prediction,
            {
                "id": row["id"],
                "speaker": row["speaker"],
                "reference": row["text"],
                "hypothesis": text[row["id"]],
                **{key: row[key] for key in keep},
            },
        )
        for row in rows
    ]


def _check_ids(given: Counter[str], found: Counter[str]) -> None:
    """Raise unless references (`given`) and hypotheses (`found`) have the same ids, each once."""
    complaints = [
        (given.keys() - found.keys(), given, "references have no hypothesis"),
        (found.keys() - given.keys(), found, "hypotheses have no reference"),
        (repeated(given), given, "references are there more than once"),
        (repeated(found), found, "hypotheses are there more than once"),
    ]
    problems = [f"{len(ids)} of {len(of)} {words}: {listed(sorted(ids))}" for ids, of, words in complaints if ids]
    raise_all(problems, "references and hypotheses do not belong together")


def check_predictions(rows: Sequence[Mapping[str, Any]], where: str) -> None:
    """Raise unless there are rows, each with the required keys as strings and an id of its own.

    Args:
        rows: prediction rows.
        where: what they are, for messages.

    Raises:
        UserError: listing the problems with their row numbers (from 1).
    """
    problems = [
        f"row {number}: '{key}' is {row.get(key)!r}; expected a string"
        for number, row in enumerate(rows, 1)
        for key in REQUIRED
        if not isinstance(row.get(key), str)
    ]
    if len(problems) > LISTED:
        problems = [*problems[:LISTED], f"{len(problems) - LISTED} more values like these"]
    if twice := repeated(Counter(str(row.get("id")) for row in rows)):
        problems.append(f"{len(twice)} ids are there more than once: {listed(sorted(twice))}")
    raise_all(problems if rows else ["there are no rows"], where)


def repeated(counts: Counter[str]) -> list[str]:
    """Return what was counted more than once."""
    return [entry for entry, count in counts.items() if count > 1]


def listed(ids: Sequence[str]) -> str:
    """Return the first ids as a list for a message."""
    return ", ".join(ids[:LISTED]) + (f" and {len(ids) - LISTED} more" if len(ids) > LISTED else "")


def write_predictions(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines; the file appears whole or not at all.

    Args:
        path: the file; an older one is replaced.
        rows: prediction rows.

    Raises:
        UserError: if rows are incomplete, or an id is there twice.
    """
    target = Path(path)
    check_predictions(rows, f"the predictions for '{target}'")
    lines = [json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows]
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, "".join(lines))


def read_predictions(path: str | Path) -> list[Prediction]:
    """Read rows that `write_predictions` has written.

    Raises:
        UserError: if the file is missing, empty, no JSON lines, or its rows are incomplete or there twice.
    """
    source = Path(path)
    if not source.is_file():
        raise UserError(f"there are no predictions at '{source}'", expected="a file of JSON lines", fix="score the run")
    try:
        # Not splitlines(): JSON lets a text hold other line separators of Unicode as they are.
        lines = source.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"'{source}' is no UTF-8 text ({error})", expected="JSON lines in UTF-8") from error
    rows = [_parse(line, number, source) for number, line in enumerate(lines, 1) if line.strip()]
    check_predictions(rows, f"the predictions in '{source}'")
    return rows


def _parse(line: str, number: int, source: Path) -> Prediction:
    """Read one line as a JSON object."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(
            f"line {number} of '{source}' is no JSON ({error})", expected="one JSON object a line"
        ) from error
    if not isinstance(row, dict):
        raise UserError(f"line {number} of '{source}' is {type(row).__name__}", expected="one JSON object a line")
    return cast(Prediction, row)  # its keys are checked with all other rows
