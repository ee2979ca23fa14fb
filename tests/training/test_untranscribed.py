"""Recordings without text: nobody sees what was said in them, and only soft targets come from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict
from tiny_runs import assemble, cache, do_run, largest_difference, weights

from kd_asr_slr.corpora.untranscribed import set_untranscribed
from kd_asr_slr.errors import UserError
from kd_asr_slr.training.data import load_data
from kd_asr_slr.training.untranscribed import training_rows


def make_corpus() -> DatasetDict:
    def rows(split: str) -> list[dict[str, str]]:
        return [
            {"id": f"{split}-{who}", "split": split, "speaker": f"c/{who}", "text": "SECRET", "audio": "a.wav"}
            | {"word": "SECRET", "microphone": "M5"}
            for who in ("ann", "bob")
        ]

    return DatasetDict({split: Dataset.from_list(rows(split)) for split in ("train", "dev", "test")})


def test_moved_from_training_and_copied_from_test() -> None:
    moved = set_untranscribed(make_corpus(), ["bob"], "train")
    assert {name: part["speaker"][:] for name, part in moved.items()} == {
        "train": ["c/ann"],
        "dev": ["c/ann"],
        "test": ["c/ann", "c/bob"],
        "untranscribed": ["c/bob"],
    }
    copied = set_untranscribed(make_corpus(), ["c/bob"], "test")
    assert len(copied["train"]) == len(copied["dev"]) == len(copied["test"]) == 2
    assert copied["untranscribed"]["id"][:] == ["test-bob"]


def test_nothing_of_the_text_is_left() -> None:
    part = set_untranscribed(make_corpus(), ["bob"], "train")["untranscribed"]
    assert "SECRET" not in json.dumps(part[:])
    assert part["microphone"][:] == ["M5"] and part["untranscribed"][:] == [True]


@pytest.mark.parametrize(
    ("speakers", "source", "named"),
    [
        (["bob"], "extra", "there is no split 'extra'"),
        (["eva"], "train", "unknown speaker 'eva'"),
        (["ann", "bob"], "train", "no utterance is left in 'train'"),
    ],
)
def test_what_cannot_be_taken_is_refused(speakers: list[str], source: str, named: str) -> None:
    with pytest.raises(UserError, match=named):
        set_untranscribed(make_corpus(), speakers, source)


SPEAKER = "s02"


def test_only_soft_losses_learn_from_them(speech: Path, generalist: Path, tmp_path: Path) -> None:
    options = {"data_dir": speech, "output_dir": tmp_path, "aggregation": "logprob_mean"}
    run = assemble(teachers=[str(generalist)], untranscribed_speakers=[SPEAKER], **options)
    rows = run.trainer.train_dataset.rows
    assert {row["text"] == "" for row in rows if row["untranscribed"]} == {True}
    assert {row["speaker"].endswith(SPEAKER) for row in rows if row["untranscribed"]} == {True}
    silent = [index for index, row in enumerate(rows) if row["untranscribed"]][:3]
    spoken = [index for index, row in enumerate(rows) if not row["untranscribed"]][:2]
    batch = run.trainer.data_collator([run.trainer.train_dataset[index] for index in (*silent, *spoken)])
    output = run.trainer._listen(run.student.train(), batch)
    signal = run.trainer._signal(batch)
    values = {item.name: item.loss(output, signal, batch, 2.0) for item in run.trainer.losses}
    assert values["ctc"][:3].tolist() == [0.0, 0.0, 0.0] and (values["ctc"][3:] > 0).all()
    assert (values["ctc_kd"] > 0).all()
    values["ctc"][:3].sum().backward()
    assert all(value.grad is None or not value.grad.any() for value in run.student.parameters())


def test_a_batch_of_them_alone_has_no_labels(speech: Path, generalist: Path, tmp_path: Path) -> None:
    options = {"data_dir": speech, "output_dir": tmp_path, "aggregation": "logprob_mean"}
    run = assemble(teachers=[str(generalist)], untranscribed_speakers=[SPEAKER], **options)
    items = [run.trainer.train_dataset[-index] for index in (1, 2)]
    batch = run.trainer.data_collator(items)
    assert batch["labels"].shape == (2, 0)
    loss = run.trainer.compute_loss(run.student.train(), batch)
    loss.backward()
    assert torch.isfinite(loss) and any(value.grad.any() for value in run.student.parameters())


def test_live_and_cached_teachers_give_one_student(speech: Path, generalist: Path, tmp_path: Path) -> None:
    held_out = {"split_policy": "held_out_speaker", "held_out_speakers": [SPEAKER]}
    transductive = {"untranscribed_speakers": [SPEAKER], "untranscribed_split": "test"}
    options = {
        "data_dir": speech,
        "teachers": [str(generalist)],
        "aggregation": "logprob_mean",
        "lr_scheduler_type": "linear",
    }
    options |= held_out | transductive | {"vocabulary": str(generalist), "cache_dtype": "float32"}
    live = do_run(output_dir=tmp_path / "live", **options)
    cache(tmp_path / "targets", output_dir=tmp_path / "cached", **options)
    do_run(output_dir=tmp_path / "cached", teacher_cache=tmp_path / "targets", **options)
    assert largest_difference(weights(tmp_path / "live"), weights(tmp_path / "cached")) < 1e-5
    results = json.loads((tmp_path / "live" / "results.json").read_text())
    assert results["untranscribed"]["transductive"] is True
    assert results["untranscribed"]["utterances"] == len(live.corpus["test"])


def test_without_teachers_they_are_left_out(speech: Path, tmp_path: Path) -> None:
    run = assemble(data_dir=speech, output_dir=tmp_path, untranscribed_speakers=[SPEAKER])
    assert {row["speaker"].endswith(SPEAKER) for row in run.trainer.train_dataset.rows} == {False}
    corpus = load_data(run.data)
    assert len(training_rows(corpus, run.data)) > len(training_rows(corpus, run.data, soft_targets=False))


def test_a_manifest_may_hold_recordings_without_text(speech: Path, tmp_path: Path) -> None:
    from kd_asr_slr.corpora.manifest import load_manifest

    wav = next(speech.rglob("*.wav"))
    lines = ["id,split,speaker,text,path", f"a,train,x,ONE,{wav}", f"b,untranscribed,y,,{wav}"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    corpus = load_manifest(tmp_path / "manifest.csv", "mine")
    assert set_untranscribed(corpus, [], "train")["untranscribed"]["text"][:] == [""]
    (tmp_path / "manifest.csv").write_text("\n".join(lines).replace("untranscribed,", "train,"))
    with pytest.raises(UserError, match="'text' is empty"):
        load_manifest(tmp_path / "manifest.csv", "mine")
