"""What reaches the user's terminal: log lines on stderr, and progress bars only where somebody can watch them."""

from __future__ import annotations

import logging
import sys

from datasets import disable_progress_bars
from transformers.utils import logging as transformers_logging

NOISY = ("httpx", "matplotlib", "fsspec", "datasets", "torch", "accelerate", "filelock")


def quiet_libraries() -> bool:
    """Send our log lines to stderr and silence the libraries'; returns whether progress bars make sense."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    transformers_logging.set_verbosity_error()
    watched = sys.stderr.isatty()
    if not watched:
        disable_progress_bars()
        transformers_logging.disable_progress_bar()
    return watched
