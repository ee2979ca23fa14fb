"""Named text normalisers: what is done to a transcript before it is counted, and under which name that is reported.

A normaliser is a pure function from text to text. Its name goes into the run's configuration and its results,
so two numbers made with different normalisers are never compared by accident.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from kd_asr_slr.errors import UserError


def collapse_blanks(text: str) -> str:
    """Unicode form NFC, runs of white space become one blank, none at the ends. Case is kept (glosses are capitals)."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def upper_words(text: str) -> str:
    """`collapse_blanks`, then upper case: isolated words and prompts whose case carries nothing."""
    return collapse_blanks(text).upper()


NORMALISERS: dict[str, Callable[[str], str]] = {
    "none": lambda text: text,
    "glosses": collapse_blanks,
    "words": upper_words,
}


def normalise(text: str, name: str) -> str:
    """Apply the normaliser called `name`.

    Args:
        text: a transcript, or a gloss sentence.
        name: a key of `NORMALISERS`.

    Raises:
        UserError: if there is no normaliser of that name.

    Example:
        >>> normalise(" zero  one ", "words")
        'ZERO ONE'
    """
    if name not in NORMALISERS:
        raise UserError(f"unknown text normaliser '{name}'", expected=f"one of {', '.join(sorted(NORMALISERS))}")
    return NORMALISERS[name](text)
