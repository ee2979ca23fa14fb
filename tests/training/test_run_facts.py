"""What a run leaves behind besides its rates: what was known of each utterance, seen words, cost, labels."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_runs import TRAINED, do_run
from transformers import TrainerState

from kd_asr_slr.processing.auto import load_processor
from kd_asr_slr.processing.tokenization import fingerprint_of
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.training.evaluation import prediction_of, with_seen
from kd_asr_slr.training.run_facts import cost_of

ROW = {"id": "u1", "speaker": "uaspeech/F03", "text": "ALPHA", "audio": "a.wav"}


def test_a_prediction_carries_what_the_corpus_knows() -> None:
    known = {"utterance": "F03_B2_LA", "band": "low", "category": "letter", "block": "B2", "microphone": "M5"}
    known |= {"intelligibility": 6.0}
    row = prediction_of({**ROW, **known, "gender": "f"}, "BRAVO")
    assert row == {"id": "u1", "speaker": "uaspeech/F03", "reference": "ALPHA", "hypothesis": "BRAVO", **known}
    bare = prediction_of({**ROW, "band": None}, "BRAVO")
    assert set(bare) == {"id", "speaker", "reference", "hypothesis"}


def test_seen_means_that_the_text_was_trained_on() -> None:
    predictions = [prediction_of({**ROW, "text": text}, "X") for text in ("ALPHA", "BRAVO", "ALPHA BRAVO")]
    assert [row["seen"] for row in with_seen(predictions, ["ALPHA", "BRAVO CHARLIE", "BRAVO"])] == [True, True, False]


def test_the_cost_is_the_trainers_own() -> None:
    log = [{"loss": 1.0, "epoch": 1.0}, {"train_runtime": 3.5, "epoch": 2.0}]
    state = TrainerState(epoch=2.0, global_step=12, log_history=log)
    assert cost_of(state, resumed=False) == {"epochs": 2.0, "steps": 12, "seconds": 3.5}
    assert cost_of(state, resumed=True)["seconds"] is None
    assert cost_of(TrainerState(epoch=1.0, global_step=6), resumed=False)["seconds"] is None


def test_a_run_says_its_cost_and_its_labels(speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "student"
    do_run(data_dir=speech, output_dir=folder, num_train_epochs=2)
    results = RunFolder(folder).read_results()
    assert results["training"]["epochs"] == 2.0
    assert results["training"]["steps"] == 2 * TRAINED // 4
    assert 0 < results["training"]["seconds"] < 600
    processor = load_processor(folder)
    assert results["vocabulary"] == {
        "size": len(processor.tokens),
        "fingerprint": fingerprint_of(processor.tokens, processor.blank_id),
    }
    for score in results["scores"]:
        assert list(score["by_seen"]) == ["seen"]
    assert all(row["seen"] for row in RunFolder(folder).read_predictions("test"))
    assert "Verdict" not in capsys.readouterr().out  # nobody was held out
