"""`recipes/export.py` on a run: it checks what it writes, and leaves nothing where the check fails."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recipe_runs import RATE, REPOSITORY, Refuse, done, run

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


def example(name: str, *words: Path) -> str:
    """What an example of the documentation prints, in a Python that has no torch."""
    absent = "import runpy, sys; sys.modules.update(torch=None, transformers=None, kd_asr_slr=None)"
    program = f"{absent}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    path = REPOSITORY / "docs" / "examples" / f"{name}.py"
    line = [sys.executable, "-c", program, path, *words]
    found = subprocess.run(line, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.parametrize("kind", ["onnx", "int8", "torch_export"])
def test_a_hybrid_is_exported_from_its_features_on(hybrid_run: Path, kind: str, tmp_path: Path) -> None:
    result = done(run("export", run=hybrid_run, format=kind, output=tmp_path / "student", wer_change=0.2))
    assert json.loads((hybrid_run / "config.json").read_text())["sampling_rate"] == RATE  # that of the recordings
    difference = float(re.search(r"largest difference (\S+)", result.out)[1])
    assert difference <= (0.5 if kind == "int8" else 1e-4)
    assert "log-mel features, 200 frames at most" in result.out and result.out.startswith(f"{tmp_path}/student  ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["student", "student-features.npz"]


def test_the_examples_go_from_a_recording_to_a_hybrids_words(hybrid_run: Path, speech: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    expected = {}
    for row in map(json.loads, (hybrid_run / "predictions-test.jsonl").read_text().splitlines()):
        name = row["id"].rpartition("/")[2]
        shutil.copy(speech.parent / "wav" / f"{name}.wav", tmp_path)
        expected[str(tmp_path / f"{name}.npy")] = row["hypothesis"]
    done(run("export", run=hybrid_run, output=tmp_path / "student.onnx"))
    for name in ("vocab.json", "tokenizer_config.json"):
        shutil.copy(hybrid_run / name, tmp_path)
    example("mel_features", tmp_path / "student-features.npz", *sorted(tmp_path.glob("*.wav")))
    shown = example("recognise_onnx", tmp_path / "student.onnx", *map(Path, expected))
    assert dict(line.split("\t") for line in shown.splitlines()) == expected
    assert len(set(expected.values())) > 2


def test_what_a_format_cannot_hold_is_said_in_one_sentence(refuse: Refuse, feature_run: Path, tmp_path: Path) -> None:
    message = refuse(
        "export", "unrolls aten::lstm to a fixed length", "--format onnx",
        run=feature_run, format="torch_export", output=tmp_path / "student.pt2",
    )  # fmt: skip
    assert message.count("\n") == 1


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
    shown = example("recognise_onnx", target, *paths)
    target.unlink()
    assert shown.splitlines() == [f"{path}\t{row['hypothesis']}" for path, row in zip(paths, rows, strict=True)]
    assert len({row["hypothesis"] for row in rows}) > 1
