"""Two people under one name: speakers that a manifest takes from several corpora without saying which."""

from __future__ import annotations

import re
from collections.abc import Sequence

# What tells a corpus's files from others', wherever they lie. F03, M01 and others are in both corpora.
SIGNS = {
    "uaspeech": re.compile(r"C?[FM]\d{2}_B[1-3]_(?:CW|UW|C|D|L)[0-9A-Z]+_M[2-8]\.\w+$", re.IGNORECASE),
    "torgo": re.compile(r"(?:wav_(?:array|head)mic[\\/][^\\/]+|_(?:array|head)mic_\d+\.\w+)$", re.IGNORECASE),
    "fsdd": re.compile(r"(?:^|[\\/])[0-9]_[a-z]+_[0-9]+\.\w+$"),
}


def collisions(speakers: Sequence[str], paths: Sequence[str], places: Sequence[str], name: str) -> list[str]:
    """Sentences about speakers without a namespace that stand for several people.

    Args:
        speakers, paths: of every row, as the manifest has them.
        places: how to name each row in a message.
        name: of the manifest's corpus, which names without a namespace get.

    Example:
        >>> collisions(["F03", "torgo/F03"], ["a.wav", "b.wav"], ["line 2", "line 3"], "mine")[0][:52]
        "the speakers 'F03' (line 2) and 'torgo/F03' (line 3)"
    """
    rows = [row for row in zip(speakers, paths, places, strict=True) if isinstance(row[0], str)]
    namespaced = {speaker: place for speaker, _, place in reversed(rows) if "/" in speaker}
    first: dict[str, dict[str, str]] = {}  # bare speaker -> corpus -> place
    bare: dict[str, str] = {}
    for speaker, path, place in rows:
        if "/" in speaker:
            continue
        bare.setdefault(speaker, place)
        if (corpus := _corpus_of(path)) is not None:
            first.setdefault(speaker, {}).setdefault(corpus, place)
    return [
        f"the speakers '{speaker}' ({place}) and '{full}' ({namespaced[full]}) may be two people of one name; "
        "write the corpus before every speaker"
        for speaker, place in bare.items()
        for full in namespaced
        if full.split("/", 1)[1] == speaker and full != f"{name}/{speaker}"
    ] + [
        f"the speaker '{speaker}' has files of {_listed(found)}: two people of one name; write "
        f"{' and '.join(f'{corpus}/{speaker}' for corpus in found)}"
        for speaker, found in first.items()
        if len(found) > 1
    ]


def _corpus_of(path: object) -> str | None:
    return next((name for name, sign in SIGNS.items() if isinstance(path, str) and sign.search(path)), None)


def _listed(found: dict[str, str]) -> str:
    return " and ".join(f"{corpus} ({place})" for corpus, place in found.items())
