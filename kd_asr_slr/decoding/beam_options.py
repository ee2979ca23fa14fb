"""How a beam search weighs and prunes, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kd_asr_slr.errors import raise_all

DEFAULT_BEAM_WIDTH = 100
DEFAULT_LM_WEIGHT = 0.5
DEFAULT_WORD_SCORE = 1.5
DEFAULT_OOV_OFFSET = -10.0
DEFAULT_BEAM_PRUNE_LOGP = -10.0
DEFAULT_TOKEN_MIN_LOGP = -5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamOptions:
    """How the search weighs and prunes.

    Args:
        beam_width: hypotheses kept after each frame.
        lm_weight: weight of the language model's natural log-probability (alpha). At 0 it has no say at all.
        word_score: added once for every word, to balance what the language model takes (beta); only with a model.
        oov_offset: added to the log10 probability of words that the language model does not know.
        beam_prune_logp: hypotheses this much worse than the best one are dropped (natural logarithm, at most 0).
        token_min_logp: tokens below this log-probability are skipped in a frame unless they are its best; a frame in
            which only the blank is left (at -5: a blank above 0.9933, often less) is no work at all behind another one.
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
