"""The Free Spoken Digit Dataset: its splits on files made in its layout, and on the real recordings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kd_asr_slr.corpora.fsdd import load
from kd_asr_slr.errors import UserError


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    for digit in (0, 7):
        for speaker in ("theo", "jackson"):
            for take in range(14):
                (tmp_path / f"{digit}_{speaker}_{take}.wav").touch()
    (tmp_path / "README.md").touch()
    return tmp_path


def sizes(corpus: Any) -> dict[str, int]:
    return {split: len(part) for split, part in corpus.items()}


def test_takes_make_the_splits(recordings: Path) -> None:
    corpus = load(name=None, root=recordings, options={})
    assert sizes(corpus) == {"train": 16, "dev": 20, "test": 20}
    assert set(corpus["test"]["take"]) == {"0", "1", "2", "3", "4"}


def test_few_labelled_takes_leave_the_rest_spare(recordings: Path) -> None:
    corpus = load(name=None, root=recordings, options={"labelled_takes": 3})
    assert sizes(corpus) == {"train": 12, "dev": 20, "test": 20, "spare": 4}
    assert set(corpus["train"]["take"]) == {"10", "11", "12"}
    assert set(corpus["spare"]["take"]) == {"13"}


@pytest.mark.parametrize("options", [{"takes": 3}, {"labelled_takes": 0}, {"labelled_takes": True}])
def test_other_options_are_refused(recordings: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="labelled_takes"):
        load(name=None, root=recordings, options=options)


def test_the_real_recordings(shared_data: Path) -> None:
    corpus = load(name=None, root=shared_data / "fsdd", options={"labelled_takes": 8})
    assert sizes(corpus) == {"train": 320, "dev": 200, "test": 200, "spare": 1280}
    assert set(Counter(corpus["train"]["speaker"]).values()) == {80}
