"""CTC beam search with an optional n-gram language model: pyctcdecode's search with nothing left to its guesses.

pyctcdecode guesses the kind of its input (logits or probabilities), of its alphabet (pieces or characters) and the
blank. Here the caller states all three, and they are checked. What the search need not look at is left out before
(`candidates`); over whole words it runs on integers (`word_search`), over characters and pieces it is pyctcdecode's own
(`text_search`).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from kd_asr_slr.decoding.beam_options import BeamHypothesis, BeamOptions
from kd_asr_slr.decoding.candidates import CandidateFinder, Candidates
from kd_asr_slr.decoding.ngram_scorer import (
    NgramScorer,
    check_spelling_coverage,
    check_word_coverage,
    load_kenlm,
    prefixes_of,
    read_unigrams,
)
from kd_asr_slr.decoding.spelling import LONE_START, WORD_START, checked_pieces, spelling_of
from kd_asr_slr.decoding.text_search import TextSearch
from kd_asr_slr.decoding.word_search import WordSearch
from kd_asr_slr.errors import UserError

logger = logging.getLogger(__name__)

# Tokens that stand for no text: a search never outputs them.
SPECIAL_TOKENS = frozenset({"<s>", "</s>", "<pad>", "<unk>", "[PAD]", "[UNK]"})
_MARKS = WORD_START + LONE_START


class BeamDecoder:
    """Beam search over one vocabulary; the language model is loaded once.

    Args:
        tokens: the vocabulary in the order of the model's outputs, blank and special tokens included.
        blank_id: index of the blank.
        kind: "words" (every token is a whole word or gloss), "characters" (" " or "|" separates words; without
            either the whole utterance is one word) or "pieces" (of words; SentencePiece's "▁" begins a word).
        lm_path: an ARPA or KenLM binary file over words, or None.
        options: weights and pruning.
        special_tokens: tokens that are never output; their probability is given to the others in proportion.

    Raises:
        UserError: a token the kind cannot have, a language model that is missing, unreadable, or has nothing in
            common with the vocabulary. A partial coverage is logged as a warning and kept in `lm_warning`.

    Example:
        >>> decoder = BeamDecoder(["<blank>", "HELLO", "WORLD"], blank_id=0, kind="words")
        >>> decoder.decode(np.log([[0.2, 0.7, 0.1], [0.3, 0.1, 0.6]])).text
        'HELLO WORLD'
    """

    def __init__(
        self,
        tokens: Sequence[str],
        blank_id: int,
        kind: str,
        lm_path: str | Path | None = None,
        options: BeamOptions | None = None,
        special_tokens: Collection[str] = SPECIAL_TOKENS,
    ) -> None:
        self.options = options or BeamOptions()
        self._spelling = spelling_of(kind)
        self._size = len(tokens)
        if not 0 <= blank_id < self._size:
            raise ValueError(f"blank index {blank_id}; expected 0 to {self._size - 1}")
        labels = {i: token for i, token in enumerate(tokens) if i != blank_id and token not in special_tokens}
        pieces = checked_pieces(self._spelling, labels)
        self._ids = {piece: index for index, piece in pieces.items()}
        self._finder = CandidateFinder(self._size, blank_id, sorted(set(range(self._size)) - {blank_id, *pieces}))
        self.lm_warning: str | None = None
        self._scorer = self._load_scorer(Path(lm_path)) if lm_path is not None else None
        self._search: WordSearch | TextSearch
        if self._spelling.whole_words:
            self._search = WordSearch(labels, blank_id, self._scorer)
        else:
            self._search = TextSearch(pieces, blank_id, self._spelling, self._scorer)

    def reweigh(self, lm_weight: float, word_score: float) -> None:
        """Search on with other weights; the language model stays loaded.

        Raises:
            UserError: for weights that `BeamOptions` refuses.
        """
        self.options = replace(self.options, lm_weight=lm_weight, word_score=word_score)
        if self._scorer is not None:
            self._scorer.reweigh(lm_weight, word_score)

    def decode(self, log_probs: ArrayLike) -> BeamHypothesis:
        """Decode one utterance.

        Args:
            log_probs: natural log-probabilities [T, V], rows summing to 1; no frames give an empty hypothesis.

        Raises:
            ValueError: if the input is not a matrix of log-probabilities over the vocabulary.
            UserError: if it holds NaN or +inf.
        """
        return self.search(self.candidates(log_probs))

    def candidates(self, log_probs: ArrayLike) -> Candidates:
        """The part of `decode` in numpy: what is left of an utterance for `search`; arguments and errors as there."""
        return self._finder.find(log_probs, self.options.token_min_logp)

    def search(self, candidates: Candidates) -> BeamHypothesis:
        """The part of `decode` in Python, here or in another process."""
        return self._search.best(candidates, self.options)

    def stream(self) -> BeamStream:
        """A search that takes an utterance's frames as they come, over whole words.

        Raises:
            UserError: for tokens that are no whole words.
        """
        if not isinstance(self._search, WordSearch):
            raise UserError("a beam search follows a stream over whole words only", fix="decode the stream greedily")
        return BeamStream(self, self._search)

    def decode_batch(self, log_probs: ArrayLike, lengths: ArrayLike) -> list[BeamHypothesis]:
        """Decode a padded batch.

        Args:
            log_probs: natural log-probabilities [B, T, V]; frames past an utterance's length are not looked at.
            lengths: valid frames of every utterance [B].
        """
        batch = zip(np.asarray(log_probs), np.asarray(lengths).tolist(), strict=True)
        return [self.decode(utterance[:length]) for utterance, length in batch]

    def _load_scorer(self, path: Path) -> NgramScorer:
        """Load the language model, compare its vocabulary with the decoder's, and wrap it for the search."""
        model = load_kenlm(path)
        if self._spelling.whole_words:
            labels = [piece.removeprefix(WORD_START) for piece in self._ids]
            self.lm_warning = check_word_coverage(labels, model, path)
            # A label is a finished word at once: only whole words count as beginnings.
            known: frozenset[str] | None = frozenset(label for label in labels if label in model)
        else:
            pieces = {piece.strip(_MARKS) for piece in self._ids} if self._spelling.starts_words else self._ids
            known, self.lm_warning = _spelled_words(pieces, path)
        if self.lm_warning:
            logger.warning("%s", self.lm_warning)
        return NgramScorer(model, known, self.options.lm_weight, self.options.word_score, self.options.oov_offset)


def _spelled_words(characters: Iterable[str], path: Path) -> tuple[frozenset[str] | None, str | None]:
    """Return the beginnings of the language model's words, and the warning about those that cannot be spelled."""
    words = read_unigrams(path)
    if words is None:
        return None, f"the language model '{path}' is binary: it does not list its words, so they are not checked"
    return prefixes_of(words), check_spelling_coverage(characters, words, path)


class BeamStream:
    """The search of one utterance, frame by frame; see `BeamDecoder.stream`.

    Args:
        decoder: with its options and candidates.
        search: of the decoder.
    """

    def __init__(self, decoder: BeamDecoder, search: WordSearch) -> None:
        self._decoder = decoder
        self._search = search
        self._beam = search.start()

    def accept(self, log_probs: ArrayLike) -> None:
        """The next frames [T, V], as for `BeamDecoder.decode`."""
        candidates = self._decoder.candidates(log_probs)
        self._beam = self._search.advance(self._beam, candidates, self._decoder.options)

    def hypothesis(self) -> BeamHypothesis:
        """What it would be if the utterance ended here."""
        return self._search.finish(self._beam)

    @property
    def labels(self) -> list[int]:
        """The token indices of that."""
        return self.hypothesis().token_ids or []
