"""Who owns a folder: the resolved config as its identity, and the files that a run may delete."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from kd_asr_slr.errors import UserError
from kd_asr_slr.files import is_temporary, plain

MAX_LISTED = 5
ANOTHER_FOLDER = "choose another --output_dir"

# Files and folders that a run writes into its folder; nothing else is ever deleted.
OWNED = (
    "run.json", "resolved_config.yaml", "results.json", "predictions-*.jsonl", "decoding.json", "history.json",
    "training_data.json", "published.json",
    "README.md", "training_curves.png", "training_curves.pdf", "comparison*.md", "comparison*.csv", "report.html",
    # the student and its processor, as save_pretrained writes them
    "config.json", "generation_config.json", "model.safetensors", "model-*.safetensors",
    "model.safetensors.index.json", "preprocessor_config.json", "processor_config.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "tokens.json", "tokenizer.json", "tokenizer.model",
    "pieces.model", "configuration_*.py", "modeling_*.py", "kd_asr_slr_*.py",
    # transformers.Trainer
    "checkpoint-[0-9]*", "epoch-[0-9]*", "trainer_state.json", "training_args.bin", "all_results.json",
    "train_results.json", "eval_results.json", "runs", "tensorboard",
)  # fmt: skip


def flatten(config: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config as dotted keys: `{"loss": {"alpha": 1}}` -> `{"loss.alpha": 1}`; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def without_secrets(config: Mapping[Any, Any]) -> dict[Any, Any]:
    """The config as plain values, the hub's access token hidden: a run folder is made to be shown and pushed."""
    return {
        key: without_secrets(value) if isinstance(value, Mapping)
        else "(hidden)" if str(key).endswith("hub_token") and value is not None
        else plain(value)
        for key, value in config.items()
    }  # fmt: skip


def identity(config: Mapping[str, Any], volatile: Collection[str], recipe: str) -> dict[str, Any]:
    """What makes a run that run: its recipe and its config as dotted keys, without the volatile ones.

    Args:
        config: the resolved config, nested or flat.
        volatile: keys that do not change the result (output_dir, num_workers, ...): a dotted key, a section, or a
            key's last part.
        recipe: the recipe's name.
    """
    flat = flatten(without_secrets(config))
    return {"recipe": recipe, **{key: value for key, value in flat.items() if not _is_volatile(key, volatile)}}


def fingerprint(identity_of_run: Mapping[str, Any]) -> str:
    """sha256 of a run's identity; the order of keys does not matter."""
    values = {key: _as_number(value) for key, value in identity_of_run.items()}
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """The keys in which two identities differ, with both values, the first few of them."""
    # Compared as JSON: 1 is not True there, and a list equals the tuple it was.
    one, other = ({key: _as_number(value) for key, value in side.items()} for side in (theirs, ours))
    keys = [key for key in {**theirs, **ours} if _shown(one, key) != _shown(other, key)]
    lines = [f"{key} is {_shown(theirs, key)} there and {_shown(ours, key)} here" for key in keys[:MAX_LISTED]]
    if len(keys) > MAX_LISTED:
        lines.append(f"{len(keys) - MAX_LISTED} more")
    return lines


def refuse_foreign_files(folder: Path) -> None:
    """A folder that is no run folder may be taken where it is empty; what a killed run half-wrote does not count.

    Raises:
        UserError: where it holds anything else.
    """
    foreign = sorted(entry.name for entry in folder.iterdir() if not is_temporary(entry))
    if not foreign:
        return
    more = ", ..." if len(foreign) > MAX_LISTED else ""
    raise UserError(
        f"the folder {folder} holds files and is no run folder ({', '.join(foreign[:MAX_LISTED])}{more})",
        expected="a new or empty folder, or one with a run.json",
        fix=f"{ANOTHER_FOLDER} (--overwrite_output_dir true deletes runs only, never other files)",
    )


def refuse_unusable_place(folder: Path) -> None:
    """A folder that is not there yet must be one that can be made.

    Raises:
        UserError: where a file, or a folder without permission to write, is in the way.
    """
    nearest = next(parent for parent in folder.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise UserError(f"{nearest} is a file", "a folder as --output_dir", ANOTHER_FOLDER)
    if not os.access(nearest, os.W_OK):
        raise UserError(f"{folder} cannot be created (no permission to write in {nearest})", fix=ANOTHER_FOLDER)


def refuse_other_run(folder: Path, name: str, theirs: Mapping[str, Any] | None, ours: Mapping[str, Any]) -> None:
    """A run folder may be taken up again by the same run only.

    Args:
        folder: the run folder.
        name: the name of the run it belongs to.
        theirs: the identity of that run, or None where its config is lost.
        ours: the identity of the run that asks.

    Raises:
        UserError: where the two differ, with the first few differing keys.
    """
    differing = ["its resolved_config.yaml is missing"] if theirs is None else differences(theirs, ours)
    if differing:
        raise UserError(
            f"the folder {folder} belongs to another run ({name}): {'; '.join(differing)}",
            fix=f"{ANOTHER_FOLDER}, or pass --overwrite_output_dir true to delete that run and start again",
        )


def owned_entries(folder: Path) -> Iterator[Path]:
    """The files and folders in a run folder that a run wrote there."""
    for entry in sorted(folder.iterdir()):
        if is_temporary(entry) or any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in OWNED):
            yield entry


def delete(entry: Path) -> None:
    """Delete a file or a folder; a link is removed itself, what it points to stays."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)


def _as_number(value: Any) -> Any:
    """The value with 2.0 as 2: a default and what was typed differ in that, and mean the same."""
    if isinstance(value, list):
        return [_as_number(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_volatile(key: str, volatile: Collection[str]) -> bool:
    parts = key.split(".")
    prefixes = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
    return bool((prefixes | {parts[-1]}) & set(volatile))


def _shown(identity_of_run: Mapping[str, Any], key: str) -> str:
    if key not in identity_of_run:
        return "absent"
    return json.dumps(identity_of_run[key], sort_keys=True, ensure_ascii=False)
