"""Blocks, prompts, folds and microphones: on the real labels of UASpeech, and on a corpus small enough to count."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from kd_asr_slr.corpora.schema import check_rows
from kd_asr_slr.corpora.split_policies import filter_microphones, seen_words
from kd_asr_slr.corpora.splits import apply_split, folds, list_speakers
from kd_asr_slr.errors import UserError

BLOCKS = {"train_blocks": ["B1", "B3"], "test_blocks": ["B2"]}


@pytest.fixture(scope="module")
def uaspeech(shared_data: Path) -> DatasetDict:
    """The labels of the 15 dysarthric speakers' recordings, all in one split."""
    with gzip.open(shared_data / "uaspeech" / "utterances.tsv.gz", "rt", encoding="utf-8") as file:
        labels = [row for row in csv.DictReader(file, delimiter="\t") if not row["speaker"].startswith("C")]
    parts = [row["utterance"].split("_") for row in labels]
    columns = {
        "id": [row["utterance"] for row in labels],
        "split": ["train"] * len(labels),
        "speaker": [f"uaspeech/{row['speaker']}" for row in labels],
        "text": [row["word"] for row in labels],
        "audio": [f"{row['utterance']}.wav" for row in labels],
        "utterance": ["_".join(part[:3]) for part in parts],
        "block": [part[1] for part in parts],
        "microphone": [part[3] for part in parts],
    }
    return DatasetDict({"train": Dataset.from_dict(columns)})


def utterances(rows: Dataset) -> set[str]:
    return set(rows["utterance"][:])


def test_blocks_of_the_real_corpus(uaspeech: DatasetDict) -> None:
    """49,215 and 24,735 recordings; 38.8 % of the tested words are in no training block."""
    corpus = apply_split(uaspeech, "blocks", **BLOCKS)
    assert len(corpus["train"]) + len(corpus["dev"]) == 49_215 and len(corpus["test"]) == 24_735
    assert set(corpus["test"]["block"]) == {"B2"} and set(corpus["train"]["block"]) == {"B1", "B3"}
    known = DatasetDict({"train": uaspeech["train"].filter(lambda row: row["block"] != "B2"), "test": corpus["test"]})
    seen = seen_words(known)
    assert 1 - sum(seen) / len(seen) == pytest.approx(0.388, abs=5e-4)
    # Of the 100 uncommon words of B2, 99 are in no other block.
    words = {word for word, is_seen in zip(corpus["test"]["text"], seen, strict=True) if not is_seen}
    assert len(words) == 99


def test_all_microphones_of_an_utterance_stay_together(uaspeech: DatasetDict) -> None:
    corpus = apply_split(uaspeech, "blocks", **BLOCKS)
    train, dev, test = (utterances(corpus[split]) for split in ("train", "dev", "test"))
    assert not train & dev and not train & test and not dev & test
    of_speaker = {name: sum(item.startswith(f"{name}_") for item in dev) for name in ("F02", "M01", "M16")}
    assert of_speaker == {"F02": 51, "M01": 51, "M16": 51}  # a tenth of 510
    one = apply_split(filter_microphones(uaspeech, ["M5"]), "blocks", **BLOCKS)
    assert utterances(one["dev"]) == dev  # whatever the microphones


def test_the_microphones_everyone_has(uaspeech: DatasetDict) -> None:
    corpus = filter_microphones(uaspeech, ["M5"])
    assert len(corpus["train"]) == 11_475 and len(list_speakers(corpus)) == 15


# (speaker, block, word, microphones)
SCENE = [
    (speaker, block, word, microphone)
    for speaker in ("c/ann", "c/bob", "c/eva")
    for block, words in {"B1": ("A", "B", "C", "D"), "B2": ("C", "D", "E")}.items()
    for word in words
    for microphone in ("M5", "M6")
]


@pytest.fixture
def small() -> DatasetDict:
    rows = [
        {"id": f"{speaker}-{block}-{word}-{microphone}", "split": "test" if block == "B2" else "train",
         "speaker": speaker, "text": word, "audio": "x.wav", "utterance": f"{block}-{word}", "block": block,
         "microphone": microphone}
        for speaker, block, word, microphone in SCENE
    ]  # fmt: skip
    return DatasetDict(
        {split: Dataset.from_list([r for r in rows if r["split"] == split]) for split in ("train", "test")}
    )


