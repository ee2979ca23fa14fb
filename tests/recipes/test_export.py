"""`recipes/export.py` on a run: it checks what it writes, and leaves nothing where the check fails."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recipe_runs import REPOSITORY, Refuse, done, run

from kd_asr_slr.processing.auto import load_processor

pytestmark = pytest.mark.slow


def test_onnx_is_checked_and_runs_without_torch(feature_run: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    target = tmp_path / "student.onnx"
    shown = done(run("export", run=feature_run, output=target, utterances=4)).out
    assert float(re.search(r"largest difference (\S+)", shown)[1]) <= 1e-4
    assert re.search(r"WER (\S+) % -> \1 %", shown) and "frames a second" in shown
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    features, mask = (item.name for item in session.get_inputs())
    width = session.get_inputs()[0].shape[2]
    for frames in (7, 30):
        inputs = {features: np.zeros((1, frames, width), np.float32), mask: np.ones((1, frames), np.int64)}
        logits, lengths = session.run(None, inputs)
        assert logits.shape[:2] == (1, lengths[0])
    small = done(run("export", run=feature_run, format="int8", output=tmp_path / "small.onnx", wer_change=1)).out
    assert "of the float32 weights" in small


def test_what_differs_is_refused_and_not_written(feature_run: Path, refuse: Refuse, tmp_path: Path) -> None:
    refuse("export", "log-probabilities differ by", run=feature_run, tolerance=0, output=tmp_path / "student.onnx")


def test_the_example_reads_what_the_run_read_without_torch(feature_run: Path, features: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    target = feature_run / "student.onnx"  # where the recipe puts it, and beside vocab.json
    done(run("export", run=feature_run))
    rows = [json.loads(line) for line in (feature_run / "predictions-test.jsonl").read_text().splitlines()]
    extractor = load_processor(feature_run).feature_extractor
    paths = []
    for row in rows:
        paths.append(tmp_path / f"{row['id']}.npy")
        with np.load(features.parent / "npz" / f"{row['id']}.npz") as stored:
            np.save(paths[-1], extractor.extract(stored["features"]))
    example = REPOSITORY / "docs" / "examples" / "recognise_onnx.py"
    absent = "import runpy, sys; sys.modules.update(torch=None, transformers=None, kd_asr_slr=None)"
    program = f"{absent}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    shown = subprocess.run(
        [sys.executable, "-c", program, example, target, *paths], capture_output=True, text=True, check=True
    ).stdout
    target.unlink()
    assert shown.splitlines() == [f"{path}\t{row['hypothesis']}" for path, row in zip(paths, rows, strict=True)]
    assert len({row["hypothesis"] for row in rows}) > 1
