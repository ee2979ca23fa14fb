"""The clean-up of PHOENIX annotations and hypotheses, rule by rule, in the order of the corpora's own evaluation.

A *line* is what the rules look at: a whole sentence in references and training text, a single gloss in a ctm file.
The rules that need two glosses (letters, repetitions, WIE AUSSEHEN) can therefore never fire on a ctm. Blanks left by
a removed tag stay until the end, since two equal glosses with a tag between them are no repetition.

Source: rules of the evaluation that is distributed with RWTH-PHOENIX-Weather 2014 and 2014-T (Koller, Forster and Ney,
"Continuous sign language recognition", CVIU 2015; Camgoz et al., "Neural sign language translation", CVPR 2018).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby

_PARTS_2014 = ("loc-", "cl-", "qu-", "poss-", "lh-")
_SPELLING_2014 = {"S0NNE": "SONNE", "HABEN2": "HABEN"}
_TAGS_2014 = ("__EMOTION__", "__PU__", "__LEFTHAND__")
_NO_SPEECH = ("__LEFTHAND__", "__EPENTHESIS__", "__EMOTION__")  # a line that holds one of them is dropped whole
_WHITE = re.compile(r"\s")
_SHOW = re.compile(r"ZEIGEN(?= |$)")
_LETTER = r"(?:SCH|NN|[A-Z])"
_SPELLED = re.compile(rf"(?<=[ +])({_LETTER}) ({_LETTER})(?=[ +]|$)")
_ROOM_2014 = re.compile(r"([A-Z][A-Z])RAUM")
_REPEATED = re.compile(r"(?<![^ ])([A-Z]+) \1(?![^ ])")  # capitals only, exactly one blank
_REPEAT_PASSES = 4
_TAG_2014T = re.compile(r"(?<![^ ])__[^_ ]*__(?![^ ])")
_ROOM_2014T = re.compile(r"\b([A-Z]+)RAUM$")


def phoenix2014(sentence: str) -> str:
    """Clean a sentence as PHOENIX-2014 does: raw training annotation becomes the text of the train stm.

    Args:
        sentence: an annotation as the csv has it, runs of blanks included.

    Returns:
        Its glosses with one blank between them; empty where the whole line is dropped.

    Example:
        >>> phoenix2014("loc-NORDRAUM REGEN REGEN __PU__ E R Z BERG ZEIGEN")
        'NORD REGEN E+R+Z BERG ZEIGEN-BILDSCHIRM'
    """
    line = merge_repetitions(_substitute_2014(_padded(sentence)))
    return "" if any(tag in line for tag in _NO_SPEECH) else _squeezed(line)


def phoenix2014_ctm(glosses: str) -> str:
    """Clean a hypothesis as PHOENIX-2014 does: every gloss is a line of its own, so nothing is merged or joined.

    Args:
        glosses: a hypothesis, glosses with blanks between them.

    Returns:
        The glosses that are left; empty where none is.

    Example:
        >>> phoenix2014_ctm("loc-NORD NORD __PU__ A B")
        'NORD NORD A B'
    """
    return _each_gloss(glosses, phoenix2014)


def phoenix2014_slrt(sentence: str) -> str:
    """Clean a sentence as the Python tools of neccam/slt and SLRT do: blanks squeezed before repetitions are merged, in
    the end every repeated gloss merged (hyphens or not), no line dropped.

    One thing is not copied: three or more letters that open a sentence stay apart there (`E R+Z`), by a slip; it meets
    one of the corpus' 6,841 sentences.

    Args:
        sentence: a reference or a hypothesis; both go through it there.

    Example:
        >>> phoenix2014_slrt("REGEN __PU__ REGEN NICHT-VIEL NICHT-VIEL")
        'REGEN NICHT-VIEL'
    """
    glosses = merge_repetitions(_squeezed(_substitute_2014(_padded(sentence)))).split()
    return " ".join(without_repeats(glosses))


def phoenix2014t(sentence: str) -> str:
    """Clean a reference or training sentence as PHOENIX-2014-T does (the distributed ones are clean already).

    Args:
        sentence: an annotation, the column `orth`.

    Example:
        >>> phoenix2014t("__ON__ loc-NORDRAUM poss-MEIN REGEN-PLUSPLUS REGEN WIE AUSSEHEN")
        'NORD poss-MEIN REGEN WIE-AUSSEHEN'
    """
    line = _padded(sentence)
    for tag in _NO_SPEECH:  # with one of the blanks beside it: its neighbours become neighbours
        line = line.replace(f"{tag} ", "").replace(f" {tag}", "")
    line = _TAG_2014T.sub("", line)  # its blanks stay: its neighbours do not
    line = " ".join(_trimmed_2014t(gloss) for gloss in line.split(" "))
    line = line.replace("WIE AUSSEHEN", "WIE-AUSSEHEN")
    return _squeezed(merge_repetitions(_join_letters(line)))


def phoenix2014t_ctm(glosses: str) -> str:
    """Clean a hypothesis as PHOENIX-2014-T does: gloss by gloss, then equal neighbours become one.

    Args:
        glosses: a hypothesis, glosses with blanks between them.

    Example:
        >>> phoenix2014t_ctm("__ON__ loc-NORD NORDRAUM A B IX-1 IX-1")
        'NORD A B IX-1'
    """
    return " ".join(without_repeats(_each_gloss(glosses, _hypothesis_gloss_2014t).split()))


def without_repeats(glosses: Sequence[str]) -> list[str]:
    """Return the glosses with runs of the same gloss as one.

    Example:
        >>> without_repeats(["IX", "IX", "REGEN", "IX"])
        ['IX', 'REGEN', 'IX']
    """
    return [gloss for gloss, _ in groupby(glosses)]


def merge_repetitions(line: str) -> str:
    """Merge a gloss of capitals with its repetition one blank further; four passes, so up to 16 in a row become one.

    Example:
        >>> merge_repetitions("REGEN REGEN REGEN WOLKE  WOLKE NICHT-VIEL NICHT-VIEL")
        'REGEN WOLKE  WOLKE NICHT-VIEL NICHT-VIEL'
    """
    for _ in range(_REPEAT_PASSES):
        line = _REPEATED.sub(r"\1", line)
    return line


def _substitute_2014(line: str) -> str:
    """The rules of PHOENIX-2014 before repetitions are merged."""
    for part in _PARTS_2014:
        line = line.replace(part, "")
    for wrong, right in _SPELLING_2014.items():
        line = line.replace(wrong, right)
    for tag in _TAGS_2014:
        line = line.replace(tag, "")
    line = line.replace("WIE AUSSEHEN", "WIE-AUSSEHEN")
    line = _SHOW.sub("ZEIGEN-BILDSCHIRM", line)
    line = _ROOM_2014.sub(r"\1", _join_letters(line))
    return line.replace("-PLUSPLUS", "")


def _join_letters(line: str) -> str:
    """Spelled letters become one gloss: "E R Z" -> "E+R+Z". A pass joins pairs, the next one the pairs it has made."""
    joined = _SPELLED.sub(r"\1+\2", line)
    return line if joined == line else _join_letters(joined)


def _hypothesis_gloss_2014t(gloss: str) -> str:
    if any(tag in gloss for tag in _NO_SPEECH) or _TAG_2014T.fullmatch(gloss):
        return ""
    return _trimmed_2014t(gloss)


def _trimmed_2014t(gloss: str) -> str:
    """A gloss without a leading `loc-`, a trailing `-PLUSPLUS`, a leading `cl-`, a trailing RAUM, in that order."""
    gloss = gloss.removeprefix("loc-").removesuffix("-PLUSPLUS").removeprefix("cl-")
    return _ROOM_2014T.sub(r"\1", gloss)


def _each_gloss(glosses: str, clean: Callable[[str], str]) -> str:
    return " ".join(filter(None, (clean(gloss) for gloss in glosses.split())))


def _padded(sentence: str) -> str:
    """A sentence as in a file of utterances, where an id stands before it: letters at its start are joined as well."""
    return " " + _WHITE.sub(" ", sentence)


def _squeezed(line: str) -> str:
    return " ".join(line.split())
