"""Modules as files that need the package no more: complete, relative, importable, and refused where they cannot be."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_imports, get_relative_import_files

from kd_asr_slr.hub import travelling
from kd_asr_slr.hub.travelling import flat_name, imported_modules, travelling_files
from kd_asr_slr.models.auto import MODELS
from kd_asr_slr.processing.auto import PROCESSORS, TOKENIZERS

ROOTS = {name: entry.model.partition(":")[0] for name, entry in MODELS.items()}
ROOTS |= {name: processor.__module__ for name, (_, processor) in PROCESSORS.items()}
ROOTS |= {tokenizer.__name__: tokenizer.__module__ for tokenizer in TOKENIZERS}


def written(modules: list[str], folder: Path) -> Path:
    folder.mkdir()
    for name, source in travelling_files(modules).items():
        (folder / name).write_text(source, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ROOTS)
def test_the_files_are_complete_and_transformers_finds_them_all(name, tmp_path):
    folder = written([ROOTS[name]], tmp_path / "code")
    entry = folder / f"{flat_name(ROOTS[name])}.py"
    assert {Path(file) for file in get_relative_import_files(entry)} | {entry} == set(folder.iterdir())
    for file in folder.iterdir():
        assert "kd_asr_slr" not in get_imports(file), file
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), "the comment above must leave the docstring a docstring"


@pytest.mark.parametrize("name", ["bilstm", "sign", "LabelTokenizer"])
def test_the_files_are_imported_as_a_package_of_another_name(name, tmp_path, monkeypatch):
    folder = written([ROOTS[name]], tmp_path / f"elsewhere_{name.lower()}")
    monkeypatch.syspath_prepend(tmp_path)
    found = importlib.import_module(f"{folder.name}.{flat_name(ROOTS[name])}")
    ours = importlib.import_module(ROOTS[name])
    classes = [key for key, value in vars(ours).items() if isinstance(value, type) and value.__module__ == ROOTS[name]]
    assert classes and all(vars(found)[key].__module__ == found.__name__ for key in classes)
    loaded = [name for name in sys.modules if name.startswith(folder.name)]
    assert {key.rpartition(".")[2] for key in loaded} - {folder.name} == {file.stem for file in folder.glob("*.py")}


def test_the_code_itself_stays_as_it_is():
    """But for its imports of the package, and the comment in front."""
    module = "kd_asr_slr.models.parts.recogniser"
    ours = Path(importlib.import_module(module).__file__).read_text(encoding="utf-8").splitlines()
    theirs = travelling_files([module])["kd_asr_slr_recogniser.py"].splitlines()[1:]
    changed = [(one, other) for one, other in zip(ours, theirs, strict=True) if one != other]
    assert ("from kd_asr_slr.outputs import CTCOutput", "from .kd_asr_slr_outputs import CTCOutput") in changed
    assert all(one.startswith("from kd_asr_slr.") and other.startswith("from .") for one, other in changed)


def sources(monkeypatch, **texts: str) -> None:
    """Sources by module name (double underscore for a dot) in place of the package's own."""
    named = {name.replace("__", "."): text for name, text in texts.items()}
    monkeypatch.setattr(travelling, "_source_of", lambda module: named[module])
    monkeypatch.setattr(travelling, "_split", lambda node: [(node.module, None)])


def test_two_files_of_one_name_are_refused(monkeypatch):
    sources(monkeypatch, a__blocks="from kd_asr_slr.b.blocks import x\n", kd_asr_slr__b__blocks="x = 1\n")
    with pytest.raises(ValueError, match=r"a\.blocks and kd_asr_slr\.b\.blocks would both be kd_asr_slr_blocks\.py"):
        travelling_files(["a.blocks"])


def test_imports_of_several_lines_of_modules_and_within_functions():
    source = (
        "from kd_asr_slr.models.parts.frames import (\n    silence,\n    valid_frames as valid,\n)\n"
        "from kd_asr_slr.processing import landmarks, layouts as points\n"
        "def f():\n    from kd_asr_slr.errors import UserError\n    return UserError\n"
    )
    names = ["models.parts.frames", "processing.landmarks", "processing.layouts", "errors"]
    assert imported_modules(source) == [f"kd_asr_slr.{name}" for name in names]
    assert travelling._made_relative(source) == (
        "from .kd_asr_slr_frames import silence, valid_frames as valid\n"
        "from .kd_asr_slr_landmarks import __name__ as _\n"
        "from . import kd_asr_slr_landmarks as landmarks\n"
        "from .kd_asr_slr_layouts import __name__ as _\n"
        "from . import kd_asr_slr_layouts as points\n"
        "def f():\n    from .kd_asr_slr_errors import UserError\n    return UserError\n"
    )


def test_what_cannot_be_made_relative_is_refused():
    with pytest.raises(ValueError, match="line 2: write 'from"):
        imported_modules("import os\nimport kd_asr_slr.errors\n")
    with pytest.raises(ValueError, match="kd_asr_slr.arguments is a package"):
        travelling_files(["kd_asr_slr.arguments"])
    with pytest.raises(ValueError, match="no source of kd_asr_slr.nothing"):
        travelling_files(["kd_asr_slr.nothing"])
