"""In which frames a CTC path says each word.

CTC says a label in a spike, often of one frame, near the sound or the gesture that it stands for: the frames tell when,
and say little about how long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kd_asr_slr.decoding.spelling import WORD_START, delimiter_of, spelling_of


@dataclass(frozen=True, slots=True)
class Span:
    """Labels that belong together, and the output frames they take.

    Attributes:
        labels: indices, one after another.
        start: first frame.
        end: the frame behind the last one.
    """

    labels: tuple[int, ...]
    start: int
    end: int


def label_spans(path: ArrayLike, blank: int) -> list[Span]:
    """The labels of a path, repeats merged and blanks dropped, each with its frames.

    Args:
        path: one label a frame [T].
        blank: index of the blank.

    Example:
        >>> label_spans([0, 1, 1, 0, 1], blank=0)
        [Span(labels=(1,), start=1, end=3), Span(labels=(1,), start=4, end=5)]
    """
    frames = np.asarray(path, dtype=np.int64)  # [T]
    edges = [0, *(np.flatnonzero(frames[1:] != frames[:-1]) + 1).tolist(), len(frames)]
    runs = zip(edges, edges[1:], strict=False)
    return [Span((int(frames[a]),), a, b) for a, b in runs if a < b and frames[a] != blank]


def word_spans(labels: Sequence[Span], tokens: Sequence[str], kind: str) -> list[Span]:
    """Join the spans of labels to those of words; what only separates words is in none of them.

    Args:
        labels: as `label_spans` gives them.
        tokens: the vocabulary, in index order.
        kind: "words", "characters" or "pieces", see `spelling`.

    Raises:
        UserError: for another kind.

    Example:
        >>> word_spans(label_spans([1, 0, 2, 2, 3], blank=0), ["", "▁A", "B", "▁C"], "pieces")
        [Span(labels=(1, 2), start=0, end=4), Span(labels=(3,), start=4, end=5)]
    """
    spelling = spelling_of(kind)
    if spelling.whole_words:
        return list(labels)
    delimiter = None if spelling.starts_words else delimiter_of(dict(enumerate(tokens)))
    words: list[list[Span]] = [[]]
    for span in labels:
        token = tokens[span.labels[0]]
        if token == delimiter or (spelling.starts_words and token.startswith(WORD_START)):
            words.append([])
        if token != delimiter:
            words[-1].append(span)
    return [_joined(word) for word in words if word]


def _joined(spans: Sequence[Span]) -> Span:
    return Span(tuple(label for span in spans for label in span.labels), spans[0].start, spans[-1].end)
