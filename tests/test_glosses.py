"""The clean-up of PHOENIX: every rule by hand, and the real annotation against the real reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd_asr_slr.errors import UserError
from kd_asr_slr.glosses import (
    merge_repetitions,
    phoenix2014,
    phoenix2014_ctm,
    phoenix2014_slrt,
    phoenix2014t,
    phoenix2014t_ctm,
)
from kd_asr_slr.text import NORMALISERS, TRAINING_TEXT_ONLY, normalise, normaliser_of_split


def read_stm_glosses(path: Path) -> dict[str, list[str]]:
    """Parsed here, not by the package, so that the two can disagree."""
    return {line.split()[0]: line.split()[5:] for line in path.read_text().splitlines()}


def read_annotations(path: Path) -> dict[str, str]:
    rows = (line.split("|") for line in path.read_text().splitlines()[1:])
    return {identity: annotation for identity, _, _, annotation in rows}


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        # 1: parts, wherever they stand
        ("loc-NORD cl-KOMMEN qu-WAS poss-MEIN lh-HAND", "NORD KOMMEN WAS MEIN HAND"),
        ("IN-loc-NORD", "IN-NORD"),
        ("loc-", ""),
        # 2: spelling
        ("S0NNE HABEN2 NICHT-HABEN2", "SONNE HABEN NICHT-HABEN"),
        # 3: tags go, the two that are scored stay
        ("__ON__ __EMOTION__ REGEN __PU__ __LEFTHAND__ __OFF__", "__ON__ REGEN __OFF__"),
        # 4 and 5
        ("WIE AUSSEHEN MORGEN", "WIE-AUSSEHEN MORGEN"),
        ("WIE  AUSSEHEN", "WIE AUSSEHEN"),
        ("ZEIGEN MORGEN ZEIGEN", "ZEIGEN-BILDSCHIRM MORGEN ZEIGEN-BILDSCHIRM"),
        ("VORZEIGEN ZEIGENX ZEIGEN-BILDSCHIRM", "VORZEIGEN-BILDSCHIRM ZEIGENX ZEIGEN-BILDSCHIRM"),
        # 6: spelled letters
        ("A B", "A+B"),
        ("E R Z BERG", "E+R+Z BERG"),
        ("IM C M SCHNEE", "IM C+M SCHNEE"),
        ("TIEF G U NN E R WOLKE", "TIEF G+U+NN+E+R WOLKE"),
        ("OST SCH H STEIN", "OST SCH+H STEIN"),
        ("A+B C", "A+B+C"),
        ("A+B A+B", "A+B+A+B"),
        ("A B C D E F G H I", "A+B+C+D+E+F+G+H+I"),
        ("A  B", "A B"),
        ("IX A WOLKE", "IX A WOLKE"),
        # 7: after two capitals, wherever it stands
        ("NORDRAUM TRAUM RAUM WELTRAUMSTATION", "NORD TRAUM RAUM WELTSTATION"),
        ("ALPENRAUMRAUM", "ALPENRAUM"),
        # 8
        ("REGEN-PLUSPLUS WOLKE-PLUSPLUS", "REGEN WOLKE"),
        # 9: capitals only, one blank
        ("REGEN REGEN REGEN WOLKE", "REGEN WOLKE"),
        ("NICHT-VIEL NICHT-VIEL __ON__ __ON__ IX1 IX1", "NICHT-VIEL NICHT-VIEL __ON__ __ON__ IX1 IX1"),
        ("REGEN  REGEN", "REGEN REGEN"),
        ("LOCH __LEFTHAND__ LOCH", "LOCH LOCH"),
        ("AUTO+BAHN AUTO+BAHN", "AUTO+BAHN AUTO+BAHN"),
        ("NORD NORDWEST WEST", "NORD NORDWEST WEST"),
        ("loc-NORD NORDRAUM NORD-PLUSPLUS", "NORD"),
        # 10: the whole line
        ("REGEN __EPENTHESIS__ WOLKE", ""),
        ("", ""),
        ("  ", ""),
    ],
)
def test_rules_of_2014(raw, clean):
    assert phoenix2014(raw) == normalise(raw, "phoenix2014") == clean


def test_four_passes_merge_sixteen_in_a_row():
    assert merge_repetitions(" ".join(["REGEN"] * 16)) == "REGEN"
    assert merge_repetitions(" ".join(["REGEN"] * 17)) == "REGEN REGEN"


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("loc-NORD NORDRAUM __PU__ ZEIGEN", "NORD NORD ZEIGEN-BILDSCHIRM"),
        ("A B WIE AUSSEHEN REGEN REGEN", "A B WIE AUSSEHEN REGEN REGEN"),
        ("REGEN __EPENTHESIS__ WOLKE", "REGEN WOLKE"),
        ("__ON__ __EMOTION__ __OFF__", "__ON__ __OFF__"),
        ("__PU__ loc- __LEFTHAND__", ""),
    ],
)
def test_a_ctm_line_is_one_gloss(raw, clean):
    """Nothing is joined or merged across the lines of a ctm, and a dropped line is one gloss."""
    assert phoenix2014_ctm(raw) == normalise(raw, "phoenix2014_ctm") == clean


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("LOCH __LEFTHAND__ LOCH", "LOCH"),
        ("NICHT-VIEL NICHT-VIEL IX1 IX1", "NICHT-VIEL IX1"),
        ("__ON__ loc-NORDRAUM C M ZEIGEN", "__ON__ NORD C+M ZEIGEN-BILDSCHIRM"),
        ("REGEN __EPENTHESIS__ WOLKE", "REGEN __EPENTHESIS__ WOLKE"),
    ],
)
def test_rules_of_slrt(raw, clean):
    assert phoenix2014_slrt(raw) == clean


@pytest.mark.parametrize(
    ("raw", "reference", "hypothesis"),
    [
        ("__ON__ REGEN __OFF__ __PU__", "REGEN", "REGEN"),
        ("loc-NORD cl-KOMMEN qu-WAS poss-MEIN lh-HAND", *["NORD KOMMEN qu-WAS poss-MEIN lh-HAND"] * 2),
        ("loc-cl-NORD cl-loc-NORD IN-loc-NORD", *["NORD loc-NORD IN-loc-NORD"] * 2),
        ("REGEN-PLUSPLUS REGEN-PLUSPLUS-VIEL", *["REGEN REGEN-PLUSPLUS-VIEL"] * 2),
        ("NORDRAUM RAUM TRAUM WELTRAUMSTATION", *["NORD RAUM T WELTRAUMSTATION"] * 2),
        ("ZEIGEN S0NNE HABEN2", *["ZEIGEN S0NNE HABEN2"] * 2),
        ("WIE AUSSEHEN C M", "WIE-AUSSEHEN C+M", "WIE AUSSEHEN C M"),
        ("REGEN REGEN NICHT-VIEL NICHT-VIEL", "REGEN NICHT-VIEL NICHT-VIEL", "REGEN NICHT-VIEL"),
        ("LOCH __LEFTHAND__ LOCH", "LOCH", "LOCH"),
        ("REGEN __ON__ REGEN", "REGEN REGEN", "REGEN"),
        ("REGEN __EPENTHESIS__ WOLKE", "REGEN WOLKE", "REGEN WOLKE"),
        ("__ON__ loc-", "", ""),
    ],
)
def test_rules_of_2014t(raw, reference, hypothesis):
    assert phoenix2014t(raw) == normalise(raw, "phoenix2014t") == reference
    assert phoenix2014t_ctm(raw) == normalise(raw, "phoenix2014t_ctm") == hypothesis


@pytest.mark.parametrize("name", [name for name in NORMALISERS if name not in ("none", "words")])
def test_normalisers_are_stable_and_squeeze_blanks(name):
    raw = "  __ON__ loc-NORDRAUM  REGEN REGEN\t__PU__ E R Z ZEIGEN "
    once = normalise(raw, name)
    assert once == " ".join(once.split())
    assert normalise(once, name) == once


def test_training_text_only():
    assert normaliser_of_split("phoenix2014", training=True) == "phoenix2014"
    assert {normaliser_of_split(name, training=False) for name in TRAINING_TEXT_ONLY} == {"raw"}
    assert normaliser_of_split("words", training=False) == "words"
    with pytest.raises(UserError, match="unknown text normaliser 'phoenix'; expected one of .*phoenix2014, "):
        normalise("REGEN", "phoenix")


def test_raw_training_annotation_becomes_the_official_reference(shared_data):
    """All 5,671 utterances to the gloss: 65,211 raw glosses of 1,231 types become 58,359 of 1,100."""
    folder = shared_data / "phoenix2014"
    official = read_stm_glosses(folder / "phoenix2014-groundtruth-train.stm")
    raw = read_annotations(folder / "train.corpus.csv")
    assert set(raw) - set(official) == {"13April_2011_Wednesday_tagesschau_default-14"}
    clean = {identity: phoenix2014(raw[identity]).split() for identity in official}
    assert clean == official
    assert (len(clean), sum(map(len, clean.values()))) == (5671, 58359)
    assert len({gloss for glosses in clean.values() for gloss in glosses}) == 1100
    unclean = [normalise(raw[identity], "raw").split() for identity in official]
    assert (sum(map(len, unclean)), len({gloss for glosses in unclean for gloss in glosses})) == (65211, 1231)


def test_other_clean_ups_of_the_same_annotation(shared_data):
    """How many training sentences each of them gets right; the shell's figure on a ctm is 2,948."""
    folder = shared_data / "phoenix2014"
    official = read_stm_glosses(folder / "phoenix2014-groundtruth-train.stm")
    raw = read_annotations(folder / "train.corpus.csv")
    exact = {
        name: sum(normalise(raw[identity], name).split() == glosses for identity, glosses in official.items())
        for name in ("raw", "phoenix2014_ctm", "phoenix2014_slrt")
    }
    # SLRT's own code reaches 5,586: the one sentence it spells apart at its start.
    assert exact == {"raw": 1089, "phoenix2014_ctm": 2948, "phoenix2014_slrt": 5587}


@pytest.mark.parametrize(("split", "official", "slrt"), [("dev", 5540, 5535), ("test", 6504, 6493)])
def test_references_of_dev_and_test(shared_data, split, official, slrt):
    """The csv is clean already; SLRT cleans it again and so divides by fewer glosses."""
    folder = shared_data / "phoenix2014"
    references = read_stm_glosses(folder / f"phoenix2014-groundtruth-{split}.stm")
    annotations = read_annotations(folder / f"{split}.corpus.csv")
    assert {identity: normalise(text, "raw").split() for identity, text in annotations.items()} == references
    assert sum(map(len, references.values())) == official
    assert sum(len(phoenix2014_slrt(text).split()) for text in annotations.values()) == slrt
