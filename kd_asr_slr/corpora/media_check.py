"""Checking all files of a corpus before anything is trained; of each file, one byte is in memory."""

from __future__ import annotations

import itertools
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from datasets import DatasetDict

from kd_asr_slr.corpora.media import MediaHeader, read_audio, read_features, read_header
from kd_asr_slr.corpora.row_files import values_of
from kd_asr_slr.corpora.schema import MEDIA, shortened
from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.progress import Progress

logger = logging.getLogger(__name__)

Level = Literal["full", "headers"]


@dataclass(frozen=True)
class MediaSummary:
    """Totals over the checked files: their number, the seconds of audio or the frames, the values a frame."""

    files: int
    seconds: float
    frames: int
    width: int | None


def check_media(corpus: DatasetDict, level: Level = "full", max_listed: int = 20) -> MediaSummary:
    """Check every file of a corpus; all that cannot be used are named in one message.

    Args:
        corpus: splits with `audio` or `features` paths.
        level: "headers" opens every file but reads no values; "full" reads everything, and so also finds values
            that are not finite and recordings without sound.
        max_listed: bad files named in the message; the others are counted.

    Returns:
        The totals over all files.

    Raises:
        UserError: with one sentence for each bad file.
    """
    if level not in ("full", "headers"):
        raise ValueError(f"level is {level!r}, not 'full' or 'headers'")
    paths = _Paths(corpus)
    totals = _Totals()
    problems: dict[str, str] = {}
    for path in Progress(paths, "checking files", "file"):
        try:
            header = read_header(path)
            if level == "full":
                _read(path, header)
            totals.add(header)
        except UserError as error:
            problems[path] = str(error)
    if len(totals.widths) > 1:
        odd = (_odd_width(path, read_header(path).width, totals.widths) for path in paths if path not in problems)
        problems |= dict(found for found in odd if found)
    listed = [problems[path] for path in paths if path in problems] if problems else []
    raise_all(shortened(listed, max_listed), f"checked {len(paths)} files, {len(listed)} cannot be used")
    return totals.summary()


def width_problems(headers: Mapping[str, MediaHeader]) -> dict[str, str]:
    """Sentences, by path, about feature files whose frames are not as wide as those of most files."""
    widths = Counter(header.width for header in headers.values() if header.width is not None)
    found = (_odd_width(path, header.width, widths) for path, header in headers.items())
    return dict(odd for odd in found if odd)


def _odd_width(path: str, width: int | None, widths: Counter[int]) -> tuple[str, str] | None:
    """The path and a sentence, where its frames are not as wide as those of most files."""
    if width is None:
        return None
    usual, count = widths.most_common(1)[0]
    others = f"{count} of {widths.total()} files have {usual}"
    sentence = f"{path}: {width} values a frame, while {others}. To fix it: extract all files the same way."
    return None if width == usual else (path, sentence)


def _read(path: str, header: MediaHeader) -> np.ndarray:
    return read_features(path) if header.rate is None else read_audio(path, header.rate)


class _Paths:
    """Every path of a corpus once, in the order of the splits."""

    def __init__(self, corpus: DatasetDict) -> None:
        self._columns = [(rows, name) for rows in corpus.values() for name in MEDIA if name in rows.column_names]
        # Two paths of one 64-bit hash are one in 10^9 corpora of 100,000; the second is read, and refused, in training.
        hashes = np.fromiter(map(hash, self._all()), np.int64, sum(len(rows) for rows, _ in self._columns))
        self._is_first = np.zeros(len(hashes), dtype=bool)
        self._is_first[np.unique(hashes, return_index=True)[1]] = True

    def __len__(self) -> int:
        return int(self._is_first.sum())

    def __iter__(self) -> Iterator[str]:
        return itertools.compress(self._all(), self._is_first)

    def _all(self) -> Iterator[str]:
        return itertools.chain.from_iterable(values_of(rows, name) for rows, name in self._columns)


class _Totals:
    """What has been counted of the files so far."""

    def __init__(self) -> None:
        self.widths: Counter[int] = Counter()  # of the frames -> files
        self._files = self._frames = 0
        self._samples: Counter[int] = Counter()  # rate -> samples

    def add(self, header: MediaHeader) -> None:
        """Count one file."""
        self._files += 1
        if header.rate:
            self._samples[header.rate] += header.length
        if header.width:
            self._frames += header.length
            self.widths[header.width] += 1

    def summary(self) -> MediaSummary:
        """The totals, which are logged too."""
        seconds = math.fsum(samples / rate for rate, samples in self._samples.items())
        summary = MediaSummary(self._files, seconds, self._frames, next(iter(self.widths), None))
        amount = f"{seconds:.1f} s of audio" if seconds else f"{self._frames} frames"
        logger.info("checked %d files: %s", self._files, amount)
        return summary
