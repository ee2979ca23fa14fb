"""The commands of README.md and docs/*.md, and what is done with each."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = ("sh", "bash", "shell", "console", "")  # a fence without a language is taken for commands, too
# Commands that are only read by their own parser here, and why: part of the command, or the whole document.
ONLY_PARSED = {
    "--multi_gpu": "there is no GPU",
    "--config_file fsdp.yaml": "FSDP needs GPUs",
    "leave_one_out.yaml": "trains for hours",
    "runs/fsdd-loo/": "made by the table that trains for hours",
    "--license apache-2.0": "publishing needs the hub",
    "evidence.md": "its tables took hours; each command is one that a recipe reads",
}
# Commands of other programs, and why they are not run.
OTHERS = {"hf download": "there is no network"}


@dataclass(frozen=True)
class Command:
    """One command of a document.

    Attributes:
        document: the file's name.
        text: as it is typed.
    """

    document: str
    text: str

    @property
    def words(self) -> list[str]:
        """As the shell splits it."""
        return shlex.split(self.text)

    @property
    def recipe(self) -> str | None:
        """The recipe that is run, by its name; None for other programs."""
        found = re.search(r"(?:^| )recipes/(\w+)\.py\b", self.text)
        return found[1] if found else None

    @property
    def of_the_package(self) -> bool:
        """Whether it runs the package itself."""
        return "python -m kd_asr_slr" in self.text

    @property
    def arguments(self) -> list[str]:
        """What stands after the recipe."""
        words = self.words
        return words[words.index(f"recipes/{self.recipe}.py") + 1 :]

    @property
    def only_parsed(self) -> str | None:
        """Why it is not run; None where it is."""
        return next((why for part, why in ONLY_PARSED.items() if part in self.text or part == self.document), None)


def programs_of(document: str) -> list[str]:
    """The Python programs of a document that reader and test run once its commands are through."""
    path = next(path for path in DOCUMENTS if path.name == document)
    return [block for language, block in FENCE.findall(path.read_text(encoding="utf-8")) if language == "python"]


def commands_of(path: Path) -> list[Command]:
    """The commands of a document, in its order: the lines of its fences in a shell's language, or in none."""
    found = []
    for language, block in FENCE.findall(path.read_text(encoding="utf-8")):
        if language not in SHELL:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                found.append(Command(path.name, re.sub(r"\s+", " ", line.strip())))
    return found
