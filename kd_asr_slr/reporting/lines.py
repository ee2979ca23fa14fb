"""Lines of a comparison: a run (or its seeds) with every decoder, and which decoder the table is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kd_asr_slr.errors import UserError
from kd_asr_slr.reporting.systems import System


@dataclass(frozen=True)
class Line:
    """One line of a comparison.

    Args:
        name: of the run; without its seed where seeds are folded.
        systems: decoding ("greedy", "beam + 4gram.arpa") -> the run with it.
    """

    name: str
    systems: dict[str, System]

    @property
    def first(self) -> System:
        """Any of its systems, for what is the same in all."""
        return next(iter(self.systems.values()))


def lines_of(systems: Sequence[System]) -> list[Line]:
    """The systems of every run together, in the order in which they first occur."""
    lines: dict[str, Line] = {}
    for system in systems:
        lines.setdefault(system.name, Line(system.name, {})).systems[system.decoding] = system
    return list(lines.values())


def decodings_of(systems: Sequence[System]) -> list[str]:
    """What the systems were decoded with: the columns of the table; greedy first, a beam before one with an LM."""
    found = dict.fromkeys(system.decoding for system in systems)
    return sorted(found, key=lambda name: (name != "greedy", name.partition(" + ")[0] != "beam", name))


def main_decoding(systems: Sequence[System], wanted: str | None = None, baseline: str | None = None) -> str:
    """The decoding whose WRA, errors, groups and tests a table shows.

    Args:
        systems: all of the table.
        wanted: "beam + 4gram.arpa", or "beam" where there is one of it.
        baseline: name of the baseline's systems; only what it was decoded with can be tested.

    Returns:
        As `wanted` says; else the first that every run (and the baseline) has, or the one that most of them have.

    Raises:
        UserError: where no run was scored so, or the baseline was not, or `wanted` names several.
    """
    names = decodings_of(systems)
    having = {name: {system.name for system in systems if system.decoding == name} for name in names}
    possible = [name for name in names if baseline is None or baseline in having[name]]
    if wanted is None:
        return max(possible, key=lambda name: len(having[name]))  # the first of those that as many have
    meant = [name for name in names if wanted == name] or [n for n in names if wanted == n.partition(" + ")[0]]
    if len(meant) != 1:
        what = f"'{wanted}' may be {' or '.join(meant)}" if meant else f"no run was scored with decoder '{wanted}'"
        raise UserError(what, expected=f"one of {', '.join(names)}", fix="choose one of them")
    if meant[0] not in possible:
        raise UserError(
            f"the baseline {baseline} was not scored with {meant[0]}",
            expected=f"one of {', '.join(possible)}",
            fix="score the baseline so too (recipes/score.py)",
        )
    return meant[0]
