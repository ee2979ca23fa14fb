"""Named text normalisers: what is done to a transcript before it is counted, and under which name that is reported.

A normaliser is a pure function from text to text. Its name goes into the run's configuration and its results,
so two numbers made with different normalisers are never compared by accident.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from kd_asr_slr.errors import UserError
from kd_asr_slr.glosses import phoenix2014, phoenix2014_ctm, phoenix2014_slrt, phoenix2014t, phoenix2014t_ctm


def collapse_blanks(text: str) -> str:
    """Unicode form NFC, runs of white space become one blank, none at the ends. Case is kept (glosses are capitals)."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def upper_words(text: str) -> str:
    """`collapse_blanks`, then upper case: isolated words and prompts whose case carries nothing."""
    return collapse_blanks(text).upper()


_PUNCTUATION = re.compile(r"[^\w\s'-]|_")
_NOT_IN_A_WORD = re.compile(r"(?<!\w)['-]+|['-]+(?!\w)")


def torgo_prompt(text: str) -> str:
    """Upper case without punctuation; apostrophes and hyphens inside words stay, XRAY is written X-RAY.

    Source: Kaldi's TORGO recipe (Espana-Bonet and Hermann, local/torgo_data_prep.sh).

    Example:
        >>> torgo_prompt("Don't ask me, xray!")
        "DON'T ASK ME X-RAY"
    """
    spoken = _NOT_IN_A_WORD.sub(" ", _PUNCTUATION.sub(" ", collapse_blanks(text).replace("\u2019", "'")))
    return " ".join("X-RAY" if word == "XRAY" else word for word in spoken.upper().split())


NORMALISERS: dict[str, Callable[[str], str]] = {
    "none": lambda text: text,
    "glosses": collapse_blanks,
    "words": upper_words,
    "torgo": torgo_prompt,
    "raw": collapse_blanks,  # PHOENIX annotations as they are
    "phoenix2014": phoenix2014,
    "phoenix2014_ctm": phoenix2014_ctm,
    "phoenix2014_slrt": phoenix2014_slrt,
    "phoenix2014t": phoenix2014t,
    "phoenix2014t_ctm": phoenix2014t_ctm,
}
# Their dev and test references are published clean; cleaned again they would lose glosses (dev: 1 of 5,540).
TRAINING_TEXT_ONLY = frozenset({"phoenix2014", "phoenix2014t"})


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


def normaliser_of_split(name: str, training: bool) -> str:
    """Return the normaliser of a split: `name`, or "raw" where `name` is for training text only and this is none.

    Args:
        name: a key of `NORMALISERS`, as the configuration has it.
        training: whether the split is trained on.

    Example:
        >>> normaliser_of_split("phoenix2014", training=False)
        'raw'
    """
    return "raw" if name in TRAINING_TEXT_ONLY and not training else name
