"""Named ways of counting. A number means something only together with the protocol it was counted by.

One more protocol is one more entry of `PROTOCOLS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from kd_asr_slr.errors import UserError
from kd_asr_slr.glosses import without_repeats
from kd_asr_slr.text import normalise

_WHITE_RUN = re.compile(r"\s\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How texts become tokens and tokens are aligned.

    Args:
        name: as it stands in results.json.
        reference_normaliser: name of the normaliser (`kd_asr_slr.text`) that references go through.
        hypothesis_normaliser: name of that of the hypotheses: benchmarks often clean these only.
        split: normalised text -> tokens.
        costs: alignment costs, see `kd_asr_slr.scoring.alignment`.
        ignore_case: whether tokens that differ in case only are the same.
        merge_repeats: whether equal neighbours in the hypothesis become one, after everything else.
        empty: token that an empty hypothesis is scored as (a wrong one, always), or None for no token.
    """

    name: str
    reference_normaliser: str
    hypothesis_normaliser: str
    split: Callable[[str], list[str]] = str.split
    costs: str = "unit"
    ignore_case: bool = False
    merge_repeats: bool = False
    empty: str | None = None

    def reference_tokens(self, text: str) -> list[str]:
        """Return the tokens of a reference text."""
        return self._cased(self.split(normalise(text, self.reference_normaliser)))

    def hypothesis_tokens(self, text: str) -> list[str]:
        """Return the tokens of a hypothesis text."""
        tokens = self._cased(self.split(normalise(text, self.hypothesis_normaliser)))
        if self.merge_repeats:
            tokens = without_repeats(tokens)
        return tokens if tokens or self.empty is None else [self.empty]

    @property
    def signature(self) -> str:
        """Everything that decides the counts, in one line: two numbers compare only where it is the same.

        Example:
            >>> get_protocol("words").signature
            'words|ref:words|hyp:words|costs:unit|case:kept|repeats:kept|empty:none'
        """
        return (
            f"{self.name}|ref:{self.reference_normaliser}|hyp:{self.hypothesis_normaliser}|costs:{self.costs}"
            f"|case:{'ignored' if self.ignore_case else 'kept'}|repeats:{'merged' if self.merge_repeats else 'kept'}"
            f"|empty:{self.empty or 'none'}"
        )

    def _cased(self, tokens: list[str]) -> list[str]:
        return [token.lower() for token in tokens] if self.ignore_case else tokens


EMPTY = "[EMPTY]"

_ALL = (
    # Case carries nothing; the fewest errors, so the values are those of jiwer and the hub's `wer` on upper-case text.
    Protocol(name="words", reference_normaliser="words", hypothesis_normaliser="words"),
    # Glosses as they are, whatever the corpus: no clean-up on either side, case kept.
    Protocol(name="raw", reference_normaliser="raw", hypothesis_normaliser="raw"),
    # The evaluation that PHOENIX-2014 is distributed with: hypotheses cleaned gloss by gloss, then NIST sclite.
    Protocol(
        name="official-sclite",
        reference_normaliser="raw",
        hypothesis_normaliser="phoenix2014_ctm",
        costs="sclite",
        ignore_case=True,
        empty=EMPTY,
    ),
    # That of PHOENIX-2014-T, which has rules of its own.
    Protocol(
        name="official-sclite-2014t",
        reference_normaliser="phoenix2014t",
        hypothesis_normaliser="phoenix2014t_ctm",
        costs="sclite",
        ignore_case=True,
        empty=EMPTY,
    ),
    # The Python scorer of VAC and its descendants, on the same cleaned hypotheses: repeated glosses merged first.
    Protocol(
        name="vac-python",
        reference_normaliser="raw",
        hypothesis_normaliser="phoenix2014_ctm",
        costs="vac",
        merge_repeats=True,
        empty=EMPTY,
    ),
    # neccam/slt, SLRT, MSKA: whole sentences cleaned, references too (5,535 dev and 6,493 test glosses are left).
    Protocol(
        name="slrt",
        reference_normaliser="phoenix2014_slrt",
        hypothesis_normaliser="phoenix2014_slrt",
        costs="sclite",
    ),
)

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}


def default_protocol(corpus: str) -> str:
    """Return the name of the protocol that a corpus is scored by where none is asked for.

    Args:
        corpus: the corpus' name; `phoenix2014`, `phoenix-2014-T`, `phoenix2014_si5` and the like are PHOENIX.

    Example:
        >>> default_protocol("phoenix2014_si5"), default_protocol("fsdd")
        ('official-sclite', 'words')
    """
    letters = re.sub(r"[^a-z0-9]", "", corpus.lower())
    if letters.startswith("phoenix2014t"):
        return "official-sclite-2014t"
    return "official-sclite" if letters.startswith("phoenix") else "words"


def get_protocol(name: str) -> Protocol:
    """Return the protocol called `name`.

    Raises:
        UserError: if there is none of that name.
    """
    if name not in PROTOCOLS:
        raise UserError(f"unknown scoring protocol '{name}'", expected=f"one of {', '.join(sorted(PROTOCOLS))}")
    return PROTOCOLS[name]


def hub_words(text: str) -> list[str]:
    """Split a text into words as jiwer, and so the hub's `wer`, does: at blanks and runs of white space.

    A single tab or no-break space joins words here, where `str.split` parts them.
    """
    return [word for word in _WHITE_RUN.sub(" ", text).strip().split(" ") if word]
