"""What of a run folder is published: the student, what it takes to run it, and what came out. Nothing else.

Named here is what goes up, not what stays: a file that nobody thought of stays. Of the training data there is no audio,
no features, no soft targets, no list of utterances; transcripts of a scored split go up only where they are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from kd_asr_slr.errors import UserError
from kd_asr_slr.files import canonical_json, sha256_of
from kd_asr_slr.reporting.run_folder import RunFolder

WEIGHTS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
PUBLISHED = (
    "config.json", "generation_config.json", *WEIGHTS,
    # the processor
    "processor_config.json", "preprocessor_config.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "tokens.json", "tokenizer.json", "tokenizer.model", "pieces.model",
    # the code of both
    "configuration_*.py", "modeling_*.py", "kd_asr_slr_*.py",
    # what came out
    "history.json", "decoding.json", "training_curves.png", "training_curves.pdf",
)  # fmt: skip
PREDICTIONS = "predictions-*.jsonl"  # with the transcripts
_PATH = re.compile(r"(?<![\w.:/])/(?:[^/\s=,:'\"]+/)+([^/\s=,:'\"]+)/?")


@dataclass(frozen=True)
class PublishedFile:
    """One file of a publication.

    Attributes:
        name: its path in the repository.
        content: where it is, or what it holds.
    """

    name: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


def publication(run: RunFolder, card: str, predictions: bool = False) -> list[PublishedFile]:
    """The files that stand for a run on the hub, by name.

    `results.json` and `resolved_config.yaml` go up without the folders of this machine: of an absolute path its last
    part is left.

    Args:
        run: a finished run.
        card: the text of its model card.
        predictions: also its predictions, which hold the transcripts of the scored splits.

    Raises:
        UserError: if it has no results, or no student.
    """
    results, config = run.read_results(), run.config()
    patterns = PUBLISHED + ((PREDICTIONS,) if predictions else ())
    files: dict[str, Path | bytes] = {
        path.name: path for pattern in patterns for path in run.path.glob(pattern) if path.is_file()
    }
    missing = [name for name in ("config.json", "processor_config.json") if name not in files]
    if not any(PurePath(name).match(pattern) for name in files for pattern in WEIGHTS[:2]):
        missing.append(WEIGHTS[0])
    if missing:
        raise UserError(
            f"{run.path} has no {' and no '.join(missing)}",
            expected="a run folder with its student and processor",
            fix="give the folder of a finished run",
        )
    made: dict[str, Path | bytes] = {
        "README.md": card.encode(),
        "results.json": canonical_json(without_places(results)),
        "resolved_config.yaml": _as_yaml(without_places(config)),
    }
    return [PublishedFile(name, content) for name, content in sorted((files | made).items())]


def described(files: Sequence[PublishedFile]) -> str:
    """The files with their sizes, a line each, and the sum."""
    width = max(len(file.name) for file in files)
    lines = [f"  {file.name:<{width}}  {shown_size(file.size):>9}" for file in files]
    total = shown_size(sum(file.size for file in files))
    return "\n".join([*lines, f"  {len(files)} files, {total}; no audio, no features, no soft targets, no checkpoints"])


def shown_size(size: int) -> str:
    """Bytes for people.

    Example:
        >>> shown_size(999), shown_size(12_345), shown_size(4_000_000)
        ('999 B', '12.3 kB', '4.0 MB')
    """
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def digest(files: Sequence[PublishedFile]) -> str:
    """sha256 over names and contents, so that a publication is known again."""
    parts = []
    for file in files:
        content = file.content if isinstance(file.content, bytes) else file.content.read_bytes()
        parts.append(f"{file.name} {sha256_of(content)}")
    return sha256_of("\n".join(parts).encode())


def without_places(value: Any) -> Any:
    """The same value with the last part in place of each absolute path, wherever in a text it stands.

    Example:
        >>> without_places({"teachers": ["theo=/home/jane/runs/theo"], "model": "owner/name"})
        {'teachers': ['theo=theo'], 'model': 'owner/name'}
    """
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_places(item) for item in value]
    return _PATH.sub(r"\1", value) if isinstance(value, str) else value


def _as_yaml(config: dict[str, Any]) -> bytes:
    import yaml

    return yaml.safe_dump(config, sort_keys=True, allow_unicode=True).encode()
