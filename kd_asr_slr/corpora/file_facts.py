"""What an integrity report must know of every file: read once, nothing raised, whatever is wrong kept as a sentence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from kd_asr_slr.corpora.media import MediaHeader, read_audio, read_features, read_header
from kd_asr_slr.corpora.media_check import width_problems
from kd_asr_slr.errors import UserError
from kd_asr_slr.progress import Progress

FULL_SCALE = 32767 / 32768
CLIPPED_RUN = 3  # so many neighbouring samples at full scale are no chance
QUIET = 1e-3  # root mean square, -60 dB of full scale


@dataclass
class FileFacts:
    """All files of a corpus.

    Attributes:
        headers: path -> length, and rate or width, of the files that can be used.
        problems: path -> why a file cannot be used.
        clipped: recordings with runs of samples at full scale -> share of their samples there.
        quiet: recordings below -60 dB of full scale.
    """

    headers: dict[str, MediaHeader] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    clipped: dict[str, float] = field(default_factory=dict)
    quiet: list[str] = field(default_factory=list)


def inspect_files(paths: Iterable[str]) -> FileFacts:
    """Read every file once.

    Args:
        paths: audio or feature files; each is read once.

    Example:
        >>> inspect_files(corpus["train"]["features"]).problems
        {}
    """
    facts = FileFacts()
    unique = list(dict.fromkeys(paths))
    for path in Progress(unique, "reading files", "file"):
        try:
            facts.headers[path] = _inspect(path, facts)
        except UserError as error:
            facts.problems[path] = str(error)
    wrong = width_problems(facts.headers)
    facts.problems |= wrong
    facts.headers = {path: header for path, header in facts.headers.items() if path not in wrong}
    return facts


def _inspect(path: str, facts: FileFacts) -> MediaHeader:
    header = read_header(path)
    if header.rate is None:
        read_features(path)
        return header
    waveform = read_audio(path, header.rate)  # [S]
    if is_clipped(waveform):
        facts.clipped[path] = float(np.mean(np.abs(waveform) >= FULL_SCALE))
    if float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))) < QUIET:
        facts.quiet.append(path)
    return header


def is_clipped(waveform: np.ndarray) -> bool:
    """Whether a recording [S] in -1 .. 1 has `CLIPPED_RUN` neighbouring samples at full scale, all of one sign."""
    if len(waveform) < CLIPPED_RUN:
        return False
    windows = np.lib.stride_tricks.sliding_window_view(waveform, CLIPPED_RUN)  # [S - 2, 3]
    return bool((windows.min(axis=1) >= FULL_SCALE).any() or (windows.max(axis=1) <= -FULL_SCALE).any())
