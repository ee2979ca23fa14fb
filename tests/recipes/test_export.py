"""`recipes/export.py` on a run: it checks what it writes, and leaves nothing where the check fails."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from recipe_runs import Refuse, done, run

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
