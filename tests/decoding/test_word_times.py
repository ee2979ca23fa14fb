"""Frames of labels and words, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kd_asr_slr.decoding.greedy import collapse
from kd_asr_slr.decoding.word_times import Span, label_spans, word_spans
from kd_asr_slr.errors import UserError


def test_labels_take_their_runs_of_frames() -> None:
    spans = label_spans([0, 3, 3, 0, 0, 3, 2, 2, 2], blank=0)
    assert spans == [Span((3,), 1, 3), Span((3,), 5, 6), Span((2,), 6, 9)]
    assert label_spans([0, 0], blank=0) == label_spans([], blank=0) == []
    assert label_spans([1], blank=0) == [Span((1,), 0, 1)]


def test_the_labels_are_those_of_greedy_decoding() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        path = generator.integers(0, 4, generator.integers(0, 20))
        spans = label_spans(path, blank=2)
        assert [span.labels[0] for span in spans] == collapse(path, blank=2)
        covered = [frame for span in spans for frame in range(span.start, span.end)]
        assert covered == np.flatnonzero(path != 2).tolist()


@pytest.mark.parametrize(
    ("kind", "tokens", "path", "expected"),
    [
        ("words", ["", "A", "B"], [1, 0, 2, 2], [((1,), 0, 1), ((2,), 2, 4)]),
        ("characters", ["", "|", "A", "B"], [2, 0, 3, 1, 1, 0, 3], [((2, 3), 0, 3), ((3,), 6, 7)]),
        ("characters", ["", "|", "A", "B"], [1, 2, 1, 1, 0, 1, 3, 1], [((2,), 1, 2), ((3,), 6, 7)]),
        ("characters", ["", " ", "A"], [2, 1, 2], [((2,), 0, 1), ((2,), 2, 3)]),
        ("characters", ["", "A"], [1, 0, 1], [((1, 1), 0, 3)]),  # without a delimiter all is one word
        ("pieces", ["", "▁A", "B", "▁"], [1, 2, 0, 3, 2, 1], [((1, 2), 0, 2), ((3, 2), 3, 5), ((1,), 5, 6)]),
        ("pieces", ["", "▁A", "B"], [2, 1], [((2,), 0, 1), ((1,), 1, 2)]),  # a word without its beginning
    ],
)
def test_words_of_every_kind_of_labels(kind: str, tokens: list[str], path: list[int], expected: list[tuple]) -> None:
    assert word_spans(label_spans(path, 0), tokens, kind) == [Span(*span) for span in expected]


def test_an_unknown_kind() -> None:
    with pytest.raises(UserError, match="unknown kind of tokens 'syllables'"):
        word_spans([], [], "syllables")
