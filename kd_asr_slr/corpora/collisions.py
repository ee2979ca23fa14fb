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


class Collisions:
    """Finds speakers without a namespace that stand for several people; of the rows it keeps their speakers only.

    Args:
        name: of the manifest's corpus, which names without a namespace get.

    Example:
        >>> found = Collisions("mine")
        >>> found.add(["F03", "torgo/F03"], ["a.wav", "b.wav"], ["line 2", "line 3"])
        >>> found.sentences()[0][:52]
        "the speakers 'F03' (line 2) and 'torgo/F03' (line 3)"
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._namespaced: dict[str, str] = {}  # speaker -> first place
        self._bare: dict[str, str] = {}
        self._corpora: dict[str, dict[str, str]] = {}  # bare speaker -> corpus -> first place

    def add(self, speakers: Sequence[str], paths: Sequence[str], places: Sequence[str]) -> None:
        """Look at more rows.

        Args:
            speakers, paths: as the manifest has them.
            places: how to name each row in a message.
        """
        for speaker, path, place in zip(speakers, paths, places, strict=True):
            if not isinstance(speaker, str):
                continue
            if "/" in speaker:
                self._namespaced.setdefault(speaker, place)
                continue
            self._bare.setdefault(speaker, place)
            if (corpus := _corpus_of(path)) is not None:
                self._corpora.setdefault(speaker, {}).setdefault(corpus, place)

    def sentences(self) -> list[str]:
        """What was found; one sentence for each pair, or speaker."""
        return [
            f"the speakers '{speaker}' ({place}) and '{full}' ({self._namespaced[full]}) may be two people of one "
            "name; write the corpus before every speaker"
            for speaker, place in self._bare.items()
            for full in self._namespaced
            if full.split("/", 1)[1] == speaker and full != f"{self._name}/{speaker}"
        ] + [
            f"the speaker '{speaker}' has files of {_listed(found)}: two people of one name; write "
            f"{' and '.join(f'{corpus}/{speaker}' for corpus in found)}"
            for speaker, found in self._corpora.items()
            if len(found) > 1
        ]


def _corpus_of(path: object) -> str | None:
    return next((name for name, sign in SIGNS.items() if isinstance(path, str) and sign.search(path)), None)


def _listed(found: dict[str, str]) -> str:
    return " and ".join(f"{corpus} ({place})" for corpus, place in found.items())
