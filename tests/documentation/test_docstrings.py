"""Every public thing of the public rooms says what it is; functions that raise a user's error say so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

Definition = ast.FunctionDef | ast.ClassDef


def definitions(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, Definition]]:
    """Public functions, classes and methods with their dotted name; nothing that is local to a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield f"{inside}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from definitions(node, f"{node.name}.")


def modules(repository: Path) -> list[Path]:
    return sorted((repository / "kd_asr_slr").rglob("*.py"))


def is_inherited(node: Definition, bases: set[str]) -> bool:
    """A method that a base class or protocol outside of the package documents."""
    return node.name in bases


# Methods whose contract is their base's: argparse, pickle, numpy's descriptors, torch's autograd.
INHERITED = {"error", "find_class", "persistent_load", "forward", "backward"}


def test_everything_public_has_a_docstring(repository: Path) -> None:
    missing = [
        f"{path.relative_to(repository)}: {name}"
        for path in modules(repository)
        for name, node in definitions(ast.parse(path.read_text(encoding="utf-8")))
        if not ast.get_docstring(node) and not ("." in name and is_inherited(node, INHERITED))
    ]
    assert not missing, "\n".join(missing)


def test_every_module_says_what_it_holds(repository: Path) -> None:
    silent = [path for path in modules(repository) if path.stat().st_size and not has_docstring(path)]
    assert not silent


def has_docstring(path: Path) -> bool:
    return bool(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))))


def raises_user_error(node: ast.FunctionDef) -> bool:
    """Whether the function itself raises a `UserError` or what `raise_all` makes of problems."""
    for child in ast.walk(node):
        raised = getattr(child, "exc", None) if isinstance(child, ast.Raise) else None
        if isinstance(raised, ast.Call) and getattr(raised.func, "id", "") == "UserError":
            return True
        if isinstance(child, ast.Call) and getattr(child.func, "id", "") == "raise_all":
            return True
    return False


def test_functions_that_refuse_say_so(repository: Path) -> None:
    wrong = [
        f"{path.relative_to(repository)}: {name}"
        for path in modules(repository)
        for name, node in definitions(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and raises_user_error(node)
        and "Raises:" not in (ast.get_docstring(node) or "")
    ]
    assert not wrong, "\n".join(wrong)
