"""CTC beam search with an optional n-gram language model: pyctcdecode's search with nothing left to its guesses.

pyctcdecode guesses the kind of its input (logits or probabilities), of its alphabet (pieces or characters) and the
blank. Here the caller states all three, and they are checked.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kd_asr_slr.decoding.log_probs import check_log_probs
from kd_asr_slr.decoding.ngram_scorer import (
    NgramScorer,
    check_spelling_coverage,
    check_word_coverage,
    load_kenlm,
    prefixes_of,
    read_unigrams,
)
from kd_asr_slr.decoding.spelling import LONE_START, WORD_START, checked_pieces, clean, spelling_of
from kd_asr_slr.errors import raise_all

if TYPE_CHECKING:
    from pyctcdecode import BeamSearchDecoderCTC

logger = logging.getLogger(__name__)

DEFAULT_BEAM_WIDTH = 100
DEFAULT_LM_WEIGHT = 0.5
DEFAULT_WORD_SCORE = 1.5
DEFAULT_OOV_OFFSET = -10.0
DEFAULT_BEAM_PRUNE_LOGP = -10.0
DEFAULT_TOKEN_MIN_LOGP = -5.0

# Tokens that stand for no text: a search never outputs them.
SPECIAL_TOKENS = frozenset({"<s>", "</s>", "<pad>", "<unk>", "[PAD]", "[UNK]"})
_MARKS = WORD_START + LONE_START
MIN_LOGP = float(np.log(1e-15))  # pyctcdecode's own floor


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamOptions:
    """How the search weighs and prunes.

    Args:
        beam_width: hypotheses kept after each frame.
        lm_weight: weight of the language model's natural log-probability (alpha). At 0 it has no say at all.
        word_score: added once for every word, to balance what the language model takes (beta); only with a model.
        oov_offset: added to the log10 probability of words that the language model does not know.
        beam_prune_logp: hypotheses this much worse than the best one are dropped (natural logarithm, at most 0).
        token_min_logp: tokens below this log-probability are skipped in a frame unless they are its best.
        prune_history: also merge hypotheses that differ only in words the n-gram no longer sees: faster, not exact.

    Raises:
        UserError: listing every value out of range.
    """

    beam_width: int = DEFAULT_BEAM_WIDTH
    lm_weight: float = DEFAULT_LM_WEIGHT
    word_score: float = DEFAULT_WORD_SCORE
    oov_offset: float = DEFAULT_OOV_OFFSET
    beam_prune_logp: float = DEFAULT_BEAM_PRUNE_LOGP
    token_min_logp: float = DEFAULT_TOKEN_MIN_LOGP
    prune_history: bool = False

    def __post_init__(self) -> None:
        problems = []
        if self.beam_width < 1:
            problems.append(f"beam_width is {self.beam_width}; expected 1 or more")
        if not (np.isfinite(self.lm_weight) and self.lm_weight >= 0):
            problems.append(f"lm_weight is {self.lm_weight}; expected 0 or more")
        if not np.isfinite(self.word_score):
            problems.append(f"word_score is {self.word_score}; expected a finite number")
        if not (np.isfinite(self.oov_offset) and self.oov_offset <= 0):
            problems.append(f"oov_offset is {self.oov_offset}; expected a finite number, 0 or less")
        for name in ("beam_prune_logp", "token_min_logp"):
            if not getattr(self, name) <= 0:  # -inf: no pruning
                problems.append(f"{name} is {getattr(self, name)}; expected 0 or less")
        raise_all(problems, "beam search options")


class BeamHypothesis(NamedTuple):
    """The best hypothesis: token indices (blanks dropped), its text, and CTC + language model score (natural log).

    The search over pieces sums over all sequences of them that spell one text, so there `token_ids` is None.
    """

    token_ids: list[int] | None
    text: str
    score: float


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
        self._columns = sorted([blank_id, *pieces])
        alphabet = [pieces.get(index, "") for index in self._columns]
        self.lm_warning: str | None = None
        self._scorer = self._load_scorer(Path(lm_path)) if lm_path is not None else None
        self._search = _build_search(alphabet, self._spelling.starts_words, self._scorer)
        # pyctcdecode keeps every language model in a dictionary of the class; this one goes with its decoder.
        weakref.finalize(self, self._search.cleanup)

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
        matrix = check_log_probs(log_probs, self._size)[:, self._columns]  # [T, V] -> [T, V without specials]
        if not len(matrix):
            return BeamHypothesis(None if self._spelling.split is None else [], "", 0.0)
        text, _, _, _, score = self._search.decode_beams(
            np.maximum(matrix, MIN_LOGP),  # a frame may have no mass outside the special tokens
            beam_width=self.options.beam_width,
            beam_prune_logp=self.options.beam_prune_logp,
            token_min_logp=self.options.token_min_logp,
            prune_history=self.options.prune_history,
        )[0]
        split = self._spelling.split
        ids = None if split is None else [self._ids[piece] for piece in split(text)]
        return BeamHypothesis(ids, clean(text), float(score))

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
            known = frozenset(label for label in labels if label in model)
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


def _build_search(alphabet: list[str], starts_words: bool, scorer: NgramScorer | None) -> BeamSearchDecoderCTC:
    """Build pyctcdecode's search from parts, past the factory that guesses and warns."""
    from pyctcdecode import Alphabet, BeamSearchDecoderCTC

    return BeamSearchDecoderCTC(Alphabet(alphabet, starts_words), scorer)
