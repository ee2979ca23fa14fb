"""Counts and pairs of one utterance against kaldialign, jiwer, a written-out Levenshtein and hand examples."""

from __future__ import annotations

import random

import jiwer
import kaldialign
import pytest

from kd_asr_slr.scoring.alignment import UtteranceCounts, align, count_errors


def levenshtein(reference: list[str], hypothesis: list[str]) -> int:
    row = list(range(len(hypothesis) + 1))
    for i, left in enumerate(reference, 1):
        previous, row = row, [i]
        for j, right in enumerate(hypothesis, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (left != right)))
    return row[-1]


def random_pair(seed: int, longest: int = 12) -> tuple[list[str], list[str]]:
    rng = random.Random(seed)
    words = rng.sample(["REGEN", "SONNE", "*", "-1", "é", "日本", "IX", ""][:7], k=rng.randint(1, 7))
    return tuple([rng.choice(words) for _ in range(rng.randint(0, longest))] for _ in range(2))


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("A B C", "A B C", UtteranceCounts(0, 0, 0, 3)),
        ("A B C", "A X", UtteranceCounts(1, 1, 0, 1)),
        ("A B C", "", UtteranceCounts(0, 3, 0, 0)),
        ("", "A B", UtteranceCounts(0, 0, 2, 0)),
        ("", "", UtteranceCounts(0, 0, 0, 0)),
        ("A B", "A X Y B", UtteranceCounts(0, 0, 2, 2)),
        ("ONE", "one", UtteranceCounts(1, 0, 0, 0)),
    ],
)
@pytest.mark.parametrize("costs", ["unit", "sclite"])
def test_by_hand(reference, hypothesis, counts, costs):
    found = count_errors(reference.split(), hypothesis.split(), costs)
    assert found == counts
    assert found.reference_tokens == len(reference.split())
    assert found.errors == counts.substitutions + counts.deletions + counts.insertions


@pytest.mark.parametrize("seed", range(200))
def test_unit_costs_give_the_fewest_errors(seed):
    reference, hypothesis = random_pair(seed)
    found = count_errors(reference, hypothesis)
    assert found.errors == levenshtein(reference, hypothesis)
    assert found.reference_tokens == len(reference)
    assert found.hits + found.substitutions + found.insertions == len(hypothesis)
    if reference:
        assert found.errors == pytest.approx(jiwer.wer(" ".join(reference), " ".join(hypothesis)) * len(reference))


@pytest.mark.parametrize("seed", range(50))
def test_sclite_costs_are_kaldialigns(seed):
    reference, hypothesis = random_pair(seed)
    found = count_errors(reference, hypothesis, "sclite")
    theirs = kaldialign.edit_distance(reference, hypothesis, sclite_mode=True)
    assert (found.substitutions, found.deletions, found.insertions) == (theirs["sub"], theirs["del"], theirs["ins"])


def test_sclite_costs_can_give_more_errors():
    """Five substitutions cost 20, two hits with three deletions and three insertions 18."""
    reference, hypothesis = list("ABCDE"), list("DEXYZ")
    assert count_errors(reference, hypothesis, "unit").errors == 5
    assert count_errors(reference, hypothesis, "sclite") == UtteranceCounts(0, 3, 3, 2)


@pytest.mark.parametrize("costs", ["unit", "sclite"])
@pytest.mark.parametrize("seed", range(60))
def test_pairs_spell_both_sides_and_agree_with_the_counts(seed, costs):
    reference, hypothesis = random_pair(seed)
    pairs = align(reference, hypothesis, costs)
    assert [left for left, _ in pairs if left is not None] == reference
    assert [right for _, right in pairs if right is not None] == hypothesis
    counts = UtteranceCounts(
        substitutions=sum(None not in pair and pair[0] != pair[1] for pair in pairs),
        deletions=sum(right is None for _, right in pairs),
        insertions=sum(left is None for left, _ in pairs),
        hits=sum(left == right for left, right in pairs),
    )
    assert counts.errors == count_errors(reference, hypothesis, costs).errors


def test_pairs_by_hand():
    assert align(["A", "B"], ["A", "B", "C"]) == [("A", "A"), ("B", "B"), (None, "C")]
    assert align(["A", "B"], ["X", "B"]) == [("A", "X"), ("B", "B")]
    assert align(["A"], []) == [("A", None)]
    assert align([], []) == []


@pytest.mark.parametrize("function", [align, count_errors])
def test_sentences_and_unknown_costs_are_refused(function):
    with pytest.raises(ValueError, match="its tokens"):
        function("A B", ["A", "B"])
    with pytest.raises(ValueError, match="unknown alignment costs 'wer'"):
        function(["A"], ["A"], "wer")
