"""`python -m kd_asr_slr`: the version at once, and a doctor who sees what is missing and who needs it."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import kd_asr_slr
from kd_asr_slr import installation

# What is imported of the packages that only some of the work needs.
MODULES = {
    "nemo_toolkit": "nemo", "pyctcdecode": "pyctcdecode", "kenlm": "kenlm", "pose-format": "pose_format",
    "xlrd": "xlrd", "jinja2": "jinja2",
}  # fmt: skip
WITHOUT = """
import runpy, sys
sys.modules.update(dict.fromkeys({modules}))  # importing them fails
sys.path.insert(0, {repository!r})
for recipe, *words in {commands}:
    sys.argv = [recipe, *words]
    runpy.run_path({repository!r} + f"/recipes/{{recipe}}.py", run_name="__main__")
"""


def run(*words: str, folder: Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    environment = {
        "PYTHONPATH": str(Path(kd_asr_slr.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    return subprocess.run(
        [python, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Versions that are found instead of those installed; None: not installed."""
    told: dict[str, str | None] = {}
    real = metadata.version

    def version(name: str) -> str:
        found = told[name] if name in told else real(name)
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(metadata, "version", version)
    return told


def line_of(name: str, lines: list[str]) -> str:
    (line,) = (line for line in lines if line.split()[:1] == [name])
    return line


def test_the_version_comes_at_once_and_imports_nothing(tmp_path: Path) -> None:
    seconds = []
    for _ in range(3):  # the machine is shared
        began = time.monotonic()
        result = run("-X", "importtime", "-m", "kd_asr_slr", "--version", folder=tmp_path)
        seconds.append(time.monotonic() - began)
    assert (result.returncode, result.stdout) == (0, f"kd_asr_slr {kd_asr_slr.__version__}\n")
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in result.stderr.splitlines()}
    assert not imported & {"torch", "transformers", "numpy", "tqdm", "packaging"}
    assert min(seconds) < 1


@pytest.mark.slow
def test_the_doctor_finds_this_environment_ready(tmp_path: Path) -> None:
    result = run("-m", "kd_asr_slr", "--doctor", folder=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert lines[-1].startswith("ready") and any(line.startswith("device: cpu") for line in lines)
    for name in ("torch", "transformers", "nemo_toolkit", "pose-format"):
        assert line_of(name, lines).split()[1] == metadata.version(name)


def test_an_empty_environment_gets_a_sentence_and_no_traceback(tmp_path: Path) -> None:
    result = run("-S", "-m", "kd_asr_slr", "--doctor", folder=tmp_path)  # -S: without site-packages
    assert (result.returncode, result.stderr) == (2, "")
    assert result.stdout.splitlines()[-1].startswith("not ready: packaging is not installed. To fix it: pip install")


def test_what_every_recipe_needs_decides(versions: dict[str, str | None]) -> None:
    versions |= {"transformers": "5.19.2", "soxr": None}
    lines, ready = installation.diagnose()
    assert not ready
    assert line_of("transformers", lines).endswith("<- not in this range") and "5.19.2" in line_of(
        "transformers", lines
    )
    assert "missing" in line_of("soxr", lines)
    assert lines[-1] == "not ready. To fix it: pip install 'transformers>=5.20,<6' 'soxr>=0.5'"


def test_what_only_some_need_does_not(versions: dict[str, str | None]) -> None:
    versions |= {"nemo_toolkit": None, "onnxruntime": None, "wandb": None, "trackio": "0.30"}
    lines, ready = installation.diagnose()
    assert ready
    assert "missing" in line_of("nemo_toolkit", lines) and "--model nemo_hybrid" in line_of("nemo_toolkit", lines)
    (extra,) = (line for line in lines if line.startswith("extra export"))
    assert "recipes/export.py" in extra and extra.endswith("lacks 1 of 2; pip install 'onnxruntime>=1.20'")
    (loggers,) = (line for line in lines if line.startswith("--report_to"))
    assert "trackio 0.30" in loggers and "wandb" not in loggers


def test_local_and_development_versions_are_in_their_range(versions: dict[str, str | None]) -> None:
    versions |= {"torch": "2.13.0+cu130", "accelerate": "1.16.0.dev0", "numpy": "2.0.0"}
    fits = {name: installation.inspect(Requirement(text)).fits for name, text in (
        ("torch", "torch>=2.6"), ("accelerate", "accelerate>=1.12"), ("numpy", "numpy>=1.26,<2")
    )}  # fmt: skip
    assert fits == {"torch": True, "accelerate": True, "numpy": False}


def test_every_purpose_belongs_to_something_that_is_asked_for() -> None:
    asked = installation.requirements()
    assert set(installation.PURPOSES) <= {item.name for item in asked[""]}
    assert set(installation.EXTRAS) == set(asked) - {""}
    assert set(MODULES) == set(installation.PURPOSES)


@pytest.mark.slow
def test_the_core_recipes_run_without_what_is_said_not_to_be_needed(tmp_path: Path) -> None:
    train = [
        "train", "--output_dir", "run", "--corpus", "synthetic_speech", "--data_dir", "data", "--model", "bilstm",
        "--corpus_options", '{"speakers": 2, "words": 3, "takes": {"train": 2, "dev": 1, "test": 1}, "seed": 1}',
        "--model_options", '{"hidden_size": 8, "num_layers": 1, "stride": 4}', "--num_train_epochs", "1",
        "--use_cpu", "true",
    ]  # fmt: skip
    distill = [*train, "--teachers", "run", "--allow_worse_teacher", "true", "--preflight_batches", "0"]
    distill[0], distill[2] = "distill", "student"
    commands = [train, distill, ["score", "--run", "student", "--split", "dev"]]
    program = WITHOUT.format(
        modules=list(MODULES.values()), repository=str(Path(__file__).resolve().parents[1]), commands=commands
    )
    result = run("-c", program, folder=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "student" / "results.json").is_file()
