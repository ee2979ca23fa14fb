"""The package as it is imported and asked for help: light, quick, and complete."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import kd_asr_slr
import kd_asr_slr.arguments
import kd_asr_slr.tool_arguments

RECIPES = {"train", "distill", "cache_teachers", "score", "compare", "report", "prepare_data", "overfit", "estimate_lm"}
RECIPES |= {"experiment", "adapt_teachers", "export", "push", "recognise", "stream"}
HELP_SECONDS = 15  # under 6 on two free cores; a test machine is shared


def python(*words: str, repository: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=repository, capture_output=True, text=True, timeout=120, check=False
    )


def test_importing_the_package_imports_nothing_heavy(repository: Path) -> None:
    program = "import sys, kd_asr_slr; print(sorted({'torch', 'nemo', 'transformers', 'datasets'} & set(sys.modules)))"
    result = python("-c", program, repository=repository)
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, "[]", "")


@pytest.mark.slow
def test_training_and_scoring_import_no_nemo(repository: Path) -> None:
    modules = "kd_asr_slr.training.session, kd_asr_slr.training.preflight, kd_asr_slr.training.caching"
    program = f"import sys, {modules}; print(sorted({{'nemo', 'pyctcdecode', 'kenlm', 'librosa'}} & set(sys.modules)))"
    result = python("-c", program, repository=repository)
    assert (result.returncode, result.stdout.strip()) == (0, "[]"), result.stderr


def test_every_recipe_is_known_here(repository: Path) -> None:
    assert {path.stem for path in (repository / "recipes").glob("*.py")} == RECIPES


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["distill", "compare"])
def test_help_is_quick(recipe: str, repository: Path) -> None:
    began = time.monotonic()
    result = python(f"recipes/{recipe}.py", "--help", repository=repository)
    seconds = time.monotonic() - began
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: ") and "Traceback" not in result.stderr
    assert seconds < HELP_SECONDS


def test_every_option_of_ours_has_a_help_text() -> None:
    rooms = {**vars(kd_asr_slr.arguments), **vars(kd_asr_slr.tool_arguments)}
    classes = [item for item in rooms.values() if hasattr(item, "problems")]
    assert len(classes) == 11
    for cls in classes:
        own = set(cls.__annotations__)
        lacking = [item.name for item in dataclasses.fields(cls) if item.name in own and not item.metadata.get("help")]
        assert not lacking, f"{cls.__name__} has no help for {lacking}"


def test_pyproject_is_short_and_the_version_is_one(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    assert "project" not in project  # setup.cfg is the one place of the metadata
    assert kd_asr_slr.__version__.count(".") == 2
