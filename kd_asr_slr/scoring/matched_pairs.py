"""The matched-pairs test of word errors (MAPSSWE) between two systems, as NIST's sc_stats makes it.

Utterances are cut into segments at runs of words that both systems have right, so that the errors of one segment hardly
depend on those of the next. The difference of errors is then tested over the segments, where it is not zero by
construction.

A system may be several runs, its seeds (`segments_of_runs`). A segment then ends where every run of both systems is
right, and has the mean of the errors over the runs. Such segments hardly depend on each other either, and that is all
that the test asks for. But the runs are taken as they are: it is the chance of the utterances that is tested, not that
of the seeds. For both at once there is `significance.compare_systems`.
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

Segment = tuple[float, float]  # errors of the one system, of the other; means over its runs
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
) -> list[tuple[int, int]]:
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
    pairs = segments_of_runs(reference, [ours], [theirs], costs, boundary)
    return [(int(first), int(second)) for first, second in pairs]


def segments_of_runs(
    reference: Tokens,
    ours: Sequence[Tokens],
    theirs: Sequence[Tokens],
    costs: str = "unit",
    boundary: int = BOUNDARY,
) -> list[Segment]:
    """`segments_of` between two systems of several runs: the errors of a segment are means over a system's runs.

    Args:
        reference: tokens of the reference.
        ours: what every run of the one system recognised.
        theirs: what every run of the other one recognised; the systems may have different numbers of runs.
        costs: of the alignment, see `alignment`.
        boundary: words in a row that all runs have right.

    Source: Gillick and Cox (ICASSP 1989), whose test asks of the segments that they are independent, and nothing of how
        their errors are counted. The mean over runs is this module's own reading of it.

    Example:
        >>> segments_of_runs("A B C D".split(), ["X B C D".split(), "A B C D".split()], ["A B C X".split()])
        [(0.5, 0.0), (0.0, 1.0)]
    """
    found: list[Segment] = []
    sides = [[_slots(reference, tokens, costs) for tokens in side] for side in (ours, theirs)]
    errors, right = [0.0, 0.0], 0  # of the segment that is open; words in a row that all have right
    for place in range(len(reference) + 1):
        inserted = [[run[place][0] for run in side] for side in sides]
        wrong = [[run[place][1] for run in side] for side in sides]
        for counts in (inserted, wrong):
            if any(map(any, counts)):
                errors = [total + sum(side) / len(side) for total, side in zip(errors, counts, strict=True)]
                right = 0
        if not any(map(any, wrong)):
            right += 1
        if any(errors) and right >= boundary:
            found.append((errors[0], errors[1]))
            errors = [0.0, 0.0]
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
