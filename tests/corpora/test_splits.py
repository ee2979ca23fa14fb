"""Held-out speakers do not leak, and names of speakers are understood or refused."""

from __future__ import annotations

import pytest
from datasets import Dataset, DatasetDict

from kd_asr_slr.corpora.schema import check_rows, namespaced
from kd_asr_slr.corpora.splits import apply_split, filter_speakers, list_speakers
from kd_asr_slr.errors import UserError


def make_corpus(speakers: tuple[str, ...] = ("c/ann", "c/bob", "c/eva"), takes: int = 4) -> DatasetDict:
    def rows(split: str) -> list[dict[str, str]]:
        return [
            {"id": f"{split}-{speaker}-{take}", "split": split, "speaker": speaker, "text": "X", "audio": f"{take}.wav"}
            for speaker in speakers
            for take in range(takes)
        ]

    return DatasetDict({split: Dataset.from_list(rows(split)) for split in ("train", "dev", "test")})


def test_held_out_speaker_is_nowhere_but_in_test() -> None:
    corpus = make_corpus()
    divided = apply_split(corpus, "held_out_speaker", held_out=["bob"])
    assert list_speakers(divided["train"]) == list_speakers(divided["dev"]) == ["c/ann", "c/eva"]
    assert list_speakers(divided["test"]) == ["c/bob"]
    assert {len(divided["train"]), len(divided["dev"])} == {8} and len(divided["test"]) == 12
    ids = [row["id"] for split in divided.values() for row in split]
    assert len(ids) == len(set(ids))
    assert set(divided["test"]["split"]) == {"test"}
    assert divided["test"].column_names == corpus["test"].column_names
    for split in divided.values():
        check_rows(split, "a split")


def test_test_utterances_from_some_splits_only() -> None:
    divided = apply_split(make_corpus(), "held_out_speaker", held_out=["c/bob", "ann"], test_from=["test"])
    assert sorted(set(divided["test"]["id"])) == sorted(
        f"test-c/{name}-{n}" for name in ("ann", "bob") for n in range(4)
    )
    assert list_speakers(divided["train"]) == ["c/eva"]


def test_as_given_changes_nothing_and_refuses_settings() -> None:
    corpus = make_corpus()
    assert apply_split(corpus) is corpus
    with pytest.raises(UserError, match="as_given"):
        apply_split(corpus, "as_given", held_out=["bob"])


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"policy": "held_out_speakr", "held_out": ["bob"]}, "did you mean 'held_out_speaker'"),
        ({"policy": "held_out_speaker"}, "has no speaker"),
        ({"policy": "held_out_speaker", "held_out": ["bbo"]}, "c/ann, c/bob, c/eva"),
        ({"policy": "held_out_speaker", "held_out": ["bob"], "test_from": ["eval"]}, "unknown split 'eval'"),
        ({"policy": "held_out_speaker", "held_out": ["ann", "bob", "eva"]}, "no utterance in 'train'"),
    ],
)
def test_mistakes(settings: dict, part: str) -> None:
    with pytest.raises(UserError) as caught:
        apply_split(make_corpus(), **settings)
    assert part in str(caught.value)


def test_filter_speakers_of_a_split_and_of_a_corpus() -> None:
    corpus = make_corpus()
    assert set(filter_speakers(corpus["train"], ["eva"])["speaker"]) == {"c/eva"}
    assert list_speakers(filter_speakers(corpus, ["c/eva", "ann"])) == ["c/ann", "c/eva"]
    with pytest.raises(UserError, match="unknown speaker 'evi'.*did you mean 'eva'"):
        filter_speakers(corpus, ["evi"])


def test_the_same_name_in_two_corpora_stays_two_speakers() -> None:
    corpus = make_corpus(speakers=(namespaced("F03", "uaspeech"), namespaced("F03", "torgo")))
    assert list_speakers(corpus) == ["torgo/F03", "uaspeech/F03"]
    assert list_speakers(filter_speakers(corpus, ["torgo/F03"])) == ["torgo/F03"]
    with pytest.raises(UserError, match="torgo/F03 and uaspeech/F03"):
        filter_speakers(corpus, ["F03"])
    assert namespaced("torgo/F03", "uaspeech") == "torgo/F03"
