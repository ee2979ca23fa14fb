"""Which texts a run trains on and is scored against, and by which protocol, from its configuration alone."""

from __future__ import annotations

import csv
import dataclasses

import pytest

from kd_asr_slr.arguments import DataArguments
from kd_asr_slr.errors import UserError
from kd_asr_slr.training.data import load_data, protocol_of
from kd_asr_slr.training.evaluation import rates

RAW = "loc-NORDRAUM NORD __PU__ C M"


@pytest.fixture()
def data(tmp_path) -> DataArguments:
    """A manifest with the same raw annotation in every split, of two signers."""
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "path", "text", "speaker", "split"])
        for split in ("train", "dev", "test"):
            writer.writerows([f"{split}-{signer}", f"{split}.npz", RAW, signer, split] for signer in ("s1", "s2"))
    return DataArguments(manifest=str(tmp_path / "manifest.csv"), normaliser="phoenix2014", media_check="none")


def test_training_text_is_cleaned_and_published_references_are_not(data):
    texts = {split: set(part["text"]) for split, part in load_data(data).items()}
    assert texts == {"train": {"NORD C+M"}, "dev": {RAW}, "test": {RAW}}
    texts = {split: set(part["text"]) for split, part in load_data(dataclasses.replace(data, normaliser="raw")).items()}
    assert texts == {"train": {RAW}, "dev": {RAW}, "test": {RAW}}


def test_utterances_are_cleaned_by_the_split_they_come_from(data):
    """A held-out signer's training utterances are tested on, as cleaned training text."""
    held_out = dataclasses.replace(data, split_policy="held_out_speaker", held_out_speakers=["s2"])
    corpus = load_data(held_out)
    texts = {row["id"]: row["text"] for part in corpus.values() for row in part}
    assert texts["train-s1"] == "NORD C+M"
    assert all(text == ("NORD C+M" if identity.startswith("train") else RAW) for identity, text in texts.items())
    assert {row["id"] for row in corpus["test"]} <= {"train-s2", "dev-s2", "test-s2"}


def test_protocol_of_a_run():
    assert protocol_of(DataArguments(corpus="phoenix2014_si5")) == "official-sclite"
    assert protocol_of(DataArguments(corpus="phoenix2014t")) == "official-sclite-2014t"
    assert protocol_of(DataArguments(corpus="manifest")) == "words"
    assert protocol_of(DataArguments(corpus="manifest", corpus_name="phoenix2014")) == "official-sclite"
    assert protocol_of(DataArguments(corpus="phoenix2014", protocol="slrt")) == "slrt"
    assert protocol_of(DataArguments(corpus="phoenix2014", protocol="slrt"), "raw") == "raw"


def test_unknown_names_are_refused_before_anything_is_decoded(data):
    with pytest.raises(UserError, match="unknown scoring protocol 'sclite'; expected one of .*official-sclite"):
        load_data(dataclasses.replace(data, protocol="sclite"))
    with pytest.raises(UserError, match="unknown text normaliser 'phoenix'"):
        load_data(dataclasses.replace(data, normaliser="phoenix"))


def test_dev_rates_follow_the_protocol():
    rows = [{"id": "u", "speaker": "s", "reference": "NORD REGEN", "hypothesis": "loc-NORD Regen-PLUSPLUS"}]
    assert rates(rows, "official-sclite") == {"wer": 0.0, "wra": 1.0}
    assert rates(rows)["wer"] == 1.0
