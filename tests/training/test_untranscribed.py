"""Recordings without text: nobody sees what was said in them, and only soft targets come from them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict
from tiny_runs import assemble, cache, do_run, largest_difference, weights

from kd_asr_slr.arguments import DataArguments
from kd_asr_slr.corpora.untranscribed import set_untranscribed
from kd_asr_slr.errors import UserError
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.losses.table import build_losses
from kd_asr_slr.outputs import HybridOutput, TeacherSignal
from kd_asr_slr.training.data import load_data
from kd_asr_slr.training.untranscribed import describe_untranscribed, training_rows


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


@pytest.mark.parametrize("labels", [torch.full((2, 3), -100), torch.empty(2, 0, dtype=torch.long)])
def test_every_loss_that_reads_labels_is_zero_without_them(labels: torch.Tensor) -> None:
    """On the graph, with a gradient of exactly zero: a batch of them alone still goes through backward."""
    settings = LossSettings(alpha=1.0, beta=1.0, soft_losses=("decoder_kd",), hard_losses=("ctc", "cross_entropy"))
    settings = dataclasses.replace(settings, auxiliary_ctc_weight=1.0)
    logits, positions = torch.randn(2, 6, 5, requires_grad=True), torch.tensor([labels.shape[1] + 1] * 2)
    decoder = torch.randn(2, labels.shape[1] + 1, 5, requires_grad=True)
    output = HybridOutput(logits=logits, logit_lengths=torch.tensor([6, 4]), decoder_logits=decoder)
    output.decoder_lengths, output.auxiliary_logits = positions, logits * 2
    signal = TeacherSignal(
        log_probs=torch.randn(2, 6, 5).log_softmax(-1), lengths=torch.tensor([6, 4]), vocabulary="v",
        frame_seconds=0.02, weight=torch.ones(2), decoder_log_probs=torch.randn_like(decoder).log_softmax(-1),
        decoder_lengths=positions,
    )  # fmt: skip
    losses = build_losses(settings, blank_id=0, eos_id=2)
    assert {item.name for item in losses} == {"decoder_kd", "ctc", "cross_entropy", "auxiliary_ctc"}
    for item in losses:
        value = item.loss(output, signal, {"labels": labels, "ids": ["a", "b"]}, temperature=2.0)
        assert value.tolist() == [0.0, 0.0], item.name
        value.sum().backward(retain_graph=True)
    assert not any(tensor.grad is not None and tensor.grad.any() for tensor in (logits, decoder))


def test_live_and_cached_teachers_give_one_student(speech: Path, generalist: Path, tmp_path: Path) -> None:
    held_out = {"split_policy": "held_out_speaker", "held_out_speakers": [SPEAKER]}
    transductive = {"untranscribed_speakers": [SPEAKER], "untranscribed_split": "test"}
    options = {
        "data_dir": speech,
        "teachers": [str(generalist)],
        "aggregation": "logprob_mean",
        "lr_scheduler_type": "linear",
    }
    options |= {"held_out_as_teacher": True}  # whom the teacher has heard is not the question here
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


def write_manifests(folder: Path, speech: Path, identity: str = "more-1") -> dict[str, Any]:
    """A corpus of two speakers, and recordings of one of them beside it; both as options of a run."""
    wav = sorted(speech.rglob("*.wav"))
    rows = [("train-a", "train", "ann", "ONE"), ("dev-a", "dev", "ann", "ONE"), ("train-b", "train", "bob", "TWO")]
    rows += [("heard", "untranscribed", "bob", "")]
    lines = [
        f"{name},{split},{speaker},{text},{path}" for (name, split, speaker, text), path in zip(rows, wav, strict=False)
    ]
    (folder / "corpus.csv").write_text("\n".join(["id,split,speaker,text,path", *lines]))
    (folder / "more.jsonl").write_text(
        json.dumps({"id": identity, "speaker": "bob", "path": str(wav[5]), "word": "SECRET", "text": "SECRET"})
    )
    options = {"corpus": "manifest", "corpus_name": "mine", "manifest": str(folder / "corpus.csv")}
    return {**options, "untranscribed_manifest": str(folder / "more.jsonl")}


def test_a_second_manifest_brings_recordings_without_text(speech: Path, tmp_path: Path) -> None:
    options = write_manifests(tmp_path, speech)
    held_out = {"split_policy": "held_out_speaker", "held_out_speakers": ["bob"]}
    data = DataArguments(**options, **held_out)
    corpus = load_data(data)
    # A split policy moves what has a text: what the user calls untranscribed stays, also of a held-out speaker.
    assert corpus["untranscribed"]["id"][:] == ["heard", "more-1"] and corpus["test"]["id"][:] == ["train-b"]
    assert set(corpus["untranscribed"]["speaker"][:]) == {"mine/bob"}
    assert "SECRET" not in json.dumps(corpus["untranscribed"][:])
    rows = training_rows(corpus, data)
    assert dict(zip(rows["id"], rows["text"], strict=True)) == {"train-a": "ONE", "heard": "", "more-1": ""}
    assert describe_untranscribed(corpus, data) == {"untranscribed": {"utterances": 2, "transductive": True}}


def test_ids_of_a_second_manifest_are_its_own(speech: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 1 ids that the corpus has too, e.g. 'train-a'"):
        load_data(DataArguments(**write_manifests(tmp_path, speech, identity="train-a")))


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
