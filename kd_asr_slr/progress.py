"""The live line of a long step in the terminal: how far, how fast, how long still; nothing where nobody watches."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

LAYOUT = "{desc} {percentage:3.0f}% |{bar:16}| {n_fmt}/{total_fmt}, {rate_noinv_fmt}, {remaining} left{postfix}"


def is_watched() -> bool:
    """Whether a live line makes sense: stderr is a terminal, this is the first of the processes, TQDM_DISABLE is
    not set."""
    first = os.environ.get("RANK", "0") == "0"  # torchrun and accelerate number their processes
    return first and not os.environ.get("TQDM_DISABLE") and sys.stderr.isatty()


class Progress(tqdm):
    """The line of one long step: it is drawn over itself on stderr, and gone once the step is over.

    Args:
        items: what the step goes through, where it is a loop; else count with `update`.
        what: the step, e.g. "scoring test".
        unit: what is counted: "utt" (utterances), "file", ...
        total: how many there will be; default: as many as `items` has.
        initial: how many of them were done before.

    Example:
        >>> for path in Progress(paths, "reading files", "file"):
        ...     read(path)
        >>> with Progress(what="soft targets", total=900) as line:
        ...     line.update(16)
        ...     line.note("WER 12.5 %")
    """

    monitor_interval = 0  # no thread of its own: a table of runs forks this process
    drawn_every = 0.1  # seconds

    def __init__(
        self,
        items: Iterable[Any] | None = None,
        what: str = "",
        unit: str = "utt",
        *,
        total: int | None = None,
        initial: int = 0,
    ) -> None:
        super().__init__(
            items,
            desc=what,
            unit=f" {unit}",
            total=total,
            initial=initial,
            leave=False,
            disable=not is_watched(),
            dynamic_ncols=True,
            mininterval=self.drawn_every,
            bar_format=LAYOUT,
        )

    @classmethod
    def close_all(cls) -> None:
        """Take every line off the screen: the program ends in the middle of a step."""
        for line in list(getattr(cls, "_instances", ())):  # tqdm's own
            line.close()

    @property
    def watched(self) -> bool:
        """Whether anybody sees the line; where not, figures for it need not be worked out."""
        return not self.disable

    def note(self, *parts: str) -> None:
        """Put figures at the end of the line, e.g. loss parts and a WER; they show with its next drawing."""
        if self.watched:
            self.set_postfix_str("  ".join(part for part in parts if part), refresh=False)


def say(line: str) -> None:
    """Print on stdout, above the live lines there may be."""
    Progress.write(line, file=sys.stdout)
    sys.stdout.flush()


class LineHandler(logging.StreamHandler):
    """Log records on stderr, above the live lines there may be."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        with Progress.external_write_mode(file=sys.stderr):
            super().emit(record)
