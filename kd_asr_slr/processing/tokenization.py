"""Labels and their indices: one explicit token list, the blank first, and a fingerprint to compare two by."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from transformers import PreTrainedTokenizer, PreTrainedTokenizerBase

from kd_asr_slr.errors import UserError, raise_all

BLANK = "<blank>"
BEGIN = "<s>"
END = "</s>"
SPACE = "|"
KINDS = ("words", "characters")


def fingerprint_of(tokens: Sequence[str], blank_id: int) -> str:
    """Name a vocabulary by its content: equal fingerprints mean the same tokens in the same order and the same blank.

    Args:
        tokens: every token, in index order.
        blank_id: index of the CTC blank.

    Returns:
        The first 16 hexadecimal digits of a SHA-256.

    Example:
        >>> fingerprint_of(["<blank>", "A"], 0) == fingerprint_of(["<blank>", "A"], 1)
        False
    """
    content = json.dumps([list(tokens), int(blank_id)], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(content.encode("ascii")).hexdigest()[:16]


def token_list(tokenizer: PreTrainedTokenizerBase) -> tuple[list[str], int]:
    """The tokens of any transformers CTC tokenizer in index order, and the index of its blank (its padding token).

    Args:
        tokenizer: ours, or e.g. a `Wav2Vec2CTCTokenizer`.

    Raises:
        UserError: if the indices have holes, or there is no padding token to serve as blank.
    """
    name = type(tokenizer).__name__
    by_index = {index: token for token, index in tokenizer.get_vocab().items()}
    holes = [index for index in range(len(by_index)) if index not in by_index]
    if holes:
        raise UserError(f"the {name} has no token of index {holes[0]}", f"the indices 0 to {len(by_index) - 1}")
    if tokenizer.pad_token_id is None:
        raise UserError(f"the {name} has no padding token", "one, since CTC takes it as its blank")
    return [by_index[index] for index in range(len(by_index))], int(tokenizer.pad_token_id)


def split_labels(text: str, kind: str) -> list[str]:
    """Cut a transcript into labels: its words, or its characters with "|" for the space.

    Args:
        text: a transcript; runs of white space count as one space.
        kind: "words" or "characters".

    Raises:
        UserError: if a text for characters contains the "|" that stands for the space.
    """
    words = text.split()
    if kind == "words":
        return words
    if SPACE in text:
        raise UserError(
            f"the text {text!r} contains '{SPACE}'",
            "no such character, it stands for the space",
            fix="remove it from the transcript, or use kind 'words'",
        )
    return list(SPACE.join(words))


class LabelTokenizer(PreTrainedTokenizer):
    """A closed list of labels for CTC, with or without a decoder: words (glosses) or characters.

    Index 0 is the blank (the padding token); "<s>" and "</s>" follow for models with a decoder; then the labels.
    Build one with `from_texts`; `save_pretrained` writes `vocab.json` (token -> index) as other CTC tokenizers do.

    Args:
        vocab_file: a `vocab.json`; or
        token_sequence: every token in index order.
        kind: "words" or "characters".
        pad_token, bos_token, eos_token: the special tokens; they must be in the list.

    Raises:
        UserError: if the kind is unknown, or the list is broken (duplicates, holes, a special token missing).

    Example:
        >>> tokenizer = LabelTokenizer.from_texts(["ZERO ONE"], kind="words", decoder_specials=False)
        >>> tokenizer.tokens, tokenizer.encode_labels("ONE ZERO")
        (['<blank>', 'ONE', 'ZERO'], [1, 2])
    """

    vocab_files_names = {"vocab_file": "vocab.json"}
    model_input_names = ["input_ids", "attention_mask"]
    kinds: tuple[str, ...] = KINDS

    def __init__(
        self,
        vocab_file: str | None = None,
        token_sequence: Sequence[str] | None = None,
        kind: str = "words",
        pad_token: str = BLANK,
        bos_token: str | None = None,
        eos_token: str | None = None,
        **kwargs: object,
    ) -> None:
        if kind not in self.kinds:
            raise UserError(f"unknown kind of labels '{kind}'", f"one of {', '.join(self.kinds)}")
        if token_sequence is None:
            token_sequence = _read_vocabulary(vocab_file)
        specials = [str(token) for token in (pad_token, bos_token, eos_token) if token is not None]
        _check_tokens(token_sequence, specials)
        self.kind = kind
        self._tokens = list(token_sequence)
        self._index = {token: index for index, token in enumerate(self._tokens)}
        self._label_index = {token: index for token, index in self._index.items() if token not in specials}
        kwargs.setdefault("special_tokens_pattern", "none")
        super().__init__(pad_token=pad_token, bos_token=bos_token, eos_token=eos_token, kind=kind, **kwargs)

    @classmethod
    def from_texts(cls, texts: Iterable[str], kind: str = "words", decoder_specials: bool = False) -> LabelTokenizer:
        """Collect the labels of the training transcripts, sorted by code point.

        Args:
            texts: transcripts, normalised already; read once.
            kind: "words" or "characters".
            decoder_specials: whether the model has a decoder and needs "<s>" and "</s>".

        Raises:
            UserError: if there is no label, or a label is spelled like a special token.
        """
        labels: set[str] = set()
        for text in texts:
            labels.update(split_labels(text, kind))
        if not labels:
            raise UserError("no label in the training transcripts", "at least one word")
        specials = [BLANK, BEGIN, END] if decoder_specials else [BLANK]
        if taken := sorted(labels.intersection(specials)):
            raise UserError(f"the transcripts contain {', '.join(taken)}", "labels unlike the special tokens")
        begin, end = (BEGIN, END) if decoder_specials else (None, None)
        return cls(token_sequence=[*specials, *sorted(labels)], kind=kind, bos_token=begin, eos_token=end)

    @property
    def tokens(self) -> list[str]:
        """Every token, in index order."""
        return list(self._tokens)

    @property
    def blank_id(self) -> int:
        """Index of the CTC blank."""
        return self._index[str(self.pad_token)]

    @property
    def bos_id(self) -> int | None:
        """Index of the begin-of-sequence token, None without a decoder."""
        return None if self.bos_token is None else self._index[str(self.bos_token)]

    @property
    def eos_id(self) -> int | None:
        """Index of the end-of-sequence token, None without a decoder."""
        return None if self.eos_token is None else self._index[str(self.eos_token)]

    @property
    def fingerprint(self) -> str:
        """`fingerprint_of` these tokens."""
        return fingerprint_of(self._tokens, self.blank_id)

    def encode_labels(self, text: str, unknown: str = "error") -> list[int]:
        """Indices of the labels of one transcript.

        Args:
            text: a transcript, normalised already.
            unknown: "error", or "drop" (evaluation: the loss does without labels that training never saw).

        Raises:
            UserError: naming the labels outside the vocabulary, unless they are to be dropped.
        """
        labels = split_labels(text, self.kind)
        missing = sorted({label for label in labels if label not in self._label_index})
        if missing and unknown == "error":
            raise unknown_labels(text, missing, len(self._tokens))
        return [self._label_index[label] for label in labels if label in self._label_index]

    def decode_labels(self, ids: Iterable[int]) -> str:
        """Text of a label sequence whose repeats and blanks are collapsed already; special tokens are dropped.

        Args:
            ids: indices, e.g. what greedy decoding returns.
        """
        labels = [self._tokens[index] for index in ids]
        return self.convert_tokens_to_string([label for label in labels if label in self._label_index])

    def missing_labels(self, texts: Iterable[str]) -> dict[str, int]:
        """Labels outside the vocabulary and how often they occur, the commonest first.

        Args:
            texts: transcripts; read once.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(label for label in split_labels(text, self.kind) if label not in self._label_index)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    # What transformers asks of a tokenizer written in Python.

    @property
    def vocab_size(self) -> int:
        """Number of tokens, the blank included."""
        return len(self._tokens)

    def get_vocab(self) -> dict[str, int]:
        """Token -> index."""
        return dict(self._index)

    def _tokenize(self, text: str, **kwargs: object) -> list[str]:
        return split_labels(text, self.kind)

    def _convert_token_to_id(self, token: str) -> int | None:
        return self._index.get(token)

    def _convert_id_to_token(self, index: int) -> str:
        return self._tokens[index]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Join labels to a text: words with a space, characters with "|" turned back into a space."""
        if self.kind == "words":
            return " ".join(tokens)
        return " ".join("".join(tokens).replace(SPACE, " ").split())

    def _decode(
        self,
        token_ids: int | Sequence[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        group_tokens: bool = True,
        **kwargs: object,
    ) -> str:
        """Text of a best path, as transformers' CTC tokenizers read it: `decode` collapses repeats, then drops blanks.

        So `transformers.pipeline` and `batch_decode(logits.argmax(-1))` give a text. `group_tokens=False` is for labels
        that are collapsed already.
        """
        del skip_special_tokens, clean_up_tokenization_spaces, kwargs  # no special token is ever part of a text
        path = [token_ids] if isinstance(token_ids, int) else token_ids
        return self.decode_labels([index for index, _ in groupby(path)] if group_tokens else path)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write `vocab.json` into the folder; called by `save_pretrained`."""
        name = (f"{filename_prefix}-" if filename_prefix else "") + self.vocab_files_names["vocab_file"]
        path = Path(save_directory) / name
        path.write_text(json.dumps(self._index, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
        return (str(path),)


def unknown_labels(text: str, missing: Sequence[str], size: int) -> UserError:
    """The error for a transcript with labels outside a vocabulary of `size` tokens."""
    shown = ", ".join(repr(label) for label in missing[:10]) + (", ..." if len(missing) > 10 else "")
    return UserError(
        f"{text!r} has labels outside the vocabulary of {size} tokens: {shown}",
        "known labels only",
        fix="make the vocabulary from this corpus's training split, or correct the transcript",
    )


def _read_vocabulary(vocab_file: str | None) -> list[str]:
    if vocab_file is None:
        raise UserError("no vocab.json for the LabelTokenizer", "a folder that save_pretrained wrote")
    try:
        index = json.loads(Path(vocab_file).read_text(encoding="utf-8"))
        return [token for token, _ in _in_order(index)]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        found = f"cannot read the vocabulary {vocab_file} ({error})"
        raise UserError(found, "JSON of tokens and their indices, from 0 on") from error


def _in_order(index: dict[str, int]) -> list[tuple[str, int]]:
    pairs = sorted(index.items(), key=lambda pair: pair[1])
    if [position for _, position in pairs] != list(range(len(pairs))):
        raise ValueError("its indices are not 0, 1, 2, ...")
    return pairs


def _check_tokens(tokens: Sequence[str], specials: Sequence[str]) -> None:
    problems = [f"'{token}' stands {count} times in it" for token, count in Counter(tokens).items() if count > 1]
    problems += [f"the special token '{token}' is not in it" for token in specials if token not in tokens]
    raise_all(problems, "the token list")
