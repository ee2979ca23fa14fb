"""The matched-pairs test of word errors (MAPSSWE) between two runs, as NIST's sc_stats makes it.

Utterances are cut into segments at runs of words that both runs have right, so that the errors of one segment hardly
depend on those of the next. The difference of errors is then tested over the segments, where it is not zero by
construction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from kd_asr_slr.scoring.alignment import align

BOUNDARY = 2  # words in a row that both runs have right end a segment, as in sc_stats
FEW_SEGMENTS = 50  # below that the normal distribution is rough (Gillick and Cox)

Segment = tuple[int, int]  # errors of the one run, of the other
Tokens = Sequence[str]


@dataclass(frozen=True, slots=True)
class MatchedPairs:
    """The outcome of the test.

    Args:
        segments: number of segments with an error of either run.
        difference: mean of (errors of the first run - errors of the second) a segment.
        statistic: the mean over its standard error.
        p_value: two-sided, from the normal distribution.
    """

    segments: int
    difference: float
    statistic: float
    p_value: float


def matched_pairs(segments: Sequence[Segment]) -> MatchedPairs:
    """Test whether two runs make equally many errors a segment.

    Without any variance over the segments (there is one, or all differ alike) nothing is known of the chance: the
    statistic is 0 and the p-value 1, as in sc_stats.

    Args:
        segments: of all utterances, see `segments_of`.

    Source: Gillick and Cox, "Some statistical issues in the comparison of speech recognition algorithms" (ICASSP
        1989); NIST sc_stats (SCTK), test mapsswe: variance over n - 1, normal distribution.

    Example:
        >>> matched_pairs([(2, 1), (1, 1), (3, 1), (1, 0)]).statistic
        2.449489742783178
    """
    differences = np.array([ours - theirs for ours, theirs in segments], dtype=float)
    mean = float(differences.mean()) if len(differences) else 0.0
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    if spread == 0.0:
        return MatchedPairs(len(differences), mean, 0.0, 1.0)
    statistic = mean / (spread / math.sqrt(len(differences)))
    return MatchedPairs(len(differences), mean, statistic, float(2 * stats.norm.sf(abs(statistic))))


def segments_of(
    reference: Tokens, ours: Tokens, theirs: Tokens, costs: str = "unit", boundary: int = BOUNDARY
) -> list[Segment]:
    """Cut one utterance into segments and count both runs' errors in each.

    A segment ends where both runs have `boundary` words in a row right, without an insertion between them; what is
    left at the end of the utterance is a segment too. Segments without an error are left out.

    The errors of all segments are those of the utterance.

    Args:
        reference: tokens of the reference.
        ours: what the one run recognised.
        theirs: what the other one recognised.
        costs: of the alignment, see `alignment`.
        boundary: words in a row that both have right.

    Example:
        >>> segments_of("A B C D E F G".split(), "X B C D E F G".split(), "A B C D E F H I".split())
        [(1, 0), (0, 2)]
    """
    found: list[Segment] = []
    errors, right = [0, 0], 0  # of the segment that is open; words in a row that both have right
    for one, other in zip(_slots(reference, ours, costs), _slots(reference, theirs, costs), strict=True):
        inserted, wrong = (one[0], other[0]), (one[1], other[1])
        if any(inserted):
            errors, right = [errors[0] + inserted[0], errors[1] + inserted[1]], 0
        if any(wrong):
            errors, right = [errors[0] + wrong[0], errors[1] + wrong[1]], 0
        else:
            right += 1
        if any(errors) and right >= boundary:
            found.append((errors[0], errors[1]))
            errors = [0, 0]
    return [*found, (errors[0], errors[1])] if any(errors) else found


def _slots(reference: Tokens, hypothesis: Tokens, costs: str) -> list[tuple[int, int]]:
    """Of every reference token (insertions before it, 1 where it is not recognised); one more for the end."""
    slots, inserted = [], 0
    for truth, guess in align(reference, hypothesis, costs):
        if truth is None:
            inserted += 1
        else:
            slots.append((inserted, int(truth != guess)))
            inserted = 0
    return [*slots, (inserted, 0)]
