"""Normalisers of transcripts."""

from __future__ import annotations

import pytest

from kd_asr_slr.errors import UserError
from kd_asr_slr.text import NORMALISERS, normalise


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("none", " zero \t one ", " zero \t one "),
        ("glosses", " HEUTE\t REGEN \n loc-NORD ", "HEUTE REGEN loc-NORD"),
        ("words", " zero\t one\n", "ZERO ONE"),
        ("words", "straße", "STRASSE"),
        ("words", "don't", "DON'T"),
        ("words", "", ""),
        ("glosses", "cafe\u0301\u00a0au\u2003lait", "caf\u00e9 au lait"),  # decomposed accent, no-break and em space
    ],
)
def test_normalise(name: str, text: str, expected: str) -> None:
    assert normalise(text, name) == expected


@pytest.mark.parametrize("name", NORMALISERS)
def test_twice_is_once(name: str) -> None:
    text = "  Ein\u0308 kleiner \u00a0 Test\u2028ﬁn  "
    once = normalise(text, name)
    assert normalise(once, name) == once


def test_composed_and_decomposed_letters_are_one_word() -> None:
    assert normalise("u\u0308ber", "words") == normalise("\u00fcber", "words") == "\u00dcBER"


def test_an_unknown_normaliser_is_named_with_those_there_are() -> None:
    with pytest.raises(
        UserError, match="unknown text normaliser 'wordz'; expected one of glosses, none, phoenix.*, words"
    ):
        normalise("a", "wordz")
