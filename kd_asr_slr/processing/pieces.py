"""Pieces of words as labels: a SentencePiece model behind the interface of `LabelTokenizer`.

Source: Kudo, "Subword Regularization" (ACL 2018) for the unigram pieces; Sennrich, Haddow, Birch, "Neural Machine
Translation of Rare Words with Subword Units" (ACL 2016) for byte-pair encoding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor

from kd_asr_slr.errors import UserError
from kd_asr_slr.files import write_bytes
from kd_asr_slr.processing.piece_training import train_pieces
from kd_asr_slr.processing.tokenization import BEGIN, BLANK, END, LabelTokenizer

WORD_START = "▁"
MODEL_SUFFIXES = (".model", ".ckpt")  # SpeechBrain saves its SentencePiece model as tokenizer.ckpt
NO_LABEL = -1


class PieceTokenizer(LabelTokenizer):
    """Pieces of words for CTC, with or without a decoder.

    Index 0 is the blank; "<s>" and "</s>" follow for models with a decoder; then the pieces in the order of the
    SentencePiece model. The model's own specials (unknown, begin, end, padding), bytes and unused pieces are no labels
    and have no index here. So a SpeechBrain tokenizer with its unknown piece at 0, begin at 1 and end at 2 keeps all
    its indices: its unknown piece, which such networks use as blank, becomes the blank.

    `save_pretrained` writes `vocab.json` (token -> index) and `pieces.model` (the SentencePiece model as it came).

    Args:
        vocab_file: a `vocab.json`; or
        token_sequence: every token in index order.
        model_file: a SentencePiece model; or
        model: its content.
        kind: "pieces".
        pad_token, bos_token, eos_token: the special tokens; they must be in the list.

    Raises:
        UserError: if the model cannot be read, or the list is broken or not that of the model.

    Example:
        >>> tokenizer = PieceTokenizer.from_texts(["ZERO ONE", "ONE ZERO"], vocabulary_size=8)
        >>> tokenizer.decode_labels(tokenizer.encode_labels("ONE ZERO"))
        'ONE ZERO'
    """

    vocab_files_names = {"vocab_file": "vocab.json", "model_file": "pieces.model"}
    kinds = ("pieces",)

    def __init__(
        self,
        vocab_file: str | None = None,
        model_file: str | None = None,
        token_sequence: Sequence[str] | None = None,
        model: bytes | None = None,
        kind: str = "pieces",
        **kwargs: Any,
    ) -> None:
        if model is None:
            model = _content(model_file)
        self._model = model
        self._segmenter = read_model(model, str(model_file or "the SentencePiece model"))
        super().__init__(vocab_file, token_sequence, kind=kind, **kwargs)
        labels = labels_of(self._segmenter)
        if foreign := sorted(self._label_index.keys() - set(labels.values())):
            raise UserError(
                f"the vocabulary has '{foreign[0]}' and its SentencePiece model has no such piece",
                expected="vocab.json and pieces.model as they were saved together",
            )
        size = self._segmenter.get_piece_size()
        self._places = [self._label_index.get(labels.get(index, ""), NO_LABEL) for index in range(size)]

    @classmethod
    def from_texts(  # type: ignore[override]  # pieces need to know how many
        cls,
        texts: Iterable[str],
        vocabulary_size: int,
        algorithm: str = "unigram",
        decoder_specials: bool = False,
    ) -> PieceTokenizer:
        """Train pieces on the training transcripts; the same texts give the same pieces.

        Args:
            texts: transcripts, normalised already; read once.
            vocabulary_size: V, every token: the blank, the specials and the pieces.
            algorithm: "unigram" or "bpe".
            decoder_specials: whether the model has a decoder and needs "<s>" and "</s>".

        Raises:
            UserError: if there is no text, or so many pieces cannot be made of it (the largest number is named).
        """
        model = train_pieces(texts, vocabulary_size, algorithm, specials=len(_specials(decoder_specials)))
        return cls.from_model(model, decoder_specials)

    @classmethod
    def from_file(cls, path: str | Path, decoder_specials: bool = False) -> PieceTokenizer:
        """Take over a SentencePiece model: any `.model`, or SpeechBrain's `tokenizer.ckpt`.

        Args:
            path: the file.
            decoder_specials: whether the model has a decoder and needs "<s>" and "</s>".

        Raises:
            UserError: if it is no SentencePiece model, or has no pieces.
        """
        return cls.from_model(_content(path), decoder_specials, str(path))

    @classmethod
    def from_model(cls, model: bytes, decoder_specials: bool = False, name: str = "the model") -> PieceTokenizer:
        """The same from the file's content; `name` stands for it in messages.

        Raises:
            UserError: if it has no labels, or labels that are special tokens.
        """
        labels = labels_of(read_model(model, name))
        specials = _specials(decoder_specials)
        if taken := sorted(set(labels.values()).intersection(specials)):
            raise UserError(f"{name} has the pieces {', '.join(taken)}", "pieces unlike the special tokens")
        if not labels:
            raise UserError(f"{name} has no pieces that are labels", "a SentencePiece model of pieces")
        begin, end = (BEGIN, END) if decoder_specials else (None, None)
        tokens = [*specials, *labels.values()]
        return cls(token_sequence=tokens, model=model, pad_token=BLANK, bos_token=begin, eos_token=end)

    def encode_labels(self, text: str, unknown: str = "error") -> list[int]:
        """Indices of the pieces of one transcript.

        Args:
            text: a transcript, normalised already.
            unknown: "error", or "drop" (evaluation: the loss does without what has no piece).

        Raises:
            UserError: naming the words that the pieces cannot spell, unless what has no piece is to be dropped.
        """
        places = [self._places[index] for index in self._segmenter.encode(text)]
        if unknown == "error" and (NO_LABEL in places or WORD_START in text):
            self._refuse_words(text)
        return [place for place in places if place != NO_LABEL]

    def missing_labels(self, texts: Iterable[str]) -> dict[str, int]:
        """Words that the pieces cannot spell and how often they occur, the commonest first.

        Args:
            texts: transcripts; read once.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(word for word in text.split() if self._unspelled(word))
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Join pieces to a text; a piece that begins with "▁" begins a word."""
        return " ".join("".join(tokens).replace(WORD_START, " ").split())

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write `vocab.json` and `pieces.model` into the folder; called by `save_pretrained`."""
        written = super().save_vocabulary(save_directory, filename_prefix)
        name = (f"{filename_prefix}-" if filename_prefix else "") + self.vocab_files_names["model_file"]
        return *written, str(write_bytes(Path(save_directory) / name, self._model))

    def _tokenize(self, text: str, **kwargs: object) -> list[str]:
        return self._segmenter.encode(text, out_type=str)

    def _unspelled(self, word: str) -> list[str]:
        """What of a word has no piece: runs of characters."""
        found = [WORD_START] if WORD_START in word else []
        pairs = zip(self._segmenter.encode(word), self._segmenter.encode(word, out_type=str), strict=True)
        return found + [piece.strip(WORD_START) for index, piece in pairs if self._places[index] == NO_LABEL]

    def _refuse_words(self, text: str) -> None:
        missing = {word: parts for word in dict.fromkeys(text.split()) if (parts := self._unspelled(word))}
        shown = ", ".join(
            f"'{word}' (no piece for {', '.join(map(repr, dict.fromkeys(parts)))})"
            for word, parts in list(missing.items())[:10]
        )
        raise UserError(
            f"{text!r} has words that the {len(self.tokens)} pieces cannot spell: {shown}",
            expected="only characters that the pieces were trained on",
            fix="train the pieces on this corpus (--tokenizer_kind pieces --vocabulary_size N), or correct the "
            "transcript or its text normaliser",
        )


