"""MAPSSWE: against NIST sc_stats, against scipy, and by hand."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from kd_asr_slr.scoring.alignment import COSTS, count_errors
from kd_asr_slr.scoring.matched_pairs import MatchedPairs, matched_pairs, segments_of, segments_of_runs

SCTK = "/usr/lib/sctk/bin"  # where Debian keeps it
WORDS = [f"w{number}" for number in range(20)]


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=SCTK)
    if found is None:
        pytest.skip(f"NIST {name} is not installed (Debian: apt-get install sctk)")
    return found


def corrupted(reference: list[str], share: float, rng: random.Random) -> list[str]:
    """The reference with substitutions, deletions and insertions."""
    heard: list[str] = []
    for word in reference:
        chance = rng.random()
        heard += [rng.choice(WORDS)] if chance < share / 3 else [] if chance < 2 * share / 3 else [word]
        heard += [rng.choice(WORDS)] if rng.random() < share / 3 else []
    return heard


def two_systems(seed: int, size: int = 200) -> list[tuple[list[str], list[str], list[str]]]:
    """Reference, first and second system of every utterance; the second makes more errors."""
    rng = random.Random(seed)
    found = []
    for _ in range(size):
        reference = [rng.choice(WORDS) for _ in range(rng.randint(1, 15))]
        found.append((reference, corrupted(reference, 0.2, rng), corrupted(reference, 0.25, rng)))
    return found


def sc_stats(utterances, folder: Path) -> tuple[int, int, int, float]:
    """Segments, errors of both systems, and the statistic, as NIST's programs print them."""
    sclite, statistics = program("sclite"), program("sc_stats")
    for place, name in enumerate(("reference", "one", "two")):
        lines = [f"{' '.join(rows[place])} (s{n % 3}_{n:04})\n" for n, rows in enumerate(utterances)]
        (folder / f"{name}.trn").write_text("".join(lines))
    alignments = b""
    for name in ("one", "two"):
        command = [sclite, "-r", "reference.trn", "trn", "-h", f"{name}.trn", "trn", name, "-i", "spu_id"]
        done = subprocess.run([*command, "-o", "sgml", "stdout"], cwd=folder, check=True, capture_output=True)
        alignments += done.stdout
    command = [statistics, "-p", "-t", "mapsswe", "-v", "-n", "both", "-O", "."]
    subprocess.run(command, cwd=folder, input=alignments, check=True, capture_output=True, timeout=60)
    report = (folder / "both.stats.mapsswe").read_text()
    errors = re.search(r"^Totals +\d+ +(\d+) +(\d+)", report, re.MULTILINE).groups()
    segments = re.search(r"\(# segs: (\d+)\)", report)[1]
    return int(segments), *map(int, errors), float(re.search(r"\(Z Stat: (\S+)\)", report)[1])


@pytest.mark.parametrize("seed", range(4))
def test_segments_errors_and_statistic_are_those_of_sc_stats(seed, tmp_path):
    utterances = two_systems(seed)
    segments, *errors, statistic = sc_stats(utterances, tmp_path)
    found = [pair for rows in utterances for pair in segments_of(*rows, costs="sclite")]
    assert [len(found), *np.sum(found, axis=0)] == [segments, *errors]
    assert matched_pairs(found).statistic == pytest.approx(statistic, abs=5.1e-4)  # it prints three decimals


@pytest.mark.parametrize("seed", range(3))
def test_the_statistic_is_that_of_scipys_paired_test_and_the_tail_that_of_its_normal(seed):
    found = np.array([pair for rows in two_systems(seed) for pair in segments_of(*rows)])
    test = matched_pairs([tuple(pair) for pair in found])
    expected = stats.ttest_rel(found[:, 0], found[:, 1])
    assert test.statistic == pytest.approx(expected.statistic, rel=1e-12)
    assert test.p_value == pytest.approx(2 * stats.norm.cdf(-abs(expected.statistic)), rel=1e-12)
    assert test.p_value == pytest.approx(expected.pvalue, abs=2e-3)  # Student's t of 300 segments
    assert (test.segments, test.difference) == (len(found), pytest.approx((found[:, 0] - found[:, 1]).mean()))


