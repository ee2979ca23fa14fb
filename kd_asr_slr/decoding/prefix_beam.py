"""Plain CTC prefix beam search: no language model, any token set.

Source: Hannun, Maas, Jurafsky, Ng, "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional
Recurrent DNNs" (2014), algorithm 1, without its language model. All sums are taken in the log domain.
Ties: of two equally probable label sequences the one that sorts first (as a tuple of indices) is preferred.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from numpy.typing import ArrayLike

from kd_asr_slr.decoding.log_probs import check_log_probs

IMPOSSIBLE = -math.inf
DEFAULT_BEAM_WIDTH = 100

Prefix = tuple[int, ...]


class ScoredLabels(NamedTuple):
    """A label sequence and its natural log-probability, summed over the alignments the beam has kept."""

    token_ids: list[int]
    log_prob: float


@dataclass(slots=True)
class _Mass:
    """Log-probability of a prefix over the paths that end in a blank, and over those that end in its last label."""

    blank: float = IMPOSSIBLE
    label: float = IMPOSSIBLE

    @property
    def total(self) -> float:
        return _log_add(self.blank, self.label)


def prefix_beam_search(
    log_probs: ArrayLike,
    blank: int,
    beam_width: int | None = DEFAULT_BEAM_WIDTH,
    token_min_logp: float = IMPOSSIBLE,
) -> list[ScoredLabels]:
    """Search the most probable label sequences, best first.

    With `beam_width=None` nothing is pruned, and the log-probabilities are exact: the mass of every sequence
    that fits into T frames. That is for small T and V only, the number of prefixes grows as V to the power T.

    Args:
        log_probs: natural log-probabilities [T, V].
        blank: index of the blank.
        beam_width: prefixes kept after each frame, or None for all.
        token_min_logp: tokens below this log-probability begin no new label in a frame; by default none is left out.

    Raises:
        ValueError: if the input is not a matrix of log-probabilities, the blank is not in it, or the width is below 1.

    Example:
        >>> import numpy as np
        >>> with np.errstate(divide="ignore"):
        ...     frames = np.log([[0.4, 0.0, 0.6], [0.4, 0.0, 0.6]])
        >>> best = prefix_beam_search(frames, blank=2)[0]
        >>> best.token_ids, round(best.log_prob, 4)  # log(0.64)
        ([0], -0.4463)
    """
    matrix = check_log_probs(log_probs)  # [T, V]
    if not 0 <= blank < matrix.shape[1]:
        raise ValueError(f"blank index {blank}; expected 0 to {matrix.shape[1] - 1}")
    if beam_width is not None and beam_width < 1:
        raise ValueError(f"beam width {beam_width}; expected 1 or more")
    beam: list[tuple[Prefix, _Mass]] = [((), _Mass(blank=0.0))]
    for frame in matrix.tolist():
        beam = _best(_extend(beam, frame, blank, token_min_logp), beam_width)
    return [ScoredLabels(list(prefix), mass.total) for prefix, mass in beam]


def prefix_beam_decode(log_probs: ArrayLike, blank: int, beam_width: int | None = DEFAULT_BEAM_WIDTH) -> list[int]:
    """Return the best label sequence of `prefix_beam_search`, blanks dropped and repeats collapsed."""
    return prefix_beam_search(log_probs, blank, beam_width)[0].token_ids


def _extend(
    beam: list[tuple[Prefix, _Mass]], frame: list[float], blank: int, token_min_logp: float
) -> dict[Prefix, _Mass]:
    """Move every prefix over one frame [V], merging the paths that lead to the same prefix."""
    worth = [(token, score) for token, score in enumerate(frame) if score >= token_min_logp and token != blank]
    possible = [(token, score) for token, score in worth if score > IMPOSSIBLE]
    following: dict[Prefix, _Mass] = {}
    for prefix, mass in beam:
        total = mass.total
        stay = following.setdefault(prefix, _Mass())
        stay.blank = _log_add(stay.blank, total + frame[blank])
        if prefix:
            stay.label = _log_add(stay.label, mass.label + frame[prefix[-1]])
        for token, score in possible:
            # A label repeats within a sequence only across a blank; without one it is the same label going on.
            source = mass.blank if prefix and token == prefix[-1] else total
            longer = following.setdefault((*prefix, token), _Mass())
            longer.label = _log_add(longer.label, source + score)
    return following


def _best(prefixes: dict[Prefix, _Mass], beam_width: int | None) -> list[tuple[Prefix, _Mass]]:
    """Sort by falling probability, ties by the labels; drop what is impossible or past the beam's width."""
    scored = [(-mass.total, prefix, mass) for prefix, mass in prefixes.items() if mass.total > IMPOSSIBLE]
    scored.sort(key=lambda entry: entry[:2])
    return [(prefix, mass) for _, prefix, mass in scored[:beam_width]]


def _log_add(first: float, second: float) -> float:
    """log(exp(first) + exp(second)), also for -inf."""
    high, low = (first, second) if first >= second else (second, first)
    return high if low == IMPOSSIBLE else high + math.log1p(math.exp(low - high))