def labels_of(segmenter: SentencePieceProcessor) -> dict[int, str]:
    """The pieces that are labels, by their index in the SentencePiece model: neither specials, nor bytes, nor unused.

    Args:
        segmenter: a SentencePiece model.
    """
    left_out = (segmenter.is_unknown, segmenter.is_control, segmenter.is_byte, segmenter.is_unused)
    return {
        index: segmenter.id_to_piece(index)
        for index in range(segmenter.get_piece_size())
        if not any(kind(index) for kind in left_out)
    }


def read_model(content: bytes, name: str) -> SentencePieceProcessor:
    """A SentencePiece model from its file's content.

    Args:
        content: the whole file.
        name: what messages call it.

    Raises:
        UserError: if it is none.
    """
    try:
        if content:  # an empty file would pass as a model of no pieces
            return SentencePieceProcessor(model_proto=content)
    except RuntimeError:
        pass
    raise UserError(f"{name} is no SentencePiece model", "a .model file, or SpeechBrain's tokenizer.ckpt")


def _content(path: str | Path | None) -> bytes:
    if path is None:
        raise UserError("no pieces.model for the PieceTokenizer", "a folder that save_pretrained wrote")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", "a SentencePiece model") from error


def _specials(decoder: bool) -> list[str]:
    return [BLANK, BEGIN, END] if decoder else [BLANK]
