"""Gloss vocabularies by name, to the field's counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from kd_asr_slr.corpora.phoenix_annotations import read_annotations
from kd_asr_slr.corpora.vocabulary import POLICIES, gloss_vocabulary
from kd_asr_slr.errors import UserError
from kd_asr_slr.text import normalise, normaliser_of_split


def real(shared_data: Path, normaliser: str) -> DatasetDict:
    annotations = read_annotations(shared_data / "phoenix2014")
    splits = {}
    for split in annotations.splits:
        name = normaliser_of_split(normaliser, training=split == "train")
        splits[split] = Dataset.from_dict({"text": [normalise(item.text, name) for item in annotations.usable(split)]})
    return DatasetDict(splits)


@pytest.mark.parametrize(
    ("policy", "normaliser", "labels"),
    [("cleaned", "phoenix2014", 1100), ("raw", "raw", 1231), ("vac1296", "raw", 1296 - 1)],
)
def test_counts_of_the_field(shared_data: Path, policy: str, normaliser: str, labels: int) -> None:
    vocabulary = gloss_vocabulary(real(shared_data, normaliser), policy, normaliser)
    assert len(vocabulary) == labels and vocabulary == sorted(set(vocabulary))


def test_cleaned_labels_are_those_of_the_train_references(shared_data: Path) -> None:
    stm = (shared_data / "phoenix2014" / "phoenix2014-groundtruth-train.stm").read_text(encoding="utf-8")
    wanted = {gloss for line in stm.splitlines() for gloss in line.split()[5:]}
    assert gloss_vocabulary(real(shared_data, "phoenix2014"), "cleaned", "phoenix2014") == sorted(wanted)


CORPUS = DatasetDict(
    train=Dataset.from_dict({"text": ["B  A", "A loc-C"]}),
    dev=Dataset.from_dict({"text": ["D"]}),
    test=Dataset.from_dict({"text": ["E A"]}),
)


def test_which_splits_count() -> None:
    assert gloss_vocabulary(CORPUS, "raw", "none") == ["A", "B", "loc-C"]
    assert gloss_vocabulary(CORPUS, "vac1296", "glosses") == ["A", "B", "D", "E", "loc-C"]
    assert gloss_vocabulary(CORPUS, "cleaned", "phoenix2014", train_split="dev") == ["D"]


@pytest.mark.parametrize(("policy", "normaliser"), [("cleaned", "raw"), ("raw", "phoenix2014"), ("vac1296", "words")])
def test_policy_and_normaliser_must_fit(policy: str, normaliser: str) -> None:
    with pytest.raises(UserError, match=f"'{policy}' and the normaliser '{normaliser}' do not go together"):
        gloss_vocabulary(CORPUS, policy, normaliser)


def test_an_unknown_policy() -> None:
    with pytest.raises(UserError, match=r"unknown gloss vocabulary 'vac1295' \(did you mean 'vac1296'\?\)"):
        gloss_vocabulary(CORPUS, "vac1295", "raw")
    assert set(POLICIES) == {"cleaned", "raw", "vac1296"}
