"""How a vocabulary spells text: the kinds of tokens that the beam search knows.

A kind says how tokens become pyctcdecode's pieces, and how its text becomes pieces again. One more kind is one more
entry of `SPELLINGS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kd_asr_slr.errors import UserError, raise_all

WORD_START = "▁"  # pyctcdecode's mark of a piece that begins a word
# pyctcdecode takes a lone "▁" for the end of a word and breaks words at random behind it, so that piece gets company:
# a character of Unicode's private use, gone again from every text.
LONE_START = "\ue000"
WORD_DELIMITERS = (" ", "|")  # of characters; the first one that is in the vocabulary counts

Tokens = Mapping[int, str]


def kind_of(processor: Any) -> str:
    """How a processor's labels make words; of transformers' tokenizers, which do not say it, by SentencePiece's mark.

    Args:
        processor: its `tokens`, and the `kind` of its `tokenizer`.

    Returns:
        A name in `SPELLINGS`: "words", "characters" or "pieces".
    """
    kind = getattr(processor.tokenizer, "kind", None)
    if kind is not None:
        return str(kind)
    return "pieces" if any(token.startswith(WORD_START) for token in processor.tokens) else "characters"


@dataclass(frozen=True, slots=True)
class Spelling:
    """One kind of tokens.

    Args:
        starts_words: pieces that begin a word are marked; otherwise a space separates words.
        whole_words: every token is a whole word.
        problem: what is wrong with a token of this kind, or None.
        pieces: tokens by index -> pieces by index.
        split: decoded text -> the pieces it is made of; None where several sequences of pieces spell one text.
    """

    starts_words: bool
    whole_words: bool
    problem: Callable[[str], str | None]
    pieces: Callable[[Tokens], dict[int, str]]
    split: Callable[[str], list[str]] | None


def spelling_of(kind: str) -> Spelling:
    """Return the spelling called `kind`.

    Raises:
        UserError: if there is none of that name.
    """
    if kind not in SPELLINGS:
        raise UserError(f"unknown kind of tokens '{kind}'", expected=f"one of {', '.join(SPELLINGS)}")
    return SPELLINGS[kind]


def checked_pieces(spelling: Spelling, tokens: Tokens) -> dict[int, str]:
    """Return the pieces of all tokens after checking that the kind can have them.

    Args:
        spelling: the kind of the tokens.
        tokens: token by index, without blank and special tokens.

    Raises:
        UserError: listing every token that does not fit, appears twice, or that there are none.
    """
    problems = [
        f"token {index} is '{token}': {problem}"
        for index, token in tokens.items()
        if (problem := spelling.problem(token)) is not None
    ]
    counts = Counter(tokens.values())
    problems += [f"'{token}' appears {count} times" for token, count in counts.items() if count > 1]
    if not tokens:
        problems.append("there are no tokens beside the blank and the special tokens")
    raise_all(problems, "the vocabulary cannot be searched")
    return spelling.pieces(tokens)


def delimiter_of(tokens: Tokens) -> str | None:
    """Return the character that separates words, or None where the vocabulary has none."""
    return next((delimiter for delimiter in WORD_DELIMITERS if delimiter in tokens.values()), None)


def _word_problem(token: str) -> str | None:
    if token.split() != [token]:
        return "expected a word without white space"
    if token.endswith(WORD_START):
        return f"a word cannot end in '{WORD_START}', the search's own mark"
    return None


def _character_problem(token: str) -> str | None:
    if len(token) != 1:
        return f"it has {len(token)} characters, expected 1 (is the kind 'words'?)"
    if token.isspace() and token not in WORD_DELIMITERS:
        return "the only white space allowed is the blank character"
    return None


def _piece_problem(token: str) -> str | None:
    if token.split() != [token]:
        return "expected a piece without white space"
    if WORD_START in token[1:]:
        return f"expected '{WORD_START}' at the beginning of a piece only"
    return None


def _word_pieces(tokens: Tokens) -> dict[int, str]:
    # Without the mark pyctcdecode would glue whole words together.
    return {index: WORD_START + token for index, token in tokens.items()}


def _character_pieces(tokens: Tokens) -> dict[int, str]:
    delimiter = delimiter_of(tokens)
    return {index: " " if token == delimiter else token for index, token in tokens.items()}


def _marked_pieces(tokens: Tokens) -> dict[int, str]:
    return {index: token + LONE_START if token == WORD_START else token for index, token in tokens.items()}


def clean(text: str) -> str:
    """A text of the search without the mark of the lone "▁"."""
    return text if LONE_START not in text else " ".join(text.replace(LONE_START, "").split())


def _split_words(text: str) -> list[str]:
    return [WORD_START + word for word in text.split()]


SPELLINGS: dict[str, Spelling] = {
    "words": Spelling(True, True, _word_problem, _word_pieces, _split_words),
    "characters": Spelling(False, False, _character_problem, _character_pieces, list),
    "pieces": Spelling(True, False, _piece_problem, _marked_pieces, None),
}
