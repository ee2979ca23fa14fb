"""Modules of this package as files that need the package no more: they travel with a model's weights.

transformers takes a model's custom code as Python files in one flat folder that import each other by lines like
`from .name import thing`. So the modules that a class needs are found by their imports, written under flat names, and
their imports of the package are made relative.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

from kd_asr_slr import __version__

PACKAGE = __name__.partition(".")[0]
HEADER = f"# Part of {PACKAGE} {__version__}, written beside the weights so that they load without it.\n"


def travelling_files(modules: Iterable[str]) -> dict[str, str]:
    """The files that stand for some modules of this package and for all they import of it.

    Args:
        modules: dotted names, e.g. that of the module of a model's class. They are read, not imported.

    Returns:
        File name -> Python source, by name.

    Raises:
        ValueError: if two of the modules would have one file name, or one imports the package in a way that cannot be
            made relative: `import kd_asr_slr.module`, or a name that a package's `__init__` holds.

    Example:
        >>> sorted(travelling_files(["kd_asr_slr.models.parts.front"]))
        ['kd_asr_slr_frames.py', 'kd_asr_slr_front.py']
    """
    sources: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in sources:
            sources[module] = _source_of(module)
            waiting += imported_modules(sources[module])
    _check_names(sources)
    return {f"{flat_name(module)}.py": HEADER + _made_relative(sources[module]) for module in sorted(sources)}


def flat_name(module: str) -> str:
    """The name of a module's file, without its suffix: the last part of its dotted name, with whose it is in front.

    Only transformers' own names, `modeling_*` and `configuration_*`, stay as they are.
    """
    last = module.rpartition(".")[2]
    return last if last.startswith(("modeling_", "configuration_")) else f"{PACKAGE}_{last}"


def imported_modules(source: str) -> list[str]:
    """Dotted names of the modules of this package that a source imports, those for type checking included."""
    return [module for node in _package_imports(source) for module, _ in _split(node)]


def _source_of(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise ValueError(f"there is no source of {module}")
    if Path(spec.origin).name == "__init__.py":
        raise ValueError(f"{module} is a package; a module that travels imports from the modules in it")
    return Path(spec.origin).read_text(encoding="utf-8")


def _check_names(modules: Iterable[str]) -> None:
    places: dict[str, str] = {}
    for module in sorted(modules):
        other = places.setdefault(flat_name(module), module)
        if other != module:
            raise ValueError(f"{other} and {module} would both be {flat_name(module)}.py; rename one of them")


def _package_imports(source: str) -> list[ast.ImportFrom]:
    """The import statements of this package, wherever they stand, in the order of their lines."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            if any(alias.name.split(".")[0] == PACKAGE for alias in node.names):
                raise ValueError(f"line {node.lineno}: write 'from ... import ...', which can be made relative")
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == PACKAGE:
            found.append(node)
    return sorted(found, key=lambda node: node.lineno)


def _split(node: ast.ImportFrom) -> list[tuple[str, ast.alias | None]]:
    """The modules that a statement imports: each with its alias, or (names from a module) with None, once."""
    module = str(node.module)
    if importlib.util.find_spec(module).submodule_search_locations is None:  # type: ignore[union-attr]
        return [(module, None)]
    return [(f"{module}.{alias.name}", alias) for alias in node.names]


def _made_relative(source: str) -> str:
    lines = source.splitlines()
    for node in reversed(_package_imports(source)):
        indent = lines[node.lineno - 1][: node.col_offset]
        statements = [line for module, alias in _split(node) for line in _statements(node.names, module, alias)]
        lines[node.lineno - 1 : node.end_lineno] = [indent + line for line in statements]
    return "\n".join(lines) + "\n"


def _statements(names: Sequence[ast.alias], module: str, alias: ast.alias | None) -> list[str]:
    if alias is None:
        return [ast.unparse(ast.ImportFrom(module=flat_name(module), names=list(names), level=1))]
    # transformers finds a file to copy only by a line like the first.
    renamed = ast.alias(flat_name(module), alias.asname or alias.name)
    return [
        f"from .{flat_name(module)} import __name__ as _",
        ast.unparse(ast.ImportFrom(module=None, names=[renamed], level=1)),
    ]