def test_prompt_disjoint(small: DatasetDict) -> None:
    corpus = apply_split(small, "prompt_disjoint", test_share=0.4)
    tested = set(corpus["test"]["text"])
    assert len(tested) == 2 and not tested & {*corpus["train"]["text"], *corpus["dev"]["text"]}
    assert sum(map(len, corpus.values())) == len(SCENE) and seen_words(corpus) == [False] * len(corpus["test"])
    assert list_speakers(corpus["test"]) == list_speakers(small)
    for split, rows in corpus.items():
        assert set(rows["split"]) == {split}
        check_rows(rows, split)


def test_prompt_disjoint_with_a_speaker_nobody_heard(small: DatasetDict) -> None:
    everyone = set(apply_split(small, "prompt_disjoint", test_share=0.4)["test"]["text"])
    for speaker, corpus in folds(small, policy="prompt_disjoint", test_share=0.4):
        assert list_speakers(corpus["test"]) == [speaker]
        assert speaker not in {*list_speakers(corpus["train"]), *list_speakers(corpus["dev"])}
        assert set(corpus["test"]["text"]) == everyone  # the same texts in every fold
        assert not everyone & {*corpus["train"]["text"], *corpus["dev"]["text"]}


def test_folds_hold_out_one_speaker_at_a_time(small: DatasetDict) -> None:
    found = dict(folds(small))
    assert list(found) == ["c/ann", "c/bob", "c/eva"]
    for speaker, corpus in found.items():
        assert list_speakers(corpus["test"]) == [speaker] and len(corpus["test"]) == len(SCENE) // 3
        assert speaker not in list_speakers(corpus["train"])
    assert [speaker for speaker, _ in folds(small, ["eva"])] == ["c/eva"]


def test_a_held_out_speaker_by_blocks(small: DatasetDict) -> None:
    corpus = apply_split(small, "held_out_speaker", held_out=["ann"], test_blocks=["B2"])
    assert set(corpus["test"]["block"]) == {"B2"} and len(corpus["test"]) == 6
    assert set(corpus["train"]["block"]) == {"B1"}  # the others' test block is not trained on
    corpus = apply_split(small, "held_out_speaker", held_out=["ann"], train_blocks=["B1", "B2"])
    assert set(corpus["train"]["block"]) == {"B1", "B2"} and len(corpus["train"]) == 2 * len(SCENE) // 3


def test_a_recording_without_text_is_never_tested(small: DatasetDict) -> None:
    silent = small["train"].map(lambda row: {"text": "", "split": "untranscribed", "id": "u" + row["id"]})
    corpus = DatasetDict({**small, "untranscribed": silent})
    divided = apply_split(corpus, "held_out_speaker", held_out=["ann"])
    assert "" not in divided["test"]["text"] and "c/ann" not in list_speakers(divided["untranscribed"])
    assert len(apply_split(corpus, "blocks", train_blocks=["B1"], test_blocks=["B2"])["untranscribed"]) == len(silent)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"policy": "blocks"}, "needs blocks to train and to test on"),
        ({"policy": "blocks", "train_blocks": ["B1"], "test_blocks": ["B9"]}, "no block 'B9'"),
        ({"policy": "blocks", "train_blocks": ["B1"], "test_blocks": ["B1"]}, "B1 is in train_blocks and in"),
        ({"policy": "as_given", "train_blocks": ["B1"]}, "'as_given' ignores them"),
        ({"policy": "blocks", **BLOCKS, "held_out": ["ann"]}, "'blocks' ignores them"),
        ({"policy": "prompt_disjoint", "test_share": 0.99}, "leaves no utterance in 'train'"),
    ],
)  # fmt: skip
def test_mistakes(small: DatasetDict, settings: dict, part: str) -> None:
    with pytest.raises(UserError) as caught:
        apply_split(small, **settings)
    assert part in str(caught.value)


def test_microphones_that_are_not_there(small: DatasetDict) -> None:
    with pytest.raises(UserError, match=r"no microphone 'M4'.*M5, M6"):
        filter_microphones(small, ["M4"])
    with pytest.raises(UserError, match="no column 'microphone'"):
        filter_microphones(small.remove_columns("microphone"), ["M5"])
