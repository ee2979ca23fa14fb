"""What reaches the user's terminal: log lines on stderr and our own live lines (`progress`), no library's."""

from __future__ import annotations

import logging

from datasets import disable_progress_bars
from transformers.utils import logging as transformers_logging

from kd_asr_slr.progress import LineHandler

NOISY = ("httpx", "httpx2", "matplotlib", "fsspec", "datasets", "torch", "accelerate", "filelock")


def quiet_libraries() -> None:
    """Send our log lines to stderr, and silence the libraries' and their progress bars."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[LineHandler()])
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    transformers_logging.set_verbosity_error()
    disable_progress_bars()
    transformers_logging.disable_progress_bar()
