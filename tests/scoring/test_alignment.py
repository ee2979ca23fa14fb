"""Counts and pairs of one utterance against NIST sclite, jiwer, every alignment there is and hand examples."""

from __future__ import annotations

import random
import re
import shutil
import subprocess

import jiwer
import pytest

from kd_asr_slr.scoring.alignment import COSTS, UtteranceCounts, align, count_errors
from kd_asr_slr.scoring.nist import Reference, write_ctm, write_stm


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
@pytest.mark.parametrize("costs", COSTS)
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


def every_alignment(reference: list[str], hypothesis: list[str]) -> list[str]:
    """All alignments as their steps from the end: C and S pairs, I insertion, D deletion."""
    if not reference or not hypothesis:
        return ["D" * len(reference) + "I" * len(hypothesis)]
    pair = "C" if reference[-1] == hypothesis[-1] else "S"
    steps = {
        pair: (reference[:-1], hypothesis[:-1]),
        "I": (reference, hypothesis[:-1]),
        "D": (reference[:-1], hypothesis),
    }
    return [step + rest for step, sides in steps.items() for rest in every_alignment(*sides)]


@pytest.mark.parametrize(("costs", "order"), [("sclite", "CSID"), ("vac", "CSDI")])
@pytest.mark.parametrize("seed", range(40))
def test_weighted_costs_against_every_alignment(costs, order, seed):
    """The cheapest by 4 / 3 / 3, and of those the first one when steps from the end are read in the order of ties."""
    reference, hypothesis = random_pair(seed, longest=5)
    price = {"C": 0, "S": 4, "D": 3, "I": 3}
    best = min(
        every_alignment(reference, hypothesis),
        key=lambda steps: (sum(price[step] for step in steps), [order.index(step) for step in steps]),
    )
    found = count_errors(reference, hypothesis, costs)
    assert found == UtteranceCounts(best.count("S"), best.count("D"), best.count("I"), best.count("C"))
    kinds = {(False, False): "P", (True, False): "I", (False, True): "D"}
    pairs = align(reference, hypothesis, costs)
    steps = "".join(kinds[left is None, right is None] for left, right in reversed(pairs))
    assert steps == best.replace("C", "P").replace("S", "P")


@pytest.mark.parametrize(
    ("reference", "hypothesis", "sclite", "vac"),
    [
        ("B C C B", "X Y X B C", UtteranceCounts(3, 0, 1, 1), UtteranceCounts(0, 2, 3, 2)),
        ("A B B C A", "C X A C", UtteranceCounts(0, 3, 2, 2), UtteranceCounts(3, 1, 0, 1)),
    ],
)
def test_ties_as_sclite_breaks_them(reference, hypothesis, sclite, vac):
    """All four cost 15; sclite 2.4.10 printed these counts. In the second line it takes five errors where four do."""
    assert count_errors(reference.split(), hypothesis.split(), "sclite") == sclite
    assert count_errors(reference.split(), hypothesis.split(), "vac") == vac


def sclite_program() -> str | None:
    """NIST sclite, where it is installed (Debian keeps it out of the path)."""
    return shutil.which("sclite") or shutil.which("sclite", path="/usr/lib/sctk/bin")


@pytest.mark.parametrize(("seed", "longest", "glosses"), [(0, 6, 3), (1, 12, 6), (2, 30, 10)])
def test_counts_and_pairs_are_those_of_sclite(tmp_path, seed, longest, glosses):
    program = sclite_program()
    if program is None:
        pytest.skip("NIST sclite is not installed (Debian: apt-get install sctk)")
    rng = random.Random(seed)
    words = [f"G{number}" for number in range(glosses)]
    pairs = [
        tuple([rng.choice(words[: rng.randint(1, glosses)]) for _ in range(rng.randint(1, longest))] for _ in range(2))
        for _ in range(700)
    ]
    write_stm(tmp_path / "all.stm", [Reference(f"u{n:04}", "s", " ".join(left)) for n, (left, _) in enumerate(pairs)])
    write_ctm(tmp_path / "all.ctm", {f"u{n:04}": " ".join(right) for n, (_, right) in enumerate(pairs)})
    command = [program, "-r", "all.stm", "stm", "-h", "all.ctm", "ctm", "-f", "0", "-o", "pra", "-n", "all"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    blocks = (tmp_path / "all.pra").read_text().split("\nid: ")[1:]
    assert len(blocks) == len(pairs)
    for block in blocks:
        reference, hypothesis = pairs[int(re.search(r"File: u(\d+)", block)[1])]
        hits, *errors = map(int, re.search(r"\(#C #S #D #I\) (.+)", block)[1].split())
        assert count_errors(reference, hypothesis, "sclite") == UtteranceCounts(*errors, hits)
        rows = [re.search(f"^{side}:(.*)", block, re.MULTILINE)[1].upper().split() for side in ("REF", "HYP")]
        theirs = [tuple(None if set(word) == {"*"} else word for word in pair) for pair in zip(*rows, strict=True)]
        assert align(reference, hypothesis, "sclite") == theirs


def test_sclite_costs_can_give_more_errors():
    """Five substitutions cost 20, two hits with three deletions and three insertions 18."""
    reference, hypothesis = list("ABCDE"), list("DEXYZ")
    assert count_errors(reference, hypothesis, "unit").errors == 5
    assert count_errors(reference, hypothesis, "sclite") == UtteranceCounts(0, 3, 3, 2)


@pytest.mark.parametrize("costs", COSTS)
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
