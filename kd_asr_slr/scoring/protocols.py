"""Named ways of counting. A number means something only together with the protocol it was counted by.

One more protocol is one more entry of `PROTOCOLS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from kd_asr_slr.errors import UserError
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
    """

    name: str
    reference_normaliser: str
    hypothesis_normaliser: str
    split: Callable[[str], list[str]] = str.split
    costs: str = "unit"

    def reference_tokens(self, text: str) -> list[str]:
        """Return the tokens of a reference text."""
        return self.split(normalise(text, self.reference_normaliser))

    def hypothesis_tokens(self, text: str) -> list[str]:
        """Return the tokens of a hypothesis text."""
        return self.split(normalise(text, self.hypothesis_normaliser))


_ALL = (
    # Case carries nothing; the fewest errors, so the values are those of jiwer and the hub's `wer` on upper-case text.
    Protocol(name="words", reference_normaliser="words", hypothesis_normaliser="words"),
)

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}


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
