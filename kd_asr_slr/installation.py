"""What is installed here, and where: versions against what the package asks for, who needs what is missing.

Imports nothing but the standard library at its top: it has to speak where everything else is missing.
"""

from __future__ import annotations

import configparser
import os
import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from kd_asr_slr import __version__

if TYPE_CHECKING:
    from packaging.requirements import Requirement

NAME = "kd_asr_slr"
PACKAGE = Path(__file__).resolve().parent
# Packages without which most of the work can be done, and what cannot; every recipe needs the others.
PURPOSES = {
    "nemo_toolkit": "--model nemo_hybrid, --beam_engine nemo",
    "pyctcdecode": "beam search over characters and pieces",
    "kenlm": "language models (--lm)",
    "pose-format": "landmarks in .pose files",
    "xlrd": "UASpeech's list of words (.xls)",
    "jinja2": "recipes/report.py",
}
EXTRAS = {"export": "recipes/export.py --format onnx and int8", "test": "make test", "docs": "make docs"}
LOGGERS = ("tensorboard", "wandb", "trackio")


@dataclass(frozen=True)
class Finding:
    """One requirement and what was found of it.

    Attributes:
        name: of the distribution.
        wanted: the range of versions, e.g. ">=5.20,<6".
        found: the installed version; None where there is none.
        fits: whether it lies in the range.
        purpose: what needs it; empty: every recipe.
    """

    name: str
    wanted: str
    found: str | None
    fits: bool
    purpose: str = ""

    def line(self) -> str:
        """As the report has it."""
        state = self.found or "missing"
        remark = "" if self.fits or self.found is None else "  <- not in this range"
        purpose = f"  {self.purpose}" if self.purpose else ""
        return f"  {self.name:<18}{state:<16}{self.wanted:<14}{purpose}{remark}".rstrip()


def folder_of(name: str) -> Path | None:
    """Where the package's configs or recipes lie: in its checkout, or where the wheel has put them.

    Args:
        name: "configs" or "recipes".

    Returns:
        The folder; None where the installation has not brought it.
    """
    if _is_checkout():
        return PACKAGE.parent / name
    installed = ("share", NAME, name)
    for file in metadata.files(NAME) or []:
        for depth, folder in enumerate(file.parents):
            if folder.parts[-3:] == installed:
                return Path(str(file.locate())).resolve().parents[depth]
    return None


def _is_checkout() -> bool:
    return (PACKAGE.parent / "setup.cfg").is_file()


def requirements() -> dict[str, list[Requirement]]:
    """What the package asks for: by extra; "" has what is always asked for.

    A checkout's setup.cfg is read where there is one: the metadata of an editable installation are as old as it.

    Raises:
        metadata.PackageNotFoundError: if the package is neither installed nor a checkout.
    """
    from packaging.requirements import Requirement

    if _is_checkout():
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(PACKAGE.parent / "setup.cfg", encoding="utf-8")
        texts = {"": parser["options"]["install_requires"], **parser["options.extras_require"]}
        return {extra: [Requirement(line) for line in text.split("\n") if line] for extra, text in texts.items()}
    known = [Requirement(line) for line in metadata.requires(NAME) or []]
    extras = metadata.metadata(NAME).get_all("Provides-Extra") or []
    found = {"": [item for item in known if _asked_for(item, "")]}
    for extra in extras:
        found[extra] = [item for item in known if _asked_for(item, extra) and not _asked_for(item, "")]
    return found


def _asked_for(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def inspect(requirement: Requirement, purpose: str = "") -> Finding:
    """Compare a requirement with what is installed.

    Args:
        requirement: a name with a range of versions.
        purpose: what needs it.

    Example:
        >>> from packaging.requirements import Requirement
        >>> inspect(Requirement("packaging>=1")).fits
        True
    """
    wanted = ",".join(sorted(str(requirement.specifier).split(","), reverse=True))
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Finding(requirement.name, wanted, None, False, purpose)
    fits = requirement.specifier.contains(found, prereleases=True)
    return Finding(requirement.name, wanted, found, fits, purpose)


def devices() -> list[str]:
    """What PyTorch can compute on, one line a device."""
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library is missing
        return [f"unknown: torch cannot be imported ({error})"]
    found = [f"cpu ({os.cpu_count()} cores, {torch.get_num_threads()} threads)"]
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        found.append(f"cuda:{index} {facts.name} ({facts.total_memory / 2**30:.0f} GiB)")
    return found + (["mps"] if torch.backends.mps.is_available() else [])


def diagnose() -> tuple[list[str], bool]:
    """The lines of `--doctor`, and whether everything is there that every recipe needs.

    Example:
        >>> lines, ready = diagnose()
        >>> lines[0].startswith("kd_asr_slr ")
        True
    """
    lines = [
        f"{NAME} {__version__} in {PACKAGE}",
        f"Python {platform.python_version()} ({sys.executable}), {platform.platform()}",
        *(f"device: {device}" for device in devices()),
    ]
    try:
        asked = requirements()
    except (ModuleNotFoundError, metadata.PackageNotFoundError) as error:
        return [*lines, f"not ready: {error.name} is not installed. To fix it: pip install {error.name}"], False
    found = [inspect(item, PURPOSES.get(item.name, "")) for item in asked.pop("")]
    core = [item for item in found if not item.purpose]
    lines += ["", "every recipe needs", *(item.line() for item in core)]
    lines += ["", "only for", *(item.line() for item in found if item.purpose), ""]
    for extra, items in asked.items():
        lines += _extra(extra, [inspect(item) for item in items])
    lines.append(f"--report_to can be: {', '.join(_loggers()) or 'none'}")
    lacking = [item for item in core if not item.fits]
    verdict = f"not ready. To fix it: {_install(lacking)}" if lacking else "ready to train, distil and score"
    return [*lines, verdict], not lacking


def _extra(extra: str, found: list[Finding]) -> list[str]:
    """An extra in one line where it is there, otherwise what of it is not."""
    lacking = [item for item in found if not item.fits]
    use = f" ({EXTRAS[extra]})" if extra in EXTRAS else ""
    if not lacking:
        return [f"extra {extra}{use}: all here"]
    head = f"extra {extra}{use}: lacks {len(lacking)} of {len(found)}; {_install(lacking)}"
    return [head, *(item.line() for item in lacking)]


def _install(lacking: list[Finding]) -> str:
    return "pip install " + " ".join(f"'{item.name}{item.wanted}'" for item in lacking)


def _loggers() -> list[str]:
    from packaging.requirements import Requirement

    found = [inspect(Requirement(name)) for name in LOGGERS]
    return [f"{item.name} {item.found}" for item in found if item.found]
