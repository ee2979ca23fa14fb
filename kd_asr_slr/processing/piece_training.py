"""Training a SentencePiece model in memory: the same texts always give the same bytes, and nothing is printed."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable

from sentencepiece import SentencePieceTrainer

from kd_asr_slr.errors import UserError

ALGORITHMS = ("unigram", "bpe")
UNKNOWN_PIECES = 1  # every SentencePiece model has one; it is no label
_TOO_MANY = re.compile(r"Vocabulary size too high .*value <= (\d+)")
_TOO_FEW = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")
_LINE = 4192  # bytes of the longest line that SentencePiece reads by default
_ONLY_FATAL = 2  # SentencePiece's log level


def train_pieces(texts: Iterable[str], vocabulary_size: int, algorithm: str = "unigram", specials: int = 1) -> bytes:
    """Train a SentencePiece model.

    Args:
        texts: transcripts, normalised already (SentencePiece normalises nothing but white space); read once.
        vocabulary_size: pieces and our special tokens together.
        algorithm: "unigram" or "bpe".
        specials: how many of them are special tokens, the blank included.

    Returns:
        The model's file.

    Raises:
        UserError: if there is no text, or the size is too large or too small for it.
    """
    if algorithm not in ALGORITHMS:
        raise UserError(f"unknown kind of pieces '{algorithm}'", f"one of {', '.join(ALGORITHMS)}")
    lines = [" ".join(text.split()) for text in texts]
    lines = [line for line in lines if line]
    if not lines:
        raise UserError("no label in the training transcripts", "at least one word")
    offset = specials - UNKNOWN_PIECES
    if vocabulary_size <= specials:
        _refuse_size(vocabulary_size, f"more than the {specials} special tokens", "larger")
    written = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=written,
            vocab_size=vocabulary_size - offset,
            model_type=algorithm,
            character_coverage=1.0,
            normalization_rule_name="identity",
            max_sentence_length=max(_LINE, *(len(line.encode("utf-8")) + 1 for line in lines)),
            input_sentence_size=0,  # all of them, in their order
            shuffle_input_sentence=False,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,  # sums over threads depend on their number
            minloglevel=_ONLY_FATAL,
        )
    except RuntimeError as error:
        if largest := _TOO_MANY.search(str(error)):
            _refuse_size(vocabulary_size, f"at most {int(largest[1]) + offset}", "smaller")
        if smallest := _TOO_FEW.search(str(error)):
            _refuse_size(vocabulary_size, f"at least {int(smallest[1]) + offset}, a piece a character", "larger")
        raise UserError(f"no pieces can be trained on the transcripts ({error})") from error
    return written.getvalue()


def _refuse_size(size: int, expected: str, direction: str) -> None:
    raise UserError(
        f"vocabulary_size is {size}",
        expected=f"{expected}, for these training transcripts",
        fix=f"set a {direction} --vocabulary_size",
    ) from None
