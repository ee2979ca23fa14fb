"""What each named protocol does to the two sides of an utterance, and that its signature says so."""

from __future__ import annotations

import dataclasses

import pytest

from kd_asr_slr.scoring.alignment import COSTS
from kd_asr_slr.scoring.protocols import PROTOCOLS, default_protocol, get_protocol
from kd_asr_slr.scoring.score import score_predictions
from kd_asr_slr.text import NORMALISERS

NAMES = ("official-sclite", "official-sclite-2014t", "raw", "slrt", "vac-python", "words")


def errors(protocol: str, reference: str, hypothesis: str) -> tuple[int, int, int]:
    row = {"id": "u", "speaker": "s", "reference": reference, "hypothesis": hypothesis}
    score = score_predictions([row], "test", "greedy", protocol=protocol, resamples=2)
    return score["substitutions"], score["deletions"], score["insertions"]


def test_names():
    assert sorted(PROTOCOLS) == sorted(NAMES)
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert {protocol.reference_normaliser, protocol.hypothesis_normaliser} <= set(NORMALISERS)
        assert protocol.costs in COSTS


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        # clean-up of the hypothesis only, gloss by gloss
        ("NORD REGEN", "loc-NORDRAUM __PU__ REGEN-PLUSPLUS", {"official-sclite": (0, 0, 0), "raw": (2, 0, 1)}),
        ("loc-NORD", "NORD", {"official-sclite": (1, 0, 0), "slrt": (0, 0, 0), "official-sclite-2014t": (0, 0, 0)}),
        # a repeated gloss
        ("REGEN", "REGEN REGEN", {"official-sclite": (0, 0, 1), "vac-python": (0, 0, 0), "slrt": (0, 0, 0)}),
        ("IX-1", "IX-1 IX-1", {"official-sclite": (0, 0, 1), "vac-python": (0, 0, 0), "slrt": (0, 0, 0)}),
        ("IX-1", "IX-1 IX-1", {"official-sclite-2014t": (0, 0, 0), "raw": (0, 0, 1)}),
        ("IX-1 IX-1", "IX-1 IX-1", {"official-sclite": (0, 0, 0), "vac-python": (0, 1, 0), "slrt": (0, 0, 0)}),
        # case
        (
            "REGEN",
            "Regen",
            {"official-sclite": (0, 0, 0), "vac-python": (1, 0, 0), "slrt": (1, 0, 0), "raw": (1, 0, 0)},
        ),
        # tags that count, and do not
        ("__ON__ REGEN", "__ON__ REGEN __OFF__", {"official-sclite": (0, 0, 1), "official-sclite-2014t": (0, 0, 0)}),
        # nothing is left: one wrong token, or none
        ("A1 B1 C1", "__PU__", {"official-sclite": (1, 2, 0), "vac-python": (1, 2, 0), "slrt": (0, 3, 0)}),
        ("A1 B1 C1", "", {"official-sclite": (1, 2, 0), "official-sclite-2014t": (1, 2, 0), "raw": (0, 3, 0)}),
        # letters and sentences
        ("E+R+Z", "E R Z", {"official-sclite": (1, 0, 2), "slrt": (0, 0, 0)}),
        # costs: 5 substitutions (20) against 3 deletions and 3 insertions (18)
        ("A1 B1 C1 D1 E1", "D1 E1 X1 Y1 Z1", {"official-sclite": (0, 3, 3), "raw": (5, 0, 0), "words": (5, 0, 0)}),
        # ties of the same costs
        ("B1 C1 C1 B1", "X1 Y1 X1 B1 C1", {"official-sclite": (3, 0, 1), "vac-python": (0, 2, 3)}),
    ],
)
def test_by_hand(reference, hypothesis, expected):
    for protocol, counts in expected.items():
        assert errors(protocol, reference, hypothesis) == counts, protocol


def test_signatures_tell_protocols_apart():
    signatures = {protocol.signature for protocol in PROTOCOLS.values()}
    assert len(signatures) == len(PROTOCOLS)
    official = get_protocol("official-sclite")
    assert official.signature == (
        "official-sclite|ref:raw|hyp:phoenix2014_ctm|costs:sclite|case:ignored|repeats:kept|empty:[EMPTY]"
    )
    changes = {"costs": "unit", "ignore_case": False, "merge_repeats": True, "empty": None}
    changes |= {"reference_normaliser": "words", "hypothesis_normaliser": "words"}
    for name, value in changes.items():
        assert dataclasses.replace(official, **{name: value}).signature != official.signature, name


@pytest.mark.parametrize(
    ("corpus", "protocol"),
    [
        ("phoenix2014", "official-sclite"),
        ("phoenix2014_si5", "official-sclite"),
        ("phoenix_synthetic", "official-sclite"),
        ("phoenix2014t", "official-sclite-2014t"),
        ("PHOENIX-2014-T", "official-sclite-2014t"),
        ("synthetic_sign", "words"),
        ("fsdd", "words"),
    ],
)
def test_default_of_a_corpus(corpus, protocol):
    assert default_protocol(corpus) == protocol
