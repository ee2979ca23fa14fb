"""How the documentation is built: Markdown (MyST), docstrings (autodoc, napoleon), offline, any warning an error."""

from __future__ import annotations

import re
from typing import Any

import kd_asr_slr

project = "kd_asr_slr"
copyright = "the kd_asr_slr authors, Apache-2.0"
version = release = kd_asr_slr.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.apidoc"]
exclude_patterns = ["_build", "reference/modules.rst"]
myst_heading_anchors = 3
nitpicky = False

html_theme = "furo"
html_title = f"kd_asr_slr {release}"
html_static_path: list[str] = []

# The reference: one page a package, written from the docstrings into docs/reference (which git ignores).
apidoc_modules = [
    {"path": "../kd_asr_slr", "destination": "reference", "max_depth": 1, "implicit_namespaces": False},
]
apidoc_separate_modules = False
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_mock_imports = ["nemo"]
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Source", "notes_style"), ("Legend", "notes_style")]
# "ref.python": attributes of several classes share a name, so that a mere word can mean any of them.
suppress_warnings = ["autodoc.mocked_object", "ref.python"]


def as_napoleon_reads(app: Any, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are read in the source first. Their Markdown tables become literal blocks, "|" stays a bar, and
    a source on one line becomes a section."""
    table, written = False, []
    for line in lines:
        if line.startswith("Source: "):
            written += ["", "Source:"]
            line = line.replace("Source: ", "    ")
        if line.startswith("|") and not table:
            written += ["::", ""]
        table = line.startswith("|")
        code = line.lstrip().startswith((">>>", "..."))
        written.append(f"    {line}" if table else line if code else re.sub(r"(?<!`)\|(?!`)", r"\\|", line))
    lines[:] = written


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", as_napoleon_reads, priority=400)  # before napoleon
