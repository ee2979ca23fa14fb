"""Curves: what the log says is what is drawn, and the files are of the promised size."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
from PIL import Image

from kd_asr_slr.errors import UserError
from kd_asr_slr.reporting.curves import draw_curves, overview_lines, write_curves
from kd_asr_slr.reporting.history import best, loss_names, read_history, series, write_history

WER = [0.9, 0.4, 0.35, 0.35, 0.6]


def log_of_a_run() -> list[dict[str, float]]:
    """As transformers' Trainer keeps it: a training and an evaluation record an epoch, a summary at the end."""
    records = []
    for epoch, wer in enumerate(WER, 1):
        records.append({
            "loss": 3.0 / epoch, "loss_ctc": 2.0 / epoch, "loss_ctc_kd": 1.0 / epoch, "temperature": 4.0 - (epoch > 3),
            "valid_frame_ratio": 0.25, "learning_rate": 1e-4 * (5 - epoch), "grad_norm": 1.0,
            "epoch": float(epoch), "step": 10 * epoch,
        })  # fmt: skip
        records.append({"eval_loss": 2.5 / epoch, "eval_wer": wer, "eval_wra": 1 - wer, "epoch": float(epoch)})
    return [*records, {"train_loss": 1.1, "train_runtime": 9.0, "epoch": 5.0, "step": 50}]


def test_series_and_best():
    log = log_of_a_run()
    assert series(log, "eval_wer") == list(zip([1.0, 2.0, 3.0, 4.0, 5.0], WER, strict=True))
    assert best(series(log, "eval_wer")) == (3.0, 0.35)  # the earliest of equals
    assert best([]) is None
    assert loss_names(log) == ["loss", "loss_ctc", "loss_ctc_kd", "eval_loss"]  # not the summary's train_loss


def test_what_is_no_number_is_left_out():
    log = [{"epoch": 1.0, "loss": math.nan}, {"epoch": 2.0, "loss": 1.0}, {"epoch": 3.0, "loss": math.inf}]
    assert series(log, "loss") == [(2.0, 1.0)]


def test_overview_says_what_the_log_says():
    lines = dict(overview_lines(log_of_a_run(), {"parameters": "10"}))
    assert lines == {
        "best WER": "35.00 % (epoch 3)",
        "last WER": "60.00 % (epoch 5)",
        "best WRA": "65.00 % (epoch 3)",
        "epochs": "5",
        "steps": "50",
        "parameters": "10",
        "frames in KD": "25.0 % of the valid ones",
    }


def test_the_page_is_300_dpi_and_not_empty(make_run):
    run = make_run()
    (run.path / "trainer_state.json").write_text(json.dumps({"log_history": log_of_a_run()}))
    png, pdf, history = write_curves(run, target_wer=0.3)
    assert [file.name for file in (png, pdf, history)] == ["training_curves.png", "training_curves.pdf", "history.json"]
    with Image.open(png) as image:
        assert image.size == (3300, 2400)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        pixels = np.asarray(image.convert("L"))
    for rows in (pixels[:1200], pixels[1200:]):  # something is drawn in each of the four quarters
        for quarter in (rows[:, :1650], rows[:, 1650:]):
            assert 0.005 < (quarter < 200).mean() < 0.5
    assert pdf.read_bytes().startswith(b"%PDF")
    assert len(pdf.read_bytes()) > 10_000
    assert json.loads(history.read_text()) == log_of_a_run()
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_a_short_or_empty_log_is_drawn_too(tmp_path):
    for records in ([], [{"loss": 1.0, "epoch": 0.5, "learning_rate": 0.0}], log_of_a_run()[:1]):
        for file in draw_curves(records, tmp_path):
            assert file.stat().st_size > 5_000
    assert sorted(file.name for file in tmp_path.iterdir()) == ["training_curves.pdf", "training_curves.png"]


def test_the_log_is_found_in_the_last_complete_checkpoint(tmp_path):
    for step, content in ((10, {"log_history": [{"epoch": 1.0}]}), (20, {"log_history": [{"epoch": 2.0}]})):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps(content))
    (tmp_path / "checkpoint-30").mkdir()
    assert read_history(tmp_path) == [{"epoch": 2.0}]


def test_the_log_of_every_evaluation_wins_over_that_of_a_checkpoint(tmp_path):
    (tmp_path / "checkpoint-10").mkdir()
    (tmp_path / "checkpoint-10" / "trainer_state.json").write_text('{"log_history": [{"epoch": 1.0}]}')
    write_history([{"epoch": 1.0}, {"epoch": 2.0}], tmp_path)
    assert [record["epoch"] for record in read_history(tmp_path)] == [1.0, 2.0]


def test_history_survives_a_loss_that_is_no_number(tmp_path):
    write_history([{"epoch": 1.0, "loss": math.nan, "eval_wer": np.float64(0.5)}], tmp_path)
    assert read_history(tmp_path) == [{"epoch": 1.0, "loss": None, "eval_wer": 0.5}]


def test_missing_and_foreign_logs_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is no training log"):
        read_history(tmp_path)
    (tmp_path / "trainer_state.json").write_text('{"epoch": 3}')
    with pytest.raises(UserError, match="has no log_history"):
        read_history(tmp_path)
