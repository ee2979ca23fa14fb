"""The source distribution and the wheel: built as a packager does, looked into, and used from an empty folder."""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import kd_asr_slr
from kd_asr_slr import installation

VERSION = f"kd_asr_slr-{kd_asr_slr.__version__}"
NOT_SOURCES = (".*", "__pycache__", "runs", "results", "data", "build", "dist", "*.egg-info", "reference", "htmlcov")
USE = """
import kd_asr_slr
from kd_asr_slr.scoring.metrics import load_metric
print(kd_asr_slr.__file__)
print(load_metric("wer", source="package").compute(predictions=["a b"], references=["a c"]))
"""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Built:
    """A copy of the sources and what was built of it.

    Attributes:
        sources: paths of the sources' files, from their root.
        sdist: paths in the source distribution, from its root.
        wheel: paths in the wheel.
        file: the wheel.
    """

    sources: set[str]
    sdist: set[str]
    wheel: set[str]
    file: Path


@pytest.fixture(scope="module")
def built(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Source distribution, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("distributions")
    copy = folder / "sources"
    shutil.copytree(repository, copy, ignore=shutil.ignore_patterns(*NOT_SOURCES))
    sources = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(copy)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with tarfile.open(folder / f"{VERSION}.tar.gz") as archive:
        sdist = {item.name.partition("/")[2] for item in archive if item.isfile()}
    wheel = folder / f"{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        return Built(sources, sdist, set(archive.namelist()), wheel)


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of packages in which the wheel, and nothing else, is installed."""
    prefix = tmp_path_factory.mktemp("installed")
    # Without --ignore-installed pip would first take the package that these tests run in out of its own environment.
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--ignore-installed", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--prefix", str(prefix), str(built.file)], check=True, timeout=120)
    (folder,) = prefix.rglob("site-packages")
    return folder


def python(*words: str, installed: Path, folder: Path) -> str:
    """What a program prints that sees the installed package before any other."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_source_distribution_has_every_source_and_nothing_else(built: Built) -> None:
    made = {"PKG-INFO", *(path for path in built.sdist if path.startswith("kd_asr_slr.egg-info/"))}
    assert built.sdist - made == built.sources


def test_the_wheel_has_the_package_configs_and_recipes(built: Built) -> None:
    share = f"{VERSION}.data/data/share/kd_asr_slr"
    wanted = {path for path in built.sources if path.startswith("kd_asr_slr/")}
    wanted |= {f"{share}/{path}" for path in built.sources if path.startswith(("configs/", "recipes/"))}
    assert {path for path in built.wheel if ".dist-info/" not in path} == wanted
    assert "kd_asr_slr/py.typed" in wanted and f"{share}/configs/demo/speech_student.yaml" in wanted
    assert {"kd_asr_slr/scoring/metrics/wer/wer.py", "kd_asr_slr/reporting/html_report/report.css"} <= wanted


def test_the_wheel_asks_for_what_setup_cfg_says(built: Built) -> None:
    with zipfile.ZipFile(built.file) as archive:
        metadata = email.message_from_bytes(archive.read(f"{VERSION}.dist-info/METADATA"))
    found = {Requirement(text.partition(";")[0]) for text in metadata.get_all("Requires-Dist", [])}
    assert found == {item for items in installation.requirements().values() for item in items}


def test_the_installed_package_works_in_an_empty_folder(installed: Path, repository: Path, tmp_path: Path) -> None:
    about = ("-m", "kd_asr_slr")
    assert python(*about, "--version", installed=installed, folder=tmp_path) == f"kd_asr_slr {kd_asr_slr.__version__}\n"
    where, rate = python("-c", USE, installed=installed, folder=tmp_path).splitlines()
    assert Path(where).is_relative_to(installed) and float(rate) == 0.5
    assert python(*about, "--doctor", installed=installed, folder=tmp_path).splitlines()[-1].startswith("ready")
    for name in ("configs", "recipes"):
        folder = Path(python(*about, f"--{name}", installed=installed, folder=tmp_path).strip())
        assert folder.is_relative_to(installed.parents[2])
        pattern = "*/*.yaml" if name == "configs" else "*.py"
        files = sorted((repository / name).glob(pattern))
        assert [path.read_bytes() for path in sorted(folder.glob(pattern))] == [path.read_bytes() for path in files]
