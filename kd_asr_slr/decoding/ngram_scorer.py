"""The n-gram's part in the beam search: a KenLM model as pyctcdecode's search asks for it, and its coverage.

pyctcdecode takes any object with four members (`order`, `get_start_state`, `score_partial_token`, `score`). This one
replaces its `LanguageModel` for four reasons: that class scores an empty last word as an unknown word, so a nearly
silent utterance could never stay empty; its penalty for unfinished unknown words ignores the LM weight, so weight 0
was not "no LM"; it reads no unigram without a back-off weight; and it warns about every closed vocabulary.
"""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kd_asr_slr.decoding.spelling import clean
from kd_asr_slr.errors import UserError

if TYPE_CHECKING:
    import kenlm

NATURAL_PER_LOG10 = math.log(10.0)  # KenLM speaks log10, the search natural logarithms
ARPA_START = b"\\data\\"
GZIP_START = b"\x1f\x8b"
# Entries of every ARPA file that no recogniser outputs.
NOT_WORDS = frozenset({"<s>", "</s>", "<unk>", "<UNK>"})
LISTED = 5


class NgramScorer:
    """Scores words with a KenLM n-gram inside pyctcdecode's search.

    Args:
        model: a loaded KenLM model.
        known_prefixes: beginnings of the words that the model knows, or None where they cannot be listed.
        weight: weight of the model's natural log-probability (alpha).
        word_score: added once for every word (beta).
        oov_offset: added to the log10 probability of a word outside the model, before the weight.
    """

    def __init__(
        self,
        model: kenlm.Model,
        known_prefixes: frozenset[str] | None,
        weight: float,
        word_score: float,
        oov_offset: float,
    ) -> None:
        self._model = model
        self._known_prefixes = known_prefixes
        self._oov_offset = oov_offset
        self.reweigh(weight, word_score)

    def reweigh(self, weight: float, word_score: float) -> None:
        """Set the model's weight and the word score anew."""
        self._scale = weight * NATURAL_PER_LOG10
        self._word_score = word_score

    @property
    def order(self) -> int:
        """Length of the model's longest n-gram."""
        return self._model.order

    def get_start_state(self) -> kenlm.State:
        """Return the state at the beginning of a sentence."""
        state = _new_state()
        self._model.BeginSentenceWrite(state)
        return state

    def score_partial_token(self, partial_token: str) -> float:
        """Return the penalty that an unfinished word cannot escape any more: 0, or that of an unknown word."""
        part = clean(partial_token)
        if not part or self._known_prefixes is None or part in self._known_prefixes:
            return 0.0
        return self._scale * self._oov_offset

    def score(self, prev_state: kenlm.State, word: str, is_last_word: bool = False) -> tuple[float, kenlm.State]:
        """Score a finished word after `prev_state`; an empty word adds nothing but, at the end, the sentence end."""
        word, state, log10_prob = clean(word), prev_state, 0.0
        if word:
            state = _new_state()
            log10_prob = self._model.BaseScore(prev_state, word, state)
            log10_prob += 0.0 if word in self._model else self._oov_offset
        if is_last_word:
            log10_prob += self._model.BaseScore(state, "</s>", _new_state())
        return self._scale * log10_prob + (self._word_score if word else 0.0), state


def _new_state() -> kenlm.State:
    import kenlm

    return kenlm.State()


def load_kenlm(path: Path) -> kenlm.Model:
    """Load an ARPA or KenLM binary file without its progress bar.

    Args:
        path: the file.

    Raises:
        UserError: if it is missing, no file, or not readable as an n-gram.
    """
    import kenlm

    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(
            f"the language model '{path}' {state}",
            expected="an ARPA or KenLM binary file",
            fix="correct the path, or decode without a language model",
        )
    config = kenlm.Config()
    config.show_progress = False
    config.arpa_complain = kenlm.ARPALoadComplain.NONE
    try:
        return kenlm.Model(str(path), config)
    except (OSError, RuntimeError) as error:
        # KenLM begins with the file and its C++ function; what a user can read follows the word "threw".
        detail = " ".join(str(error).partition(f"'{path}' (")[2].rpartition(" threw ")[2].removesuffix(")").split())
        raise UserError(
            f"the language model '{path}' cannot be read ({detail})",
            expected="a complete ARPA or KenLM binary file",
            fix="build it again, or copy it again",
        ) from error


def read_unigrams(path: Path) -> frozenset[str] | None:
    """Return the words of an ARPA file (plain or gzip), or None for a binary model, which does not list them.

    Args:
        path: a file that KenLM has already read, so its form is not checked again.
    """
    with path.open("rb") as file:
        opener = gzip.open if file.read(2) == GZIP_START else open
    with opener(path, "rb") as file:
        if not file.read(1024).lstrip().startswith(ARPA_START):
            return None
        file.seek(0)
        return frozenset(_unigram_entries(file)) - NOT_WORDS


def _unigram_entries(lines: Iterable[bytes]) -> Iterator[str]:
    """Yield the words of the section of 1-grams: `log10 <blank or tab> word [<blank or tab> back-off]`."""
    inside = False
    for line in lines:
        text = line.decode("utf-8", errors="replace").strip(" \t\r\n")
        if inside and text.startswith("\\"):
            return
        if inside and text:
            yield re.split(r"[ \t]+", text)[1]
        inside = inside or text == "\\1-grams:"


def prefixes_of(words: Iterable[str]) -> frozenset[str]:
    """Return every beginning of every word, the whole word included."""
    return frozenset(word[:end] for word in words for end in range(1, len(word) + 1))


def check_word_coverage(labels: Sequence[str], model: Container[str], path: Path) -> str | None:
    """Compare a vocabulary of whole words with the model's.

    Args:
        labels: the recogniser's words, without blank and special tokens.
        model: the KenLM model, or any container of words.
        path: its file, for messages.

    Returns:
        A warning with the share of labels that the model knows, or None where it knows all of them.

    Raises:
        UserError: if it knows none of them.
    """
    return _judge(labels, lambda label: label in model, f"labels are words of the language model '{path}'")


def check_spelling_coverage(characters: Iterable[str], words: Iterable[str], path: Path) -> str | None:
    """Compare a vocabulary of characters with the model's words, as `check_word_coverage` does for words.

    Args:
        characters: the recogniser's characters, without blank, special tokens and word delimiter.
        words: the model's words.
        path: its file, for messages.

    Returns:
        A warning with the share of words that can be spelled with the characters, or None where all can.

    Raises:
        UserError: if none can.
    """
    subject = f"words of the language model '{path}' can be spelled with the vocabulary"
    return _judge(sorted(words), frozenset(characters).issuperset, subject)


def _judge(entries: Sequence[str], fits: Callable[[str], bool], subject: str) -> str | None:
    """Raise where no entry fits, else return the warning, or None where all fit."""
    missing = [entry for entry in entries if not fits(entry)]
    found = len(entries) - len(missing)
    examples = ", ".join(f"'{entry}'" for entry in missing[:LISTED])
    if not found:
        other_case = any(fits(entry.upper()) or fits(entry.lower()) for entry in missing)
        fix = "change the case of the model's text" if other_case else "use a model made from this vocabulary's texts"
        raise UserError(f"0 of {len(entries)} {subject} (not {examples})", expected="words in common", fix=fix)
    if not missing:
        return None
    share = 100.0 * found / len(entries)
    return f"{found} of {len(entries)} {subject} ({share:.1f} %); not {examples}{', ...' if missing[LISTED:] else ''}"
