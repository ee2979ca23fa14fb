"""Every declared table of runs in configs/: each row parses with its recipe, and uses only what rows above it make."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml
from test_configs import EVERYTHING, REPOSITORY, classes_of

from kd_asr_slr.command_line import parse
from kd_asr_slr.training.experiment import read_experiment

EXPERIMENTS = [path for path in EVERYTHING if "recipes/experiment.py" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=[str(path.relative_to(REPOSITORY)) for path in EXPERIMENTS])
def test_rows_parse_and_build_on_the_rows_above(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(REPOSITORY / "recipes" / "experiment.py")])
    made: set[str] = set()
    for name, runs in read_experiment(path).items():
        for run in runs:
            used = set(re.findall(rf"{re.escape(str(run.folder.parent))}/([\w-]+-seed\d+)", str(run.options)))
            assert used - {run.folder.name} <= made, name
        config = tmp_path / f"{name}.yaml"
        config.write_text(yaml.safe_dump(dict(runs[0].options)))
        arguments = parse(classes_of(runs[0].recipe), ["--config", str(config)])
        assert [item.output_dir for item in arguments if hasattr(item, "output_dir")] == [str(runs[0].folder)]
        made |= {run.folder.name for run in runs}
    assert made
