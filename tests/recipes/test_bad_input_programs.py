"""Bad input to real programs: the control of the tests that run in process."""

from __future__ import annotations

from pathlib import Path

import pytest
from recipe_runs import (
    SPEECH,
    TRAINING,
    distillation,
    finished,
    refused,
    snapshot,
    start,
)

# -- the same, as programs -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_programs_end_with_code_2_and_one_message(speech: Path, speech_run: Path, copied: Path, tmp_path: Path) -> None:
    """The control: real programs, side by side, with real exit codes and streams."""
    out = tmp_path / "out"
    (copied.parent / "wav" / "anna-SIX-train1.wav").write_bytes(b"")
    before = snapshot(tmp_path)
    distil = distillation(speech, speech_run, out) | {"teachers": [tmp_path / "nowhere"]}
    programs = [
        (start("distill", **distil), "train this teacher first"),
        (start("score", run=speech_run, split="tset"), "no split 'tset'"),
        (start("compare", tmp_path / "nowhere"), "there is no folder"),
    ]
    for process, part in programs:
        result = finished(process)
        refused(result, part)
        assert result.out == ""
    assert snapshot(tmp_path) == before


@pytest.mark.slow
def test_two_processes_refuse_as_one_does(speech: Path, copied: Path, tmp_path: Path) -> None:
    (copied.parent / "wav" / "anna-SIX-train1.wav").write_bytes(b"")
    before = snapshot(tmp_path)
    result = finished(start("train", manifest=copied, output_dir=tmp_path / "out", processes=2, **SPEECH, **TRAINING))
    assert result.code != 0  # torchrun's own code
    assert "error: " in result.err and "0 bytes" in result.err
    assert "UserError" not in result.err
    assert snapshot(tmp_path) == before
