"""Beam search over characters and pieces of words: pyctcdecode's, on the tokens of an utterance that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from kd_asr_slr.decoding.beam_options import BeamHypothesis, BeamOptions
from kd_asr_slr.decoding.candidates import Candidates
from kd_asr_slr.decoding.ngram_scorer import NgramScorer
from kd_asr_slr.decoding.spelling import Spelling, clean


class TextSearch:
    """Searches the candidates of utterances for their best text.

    Args:
        pieces: pyctcdecode's piece by token index, without the blank.
        blank: index of the blank.
        spelling: the kind of the tokens.
        scorer: the language model, or None.
    """

    def __init__(self, pieces: Mapping[int, str], blank: int, spelling: Spelling, scorer: NgramScorer | None) -> None:
        self._pieces = pieces
        self._ids = {piece: index for index, piece in pieces.items()}
        self._blank = blank
        self._spelling = spelling
        self._scorer = scorer

    def best(self, candidates: Candidates, options: BeamOptions) -> BeamHypothesis:
        """The best text of an utterance."""
        from pyctcdecode import Alphabet, BeamSearchDecoderCTC

        split = self._spelling.split
        if not len(candidates.counts):
            return BeamHypothesis(None if split is None else [], "", 0.0)
        used, matrix = candidates.dense(self._blank)  # [C], [T', C]
        alphabet = Alphabet([self._pieces.get(index, "") for index in used.tolist()], self._spelling.starts_words)
        scorer: Any = self._scorer  # it has the methods that are called
        search = BeamSearchDecoderCTC(alphabet, scorer)  # past the factory that guesses and warns
        try:
            text, _, _, _, score = search.decode_beams(
                cast(Any, matrix),
                beam_width=options.beam_width,
                beam_prune_logp=options.beam_prune_logp,
                token_min_logp=options.token_min_logp,
                prune_history=options.prune_history,
            )[0]
        finally:
            search.cleanup()  # pyctcdecode keeps every language model in a dictionary of the class
        # pyctcdecode makes distributions of the rows, over the tokens that are left of them.
        score = float(score + np.logaddexp.reduce(matrix, axis=1).sum())
        return BeamHypothesis(
            None if split is None else [self._ids[piece] for piece in split(text)], clean(text), score
        )
