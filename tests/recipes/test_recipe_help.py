"""`--help` of every recipe lists every option, and touches nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from recipe_runs import done, run

from kd_asr_slr.arguments import DataArguments, DistillationArguments, ModelArguments, TeacherArguments
from kd_asr_slr.tool_arguments import (
    AdaptationArguments,
    LmArguments,
    OverfitArguments,
    PrepareArguments,
    ScoreArguments,
)

TRAINING = (DataArguments, ModelArguments, DistillationArguments)
CLASSES = {
    "train": TRAINING,
    "distill": (*TRAINING, TeacherArguments),
    "adapt_teachers": (*TRAINING, AdaptationArguments),
    "cache_teachers": (*TRAINING, TeacherArguments),
    "score": (ScoreArguments,),
    "estimate_lm": (LmArguments,),
    "prepare_data": (DataArguments, PrepareArguments),
    "overfit": (DataArguments, ModelArguments, DistillationArguments, OverfitArguments),
}


@pytest.mark.parametrize("recipe", CLASSES)
def test_help_lists_every_option(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for flag in ("--help", "-h"):
        shown = done(run(recipe, flag)).out
        assert shown.startswith("usage: ") and "--config" in shown
        words = set(shown.replace(",", " ").split())
        names = [item.name for cls in CLASSES[recipe] for item in dataclasses.fields(cls) if item.init]
        assert [name for name in names if f"--{name}" not in words] == []
    assert not list(tmp_path.iterdir())


def test_help_of_compare() -> None:
    shown = done(run("compare", "--help")).out
    assert all(option in shown for option in ("RUN", "--split", "--decoder", "--baseline", "--overview", "--output"))
