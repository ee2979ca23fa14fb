"""What a model card is told beside the results: where the model is loaded from, and what lies beside it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kd_asr_slr.files import read_json
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.reporting.tables import teacher_names

SPEECH_FEATURES = ("log_mel", "waveform")
CORPORA = {"synthetic_speech": "speech", "synthetic_sign": "sign"}
CODE = "modeling_*.py"  # beside the weights, where they need code that transformers has not
# Module -> what pip calls it, where that differs; None: it comes with torch or transformers.
PIP_NAMES = {
    "nemo": "'nemo_toolkit[asr]'", "torch": None, "transformers": None, "numpy": None, "yaml": None,
    "huggingface_hub": None, "safetensors": None, "filelock": None, "tqdm": None,
}  # fmt: skip


@dataclass(frozen=True)
class CardContext:
    """What a card says of the model's surroundings.

    Attributes:
        place: what `from_pretrained` is given: a folder or a name on the hub.
        modality: "speech" or "sign"; None where nothing says.
        files: names of the files in the folder.
        packages: what pip installs for the code beside the weights, torch and transformers left out.
        sampling_rate: Hz of the audio it takes; None for sign.
        licence: of the weights, as the hub names licences.
        teachers: teacher -> its repository on the hub and the commit, "OWNER/NAME" or "OWNER/NAME@COMMIT".
    """

    place: str = "FOLDER"
    modality: str | None = None
    files: frozenset[str] = frozenset()
    packages: tuple[str, ...] = ()
    sampling_rate: int | None = None
    licence: str | None = None
    teachers: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_code(self) -> bool:
        """Whether it loads with the code beside its weights."""
        return any(Path(name).match(CODE) for name in self.files)


def context_of(
    run: RunFolder, results: dict[str, Any], config: dict[str, Any], place: str = "FOLDER", licence: str | None = None
) -> CardContext:
    """Look around in a run folder.

    Args:
        run: the folder.
        results, config: its results and its resolved config.
        place: what readers load it from.
        licence: of the weights.
    """
    files = frozenset(path.name for path in run.path.iterdir() if path.is_file())
    rate = _sampling_rate(run.path / "processor_config.json")
    return CardContext(
        place=place,
        modality=modality_of(config) if rate is None else "speech" if rate else "sign",
        files=files,
        packages=packages_of(run.path / name for name in sorted(files) if name.endswith(".py")),
        sampling_rate=rate or None,
        licence=licence,
        teachers=_repositories(results),
    )


def modality_of(config: dict[str, Any]) -> str | None:
    """ "speech" or "sign", by the run's features or corpus; None where the config does not say.

    Args:
        config: the resolved config of the run.
    """
    features = config.get("features")
    if features is None:
        return CORPORA.get(str(config.get("corpus")))
    return "speech" if features in SPEECH_FEATURES else "sign"


def packages_of(files: Iterable[Path]) -> tuple[str, ...]:
    """What pip installs for some Python files, torch and transformers with all they bring left out.

    Example:
        >>> packages_of([Path("kd_asr_slr_standardisation.py")])
        ('scipy',)
    """
    roots: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                roots |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                roots.add(node.module.split(".")[0])
    names = {PIP_NAMES.get(root, root) for root in roots - sys.stdlib_module_names}
    return tuple(sorted(name for name in names if name))


def _sampling_rate(file: Path) -> int | None:
    """Of a saved processor: Hz, 0 for sign; None where it does not say."""
    settings = read_json(file) if file.is_file() else {}
    return settings.get("feature_extractor", {}).get("sampling_rate")


def _repositories(results: dict[str, Any]) -> dict[str, str]:
    """The teachers that were loaded from the hub, and those run folders that were published."""
    found = {}
    for name, teacher in zip(teacher_names(results), results["teachers"], strict=True):
        revision = teacher.get("revision") if isinstance(teacher, dict) else None
        record = Path(name) / "published.json"
        if revision:
            found[name] = f"{name.partition('@')[0]}@{revision}"
        elif record.is_file():
            published = read_json(record)
            found[name] = f"{published['repository']}@{published['commit']}"
    return found