def test_by_hand():
    """Differences 1, 0, 2, 1: mean 1, variance 2 / 3, so the statistic is 1 / sqrt(1 / 6)."""
    found = matched_pairs([(2, 1), (1, 1), (3, 1), (1, 0)])
    assert (found.segments, found.difference) == (4, 1.0)
    assert found.statistic == pytest.approx(6**0.5)
    assert found.p_value == pytest.approx(2 * (1 - stats.norm.cdf(6**0.5)))


@pytest.mark.parametrize("segments", [[], [(2, 0)], [(1, 0), (2, 1)], [(1, 1), (3, 3)]])
def test_without_variance_nothing_is_known(segments):
    found = matched_pairs(segments)
    assert (found.statistic, found.p_value) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("ours", "theirs", "segments"),
    [
        ("a b c d e f", "a b c d e f", []),
        ("x b c d e f", "a b c d e x", [(1, 0), (0, 1)]),
        ("a x c d e f", "a b c x e f", [(1, 1)]),  # one word right between the errors does not part them
        ("a x c d e f", "a b c d x f", [(1, 0), (0, 1)]),  # two do
        ("a x c z d e f", "a b c d e f", [(2, 0)]),  # an insertion parts the two right words
        ("a b c d e f g h", "a b c d e", [(2, 1)]),
        ("", "a b c d e f", [(6, 0)]),
    ],
)
def test_segments_by_hand(ours, theirs, segments):
    assert segments_of(["a", "b", "c", "d", "e", "f"], ours.split(), theirs.split(), costs="sclite") == segments


@pytest.mark.parametrize("costs", COSTS)
def test_no_error_is_lost_and_the_order_of_the_runs_only_turns_the_sign(costs):
    for reference, one, two in two_systems(9, size=60):
        found = segments_of(reference, one, two, costs)
        sums = [sum(pair[place] for pair in found) for place in (0, 1)]
        assert sums == [count_errors(reference, heard, costs).errors for heard in (one, two)]
        assert segments_of(reference, two, one, costs) == [pair[::-1] for pair in found]
        assert all(any(pair) for pair in found)
    test, turned = matched_pairs(found), matched_pairs([pair[::-1] for pair in found])
    assert turned == MatchedPairs(test.segments, -test.difference, -test.statistic, test.p_value)


# -- several runs a system -----------------------------------------------------------------------------------------


def test_segments_of_several_runs_by_hand():
    """The first run's error in b and the second one's in d are one segment: c alone does not part them."""
    reference = list("abcdefgh")
    ours = [list("axcdefgh"), list("abcxefgh")]
    theirs = [list("abcdefgy"), list("abcdefghz"), reference]
    found = segments_of_runs(reference, ours, theirs)
    assert found == [(1.0, 0.0), (0.0, pytest.approx(2 / 3))]
    assert segments_of_runs(reference, theirs, ours) == [pair[::-1] for pair in found]


def test_no_error_of_several_runs_is_lost_and_copies_of_a_run_are_that_run():
    rng = random.Random(3)
    for reference, one, other in two_systems(11, size=80):
        ours, theirs = [one, corrupted(reference, 0.2, rng), corrupted(reference, 0.2, rng)], [other, other[:-1]]
        found = segments_of_runs(reference, ours, theirs)
        for place, runs in enumerate((ours, theirs)):
            expected = np.mean([count_errors(reference, heard).errors for heard in runs])
            assert sum(pair[place] for pair in found) == pytest.approx(expected)
        alone = segments_of(reference, one, other)
        assert segments_of_runs(reference, [one] * 3, [other] * 2) == [pytest.approx(pair) for pair in alone]


def test_false_alarms_of_several_runs_are_as_many_as_stated():
    """Seeds of one and the same system differ by chance alone: about one test in twenty says otherwise."""
    rng, alarms, draws = random.Random(5), 0, 150
    for _ in range(draws):
        segments = []
        for _ in range(40):
            reference = [rng.choice(WORDS) for _ in range(10)]
            heard = [corrupted(reference, 0.15, rng) for _ in range(4)]
            segments += segments_of_runs(reference, heard[:2], heard[2:])
        alarms += matched_pairs(segments).p_value < 0.05
    assert stats.binomtest(alarms, draws, 0.05).pvalue > 0.01
