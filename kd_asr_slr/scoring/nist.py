"""The files of NIST sclite: references (stm, an utterance a line) and hypotheses (ctm, a token a line)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.files import write_text
from kd_asr_slr.scoring.predictions import LISTED, listed

logger = logging.getLogger(__name__)

STM_FORM = "id channel signer start end gloss gloss ..."
CTM_FORM = "id channel start duration gloss"
_COMMENT = ";;"
_STM_START, _STM_END = "0.0", "1.79769e+308"  # the whole utterance, as the references of PHOENIX say it
_TOKEN_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Reference:
    """One line of a stm file.

    Args:
        id: the utterance.
        speaker: as written; files disagree about its case (`signer05`, `Signer05`).
        text: the tokens with one blank between them, maybe none.
    """

    id: str
    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class TimedToken:
    """One line of a ctm file.

    Args:
        id: the utterance.
        start: its start time in seconds, as written.
        token: the gloss.
        line: the line as written, without blanks at its ends.
        number: of the line, from 1.
    """

    id: str
    start: str
    token: str
    line: str
    number: int


def read_stm(path: str | Path) -> list[Reference]:
    """Read references; the last line may lack its line break, lines that start with `;;` are comments.

    Args:
        path: lines `id channel signer start end gloss gloss ...`.

    Returns:
        One reference an utterance, in the order of the file.

    Raises:
        UserError: naming the lines that are malformed or whose id was there before; the file is missing or empty.

    Example:
        >>> [(row.id, row.text) for row in read_stm("dev.stm")]  # doctest: +SKIP
        [('u1', '__ON__ MORGEN REGEN')]
    """
    references, problems = [], []
    seen: dict[str, int] = {}
    for number, line in _lines(path):
        fields = line.split()
        if len(fields) < 5 or not all(map(_is_time, fields[3:5])):
            problems.append(f"line {number} is '{_short(line)}'; expected {STM_FORM}, start and end in seconds")
            continue
        identity, _, speaker, _, _, *tokens = fields
        if identity in seen:
            problems.append(f"line {number}: utterance {identity} is in line {seen[identity]} already")
        seen.setdefault(identity, number)
        labelled = tokens and tokens[0].startswith("<") and tokens[0].endswith(">")  # a class of utterances, no token
        references.append(Reference(identity, speaker, " ".join(tokens[1:] if labelled else tokens)))
    _refuse(problems, references, f"the references in '{path}'")
    return references


def write_stm(path: str | Path, references: Iterable[Reference]) -> None:
    """Write references sorted by id (byte order), each over the whole of its utterance; the file appears whole.

    Args:
        path: the file; an older one is replaced.
        references: one an utterance.

    Raises:
        UserError: naming ids and speakers that are no single word, and ids that are there twice.
    """
    rows = sorted(references, key=lambda row: row.id)
    problems = [f"'{word}' has blanks or is empty" for row in rows for word in (row.id, row.speaker) if _many(word)]
    problems += _repeated([row.id for row in rows])
    raise_all(problems, f"the references for '{path}'")
    _write(path, (f"{row.id} 1 {row.speaker} {_STM_START} {_STM_END} {row.text}".rstrip() for row in rows))


def read_ctm(path: str | Path) -> list[TimedToken]:
    """Read hypotheses and sort them as the official evaluation does: by id, by start time as text, by the whole line.

    Args:
        path: lines `id channel start duration gloss`, maybe with a confidence after the gloss.

    Returns:
        Every token, sorted.

    Raises:
        UserError: naming the lines that are malformed; the file is missing or empty.
    """
    tokens, problems = [], []
    for number, line in _lines(path):
        fields = line.split()
        timed = len(fields) in (5, 6) and all(map(_is_time, [*fields[2:4], *fields[5:]]))
        if timed:
            tokens.append(TimedToken(fields[0], fields[2], fields[4], " ".join(fields), number))
        else:
            problems.append(f"line {number} is '{_short(line)}'; expected {CTM_FORM}, start and duration in seconds")
    _refuse(problems, tokens, f"the hypotheses in '{path}'")
    ordered = sorted(tokens, key=lambda token: (token.id, token.start, token.line))
    _warn_of_order(ordered, path)
    return ordered


def texts_of_ctm(tokens: Iterable[TimedToken]) -> dict[str, str]:
    """Return the text of every utterance, its tokens with one blank between them, in the order given."""
    texts: dict[str, list[str]] = {}
    for token in tokens:
        texts.setdefault(token.id, []).append(token.token)
    return {identity: " ".join(words) for identity, words in texts.items()}


def write_ctm(path: str | Path, hypotheses: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
    """Write hypotheses sorted by id (byte order), a token a line, with the times 0.00 0.01, 0.01 0.01, ... that have
    as many digits as the longest utterance needs; an utterance without tokens has no line.

    Args:
        path: the file; an older one is replaced.
        hypotheses: text by id, or pairs (id, text).

    Raises:
        UserError: naming ids that are no single word or there twice; no utterance has a token.
    """
    pairs = sorted(hypotheses.items() if isinstance(hypotheses, Mapping) else hypotheses)
    identities = [identity for identity, _ in pairs]
    problems = [f"'{identity}' has blanks or is empty" for identity in identities if _many(identity)]
    problems += _repeated(identities)
    if not any(text.split() for _, text in pairs):
        problems.append("no utterance has a token; there is nothing to write")
    raise_all(problems, f"the hypotheses for '{path}'")
    longest = max(len(text.split()) for _, text in pairs)
    width = len(f"{longest * _TOKEN_SECONDS:.2f}")  # times are sorted as text
    _write(
        path,
        (
            f"{identity} 1 {index * _TOKEN_SECONDS:0{width}.2f} {_TOKEN_SECONDS:.2f} {token}"
            for identity, text in pairs
            for index, token in enumerate(text.split())
        ),
    )


def _lines(path: str | Path) -> list[tuple[int, str]]:
    """Lines with something in them, numbered from 1; comments left out."""
    source = Path(path)
    if not source.is_file():
        raise UserError(f"there is no file '{source}'", fix="check the path")
    try:
        lines = source.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"'{source}' is no UTF-8 text (byte {error.start})") from error
    return [
        (number, line.strip()) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith(_COMMENT)
    ]


def _refuse(problems: Sequence[str], rows: Sequence[object], title: str) -> None:
    """Raise for the first problems, and for a file without rows."""
    if not problems and not rows:
        raise UserError(f"{title}: there are no lines")
    more = len(problems) - LISTED
    raise_all([*problems[:LISTED], f"{more} more lines like these"] if more > 0 else problems, title)


def _warn_of_order(tokens: Sequence[TimedToken], path: str | Path) -> None:
    """Say where sorting start times as text is not the order of time: such a hypothesis is scored shuffled."""
    shuffled = []
    for identity, group in groupby(tokens, key=lambda token: token.id):
        starts = [float(token.start) for token in group]
        if any(later <= earlier for earlier, later in zip(starts, starts[1:], strict=False)):
            shuffled.append(identity)
    if shuffled:
        logger.warning(
            "%s: start times of %d utterances do not grow when sorted as text, as the official evaluation sorts them, "
            "so their glosses may be out of order (write them with as many digits each): %s",
            path,
            len(shuffled),
            listed(shuffled),
        )


def _write(path: str | Path, lines: Iterable[str]) -> None:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, "".join(f"{line}\n" for line in lines))


def _repeated(identities: Sequence[str]) -> list[str]:
    """A sentence about the ids of a sorted list that are there more than once."""
    twice = sorted({left for left, right in zip(identities, identities[1:], strict=False) if left == right})
    return [f"{len(twice)} ids are there more than once: {listed(twice)}"] if twice else []


def _is_time(field: str) -> bool:
    try:
        return float(field) >= 0
    except ValueError:
        return False


def _many(word: str) -> bool:
    return len(word.split()) != 1


def _short(line: str) -> str:
    return line if len(line) <= 60 else f"{line[:57]}..."
