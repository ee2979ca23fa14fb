"""A terminal that nobody sits at: what is written to it comes back as text, with its carriage returns."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import struct
import sys
import termios
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pyte

COLUMNS = 200


@dataclass
class Screen:
    """What a terminal was sent.

    Attributes:
        text: all of it, once the terminal is closed.
    """

    text: str = ""

    @property
    def drawn(self) -> list[str]:
        """Every state a line had: what stands between carriage returns and line ends."""
        return [part for part in self.text.replace("\r", "\n").split("\n") if part.strip()]

    @property
    def left(self) -> list[str]:
        """The lines that stay, as a terminal shows them in the end."""
        screen = pyte.Screen(COLUMNS, lines=400)
        pyte.Stream(screen).feed(self.text)
        return [line.rstrip() for line in screen.display if line.strip()]


@contextlib.contextmanager
def terminal(columns: int = COLUMNS) -> Iterator[Screen]:
    """Within it, stdout and stderr of this process are a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    screen, received = Screen(), bytearray()

    def receive() -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while part := os.read(ours, 65536):
                received.extend(part)

    reader = threading.Thread(target=receive)
    reader.start()
    stream = io.TextIOWrapper(os.fdopen(theirs, "wb", buffering=0), encoding="utf-8", write_through=True)
    try:
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            assert sys.stderr.isatty()
            yield screen
    finally:
        stream.close()
        reader.join(timeout=10)
        os.close(ours)
        screen.text = received.decode("utf-8")
