"""What is counted at evaluation: texts against texts, in their order, whatever the vocabulary holds."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_runs import assemble, do_run, logged
from transformers import EvalPrediction

from kd_asr_slr.errors import UserError
from kd_asr_slr.models.auto import load_model
from kd_asr_slr.outputs import CTCOutput
from kd_asr_slr.processing.auto import load_processor
from kd_asr_slr.processing.collator import Collator
from kd_asr_slr.processing.tokenization import LabelTokenizer
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.tool_arguments import ScoreArguments
from kd_asr_slr.training.data import evaluation_items, load_data, scored_corpus
from kd_asr_slr.training.dev_labels import best_labels, without_infeasible
from kd_asr_slr.training.evaluation import DevMetrics, attention_decoding, build_decoding, predict

TOKENIZER = LabelTokenizer.from_texts(["A B C"])  # <blank> A B C
PROCESSOR = SimpleNamespace(blank_id=0, decode_labels=TOKENIZER.decode_labels)


class Rows(list):
    """As much of a `RecogniserDataset` as the metrics read."""

    @property
    def rows(self) -> list[dict[str, str]]:
        return [{"id": f"u{i}", "speaker": "x/s", "text": text} for i, text in enumerate(self)]


def metrics_of(references: list[str], frames: list[list[int]]) -> dict[str, float]:
    longest = max(map(len, frames))
    padded = np.array([row + [-100] * (longest - len(row)) for row in frames])
    return DevMetrics(Rows(references), PROCESSOR)(EvalPrediction(predictions=padded, label_ids=None))


def test_word_error_rate_by_hand() -> None:
    # "A B" right; "A C" against "A B C": 1 deletion; "B B A" against "B A": 1 insertion. 2 errors of 7 words.
    frames = [[0, 1, 1, 0, 2], [1, 0, 3, 3, 0, 0], [2, 0, 2, 1]]
    found = metrics_of(["A B", "A B C", "B A"], frames)
    assert found["wer"] == pytest.approx(2 / 7)
    assert set(found) == {"wer", "wra"}


def test_a_word_outside_of_the_vocabulary_stays_an_error() -> None:
    assert metrics_of(["A", "ZULU"], [[1], [2]])["wer"] == 0.5
    assert metrics_of(["A", "ZULU"], [[1], [0]])["wer"] == 0.5  # saying nothing is no way out
    assert metrics_of(["A ZULU"], [[1]])["wer"] == 0.5


def test_missing_predictions_are_no_shorter_average() -> None:
    with pytest.raises(ValueError, match="1 predictions for 2 utterances"):
        metrics_of(["A", "B"], [[1]])


def test_another_order_raises(speech: Path, generalist: Path) -> None:
    run = RunFolder(generalist)
    data = scored_corpus(run.config(), ScoreArguments(run=str(generalist)))
    processor, model = load_processor(generalist), load_model(str(generalist))
    items = evaluation_items(load_data(data)["dev"], processor, data)
    decode = build_decoding(ScoreArguments(), processor, model)
    right = predict(model, items, Collator(processor.input_name), decode, 3)
    assert [item["id"] for item in right] == items.rows["id"]
    turned = items.rows.select(range(len(items) - 1, -1, -1))
    collate = Collator(processor.input_name)

    class Turned(Collator):
        def __call__(self, features: list[dict]) -> dict:
            return collate(features[::-1])

    with pytest.raises(ValueError, match=f"utterance {items.rows[2]['id']} where {items.rows[0]['id']} was expected"):
        predict(model, items, Turned(processor.input_name), decode, 3)
    items.rows = turned
    assert [item["id"] for item in predict(model, items, collate, decode, 3)] == turned["id"]


def test_the_trainers_rates_are_those_of_the_written_predictions(speech: Path, tmp_path: Path) -> None:
    run = do_run(data_dir=speech, output_dir=tmp_path, num_train_epochs=3, per_device_eval_batch_size=5)
    dev = next(item for item in RunFolder(tmp_path).read_results()["scores"] if item["split"] == "dev")
    assert dev["wer"] == pytest.approx(min(logged(tmp_path, "eval_wer")))
    rows = RunFolder(tmp_path).read_predictions("dev")
    assert [row["id"] for row in rows] == run.trainer.eval_dataset.rows["id"]


def test_dev_items_that_no_path_can_write_and_words_nobody_knows(speech: Path, tmp_path: Path) -> None:
    """A dev transcript longer than its frames, and one of unknown words, are errors in the WER and 0 in the loss."""
    (source,) = speech.glob("synthetic_speech-*/manifest.csv")
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))
    dev = [row for row in rows if row["split"] == "dev"]
    dev[0]["text"] = " ".join(["PATA"] * 40)
    dev[1]["text"] = "NEVER HEARD"
    manifest = tmp_path / "manifest.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "path", "text", "speaker", "split"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    options = {"corpus": "manifest", "corpus_options": None, "manifest": manifest, "data_dir": source.parent}
    run = do_run(output_dir=tmp_path / "run", num_train_epochs=2, **options)
    assert all(np.isfinite(logged(tmp_path / "run", "eval_loss")))
    score = next(item for item in RunFolder(tmp_path / "run").read_results()["scores"] if item["split"] == "dev")
    assert score["reference_tokens"] == 14 + 40 + 2 and score["deletions"] >= 39 + 1
    assert run.trainer.state.global_step == 12


def test_only_infeasible_labels_are_left_out_of_the_loss() -> None:
    labels = torch.tensor([[1, 2, -100], [1, 1, -100], [1, 2, 3], [-100, -100, -100]])
    output = CTCOutput(logits=torch.zeros(4, 3, 5), logit_lengths=torch.tensor([2, 2, 3, 0]))
    kept = without_infeasible({"labels": labels, "ids": ["a", "b", "c", "d"]}, output)
    assert kept["labels"].tolist() == [[1, 2, -100], [-100] * 3, [1, 2, 3], [-100] * 3]
    assert kept["ids"] == ["a", "b", "c", "d"] and labels[1, 0] == 1


def test_frames_beyond_an_utterance_are_no_labels() -> None:
    logits = torch.zeros(2, 3, 4)
    logits[:, :, 2] = 1.0
    best = best_labels(CTCOutput(logits=logits, logit_lengths=torch.tensor([3, 1])))
    assert best.tolist() == [[2, 2, 2], [2, -100, -100]]


def test_attention_decoding_wants_a_decoder(speech: Path, tmp_path: Path) -> None:
    run = assemble(data_dir=speech, output_dir=tmp_path)
    with pytest.raises(UserError, match=r"\(bilstm_ctc\) has no attention decoder.*--decoder greedy or beam"):
        attention_decoding(run.processor, ScoreArguments(), run.student)
