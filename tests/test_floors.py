"""The floors of the house: a module imports from lower floors, or from its own room."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = "kd_asr_slr"
FLOORS = {
    "errors": 0, "outputs": 0, "blocks": 0, "text": 0, "glosses": 0, "files": 0, "hub_names": 0, "progress": 0,
    "arguments": 0, "tool_arguments": 0, "command_line": 0, "yaml_options": 0, "stages": 0, "kernels": 0,
    "installation": 0,
    "corpora": 1, "processing": 1, "models": 1, "decoding": 1, "scoring": 1,
    "teachers": 2, "losses": 2, "reporting": 2,
    "export": 3, "hub": 3,
    "training": 4,
    "recognition": 5,
}  # fmt: skip
WITHOUT_TORCH = ("decoding", "scoring", "reporting")
LAZY_EVERYWHERE = ("nemo", "onnxruntime", "pyctcdecode", "kenlm", "matplotlib", "librosa")


def modules(repository: Path) -> list[Path]:
    return sorted((repository / PACKAGE).rglob("*.py"))


def imports(tree: ast.AST) -> set[str]:
    """Dotted names of everything imported below `tree`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level > 0:
            names.add(f"relative import, line {node.lineno}")
    return names


def top_level_imports(tree: ast.Module) -> set[str]:
    """Names imported when the module is, leaving out functions and `if TYPE_CHECKING`."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= imports(ast.Module(body=[node], type_ignores=[]))
    return names


def room_of(path: Path, repository: Path) -> str:
    return path.relative_to(repository / PACKAGE).parts[0].removesuffix(".py")


def test_every_room_has_a_floor(repository: Path) -> None:
    rooms = {room_of(path, repository) for path in modules(repository)} - {"__init__", "__main__"}
    assert rooms <= set(FLOORS), f"no floor for {rooms - set(FLOORS)}"


def test_imports_point_downwards(repository: Path) -> None:
    wrong = []
    for path in modules(repository):
        room = room_of(path, repository)
        for name in imports(ast.parse(path.read_text(encoding="utf-8"))):
            if name.startswith("relative"):
                wrong.append(f"{path}: {name}")
            parts = name.split(".")
            if parts[0] != PACKAGE or len(parts) < 2 or room.startswith("__"):
                continue
            other = parts[1]
            if other in FLOORS and other != room and FLOORS[other] >= FLOORS[room] and FLOORS[room] > 0:
                wrong.append(
                    f"{path.relative_to(repository)} (floor {FLOORS[room]}) imports {name} (floor {FLOORS[other]})"
                )
            if FLOORS[room] == 0 and other in FLOORS and FLOORS[other] > 0:
                wrong.append(f"{path.relative_to(repository)} (floor 0) imports {name}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_no_torch_in(room: str, repository: Path) -> None:
    for path in sorted((repository / PACKAGE / room).rglob("*.py")):
        roots = {name.split(".")[0] for name in imports(ast.parse(path.read_text(encoding="utf-8")))}
        assert not roots & {"torch", "transformers"}, f"{path} imports torch"


def test_heavy_packages_are_imported_where_they_are_used(repository: Path) -> None:
    for path in modules(repository):
        roots = {name.split(".")[0] for name in top_level_imports(ast.parse(path.read_text(encoding="utf-8")))}
        assert not roots & set(LAZY_EVERYWHERE), f"{path} imports {roots & set(LAZY_EVERYWHERE)} at its top"


def test_compiled_loops_are_imported_where_they_are_used(repository: Path) -> None:
    """numba, and what imports it at its top: the kernels themselves but for `dispatch` and `buffers`."""
    light = {f"{PACKAGE}.kernels.{name}" for name in ("dispatch", "buffers")}
    for path in modules(repository):
        names = top_level_imports(ast.parse(path.read_text(encoding="utf-8")))
        compiled = {name for name in names if name.split(".")[0] in ("numba", "llvmlite")}
        if room_of(path, repository) != "kernels":
            kernels = {name.rpartition(".")[0] for name in names if name.startswith(f"{PACKAGE}.kernels")}
            compiled |= kernels - light
        elif path.stem not in ("dispatch", "buffers", "__init__"):
            compiled = set()
        assert not compiled, f"{path} imports {compiled} at its top"


def test_nothing_imports_a_recipe(repository: Path) -> None:
    for folder in (PACKAGE, "recipes"):
        for path in sorted((repository / folder).rglob("*.py")):
            roots = {name.split(".")[0] for name in imports(ast.parse(path.read_text(encoding="utf-8")))}
            assert "recipes" not in roots, f"{path} imports a recipe"


def test_recipes_are_short(repository: Path) -> None:
    for path in sorted((repository / "recipes").glob("*.py")):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 110, f"{path} has grown logic a test would want"


def test_the_check_sees_a_wrong_import() -> None:
    tree = ast.parse("def f():\n    from kd_asr_slr.training import trainer\n")
    assert imports(tree) == {"kd_asr_slr.training.trainer"}
    assert top_level_imports(tree) == set()
