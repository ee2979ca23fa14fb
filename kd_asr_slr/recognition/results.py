"""What was recognised, and from output frames to the times of its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kd_asr_slr.decoding.forced_alignment import best_path
from kd_asr_slr.decoding.spelling import kind_of
from kd_asr_slr.decoding.word_times import Span, label_spans, word_spans

DIGITS = 4  # of times: a tenth of a millisecond


@dataclass(frozen=True, slots=True)
class Word:
    """A word or gloss, and when the network says it.

    Attributes:
        text: the word.
        start, end: in the `unit` of its `Recognition`; CTC says a word in a spike, so it may last longer than this.
        seconds: start and end in seconds; None for sign of unknown frame rate.
    """

    text: str
    start: float
    end: float
    seconds: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Recognition:
    """What was recognised in one recording or video.

    Attributes:
        text: all of it.
        words: its words, in their order.
        unit: of their times: "seconds" (speech) or "frames" (sign: frames of the video).
        duration: of the recording or video, in that unit.
    """

    text: str
    words: tuple[Word, ...]
    unit: str
    duration: float


@dataclass(frozen=True, slots=True)
class Clock:
    """From output frames to times.

    Attributes:
        unit: "seconds" or "frames".
        step: units between two output frames.
        first, last: units, the begin and the end of what the network was given.
        duration: units, the whole recording or video.
        unit_seconds: seconds a unit; None where unknown.
    """

    unit: str
    step: float
    first: float
    last: float
    duration: float
    unit_seconds: float | None

    def word(self, text: str, span: Span) -> Word:
        """A word and its times; the last output frame may reach over the end, a time never does."""
        start, end = (min(self.first + self.step * frame, self.last) for frame in (span.start, span.end))
        known = self.unit_seconds
        seconds = None if known is None else (round(start * known, DIGITS), round(end * known, DIGITS))
        return Word(text, round(start, DIGITS), round(end, DIGITS), seconds)


def read_path(path: np.ndarray, processor: Any, clock: Clock, text: str | None = None) -> Recognition:
    """The text and the words of a CTC path.

    Args:
        path: the label of every output frame [T'].
        processor: for tokens, blank and texts.
        clock: of its output frames.
        text: where it is known better than by the labels.
    """
    labels = label_spans(path, processor.blank_id)
    words = [
        (processor.decode_labels(span.labels), span)
        for span in word_spans(labels, processor.tokens, kind_of(processor))
    ]
    return Recognition(
        text=processor.decode_labels([span.labels[0] for span in labels]) if text is None else text,
        words=tuple(clock.word(word, span) for word, span in words if word),
        unit=clock.unit,
        duration=round(clock.duration, DIGITS),
    )


def read_text(text: str, log_probs: np.ndarray, processor: Any, clock: Clock) -> Recognition:
    """A text and the words in it, at the times of the best CTC path through it.

    Args:
        text: what any decoder found.
        log_probs: of the CTC head, [T', V].
        processor: for tokens, blank and texts.
        clock: of its output frames.

    Returns:
        Without words where there is no such path: the decoder found more labels than there are frames.
    """
    labels: Sequence[int] = processor.encode_labels(text) if text else []
    places = best_path(log_probs, labels, processor.blank_id) if labels else None
    if places is None:
        return Recognition(text, (), clock.unit, round(clock.duration, DIGITS))
    path = np.where(places < 0, processor.blank_id, np.asarray(labels)[places])
    return read_path(path, processor, clock, text)
