"""What the built-in corpora share: seeded randomness for each item, checked options, folders written as a whole."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from datasets import DatasetDict

from kd_asr_slr.corpora.manifest import load_manifest
from kd_asr_slr.corpora.schema import did_you_mean
from kd_asr_slr.errors import UserError, raise_all

logger = logging.getLogger(__name__)

Options = TypeVar("Options")
MANIFEST, MEDIA_FOLDER, DESCRIPTION = "manifest.csv", "media", "corpus.json"
_STALE_SECONDS = 24 * 3600.0


def item_rng(*key: object) -> np.random.Generator:
    """A random generator that depends on the key only: not on the process, the order or the other items.

    Example:
        >>> item_rng(0, "speaker", 3).integers(100) == item_rng(0, "speaker", 3).integers(100)
        True
    """
    digest = hashlib.sha256(json.dumps([str(part) for part in key]).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def parse_options(kind: type[Options], given: Mapping[str, Any], corpus: str) -> Options:
    """Build an options dataclass from a mapping.

    Args:
        kind: a dataclass with a method `problems() -> list[str]`.
        given: settings by name, as YAML or the command line give them.
        corpus: the corpus's name, for the message.

    Raises:
        UserError: naming every unknown setting and every value out of range.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    title = f"the options of the corpus '{corpus}'"
    unknown = [name for name in given if name not in known]
    raise_all(
        [f"unknown option '{name}'{did_you_mean(name, known)}; known options: {', '.join(known)}" for name in unknown],
        title,
    )
    options = kind(**given)
    raise_all(options.problems(), title)  # type: ignore[attr-defined]
    return options


def refuse_manifest(corpus: str, manifest: object, root: object) -> None:
    """A synthetic corpus writes its own manifest; one that is given would be ignored, so it is refused.

    Raises:
        UserError: naming what is given.
    """
    if manifest or root:
        raise UserError(
            f"the corpus '{corpus}' takes no manifest or root, found {manifest or root}",
            fix="take it out, or load the corpus 'manifest'",
        )


def whole_number_problem(name: str, value: Any, low: int, high: int) -> list[str]:
    """A sentence where `value` is not a whole number from `low` to `high`."""
    good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    return [] if good else [f"'{name}' is {value!r}, expected a whole number from {low} to {high}"]


def number_problem(name: str, value: Any, low: float, high: float) -> list[str]:
    """A sentence where `value` is not a number from `low` to `high`."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    return [] if good else [f"'{name}' is {value!r}, expected a number from {low:g} to {high:g}"]


def range_problem(name: str, value: Any, low: float, high: float) -> list[str]:
    """A sentence where `value` is not two numbers in order, both from `low` to `high`."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return [f"'{name}' is {value!r}, expected two numbers [lowest, highest]"]
    problems = [problem for end in value for problem in number_problem(name, end, low, high)]
    if not problems and value[0] > value[1]:
        problems.append(f"'{name}' is {value!r}, expected the lowest first")
    return problems


def counts_problem(name: str, value: Any, high: int) -> list[str]:
    """A sentence where `value` does not give a whole number for train, dev and test, with some for train."""
    expected = "expected a whole number for each of train, dev and test, such as {train: 8, dev: 2, test: 2}, "
    expected += f"at most {high}, and not 0 for train"
    good = isinstance(value, Mapping) and set(value) == {"train", "dev", "test"}
    good = good and not any(whole_number_problem(split, count, 0, high) for split, count in value.items())
    return [] if good and value["train"] > 0 else [f"'{name}' is {value!r}, {expected}"]


def spread(index: int, offset: float = 0.0) -> float:
    """The index-th point of a sequence that fills 0 .. 1 evenly however many points are taken (golden ratio)."""
    return (offset + index * 0.6180339887498949) % 1.0


def load_generated(
    corpus: str, version: int, options: Any, write: Callable[[Path], None], name: str | None, cache_dir: Path
) -> DatasetDict:
    """Load a synthetic corpus; it is made where it is not there yet.

    Args:
        corpus: its name in `CORPORA`.
        version: raised whenever the same options give other bytes.
        options: a dataclass of plain values; the folder is named by their hash.
        write: makes `manifest.csv` and the folder `media` in the folder it is given.
        name: put before the speakers; the corpus's name by default.
        cache_dir: folder to write under.
    """
    description = {"corpus": corpus, "version": version, "options": asdict(options)}
    key = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:12]
    folder = finished_folder(cache_dir / f"{corpus}-{key}", description, write)
    return load_manifest(folder / MANIFEST, name or corpus)


def finished_folder(folder: Path, description: dict[str, Any], write: Callable[[Path], None]) -> Path:
    """A folder that is complete, or not there: written beside its place and moved there as the last step.

    A folder that is already complete is used again; one with files missing is made anew. Several processes may ask
    for the same folder at once: each writes its own, the first to finish wins, and all have the same bytes.

    Raises:
        UserError: if something else stands in the folder's place, or it cannot be written.
    """
    if _is_complete(folder, description):
        return folder
    _check_replaceable(folder)
    partial = folder.parent / f".{folder.name}.{os.getpid()}.partial"
    started = time.monotonic()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        shutil.rmtree(partial, ignore_errors=True)
        (partial / MEDIA_FOLDER).mkdir(parents=True)
        write(partial)
        record = {**description, **_contents(partial)}
        (partial / DESCRIPTION).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        _move(partial, folder, description)
    except OSError as error:
        raise UserError(
            f"cannot write {folder} ({error})", fix="free some space or give another cache folder"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    logger.info("made %s in %.1f s", folder, time.monotonic() - started)
    return folder


def write_manifest(folder: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write `manifest.csv` into a corpus folder."""
    with (folder / MANIFEST).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _contents(folder: Path) -> dict[str, int]:
    """Number and bytes of the files, which show whether a folder is still whole."""
    sizes = [entry.stat().st_size for entry in os.scandir(folder / MEDIA_FOLDER)]
    return {"files": len(sizes), "bytes": sum(sizes) + (folder / MANIFEST).stat().st_size}


def _is_complete(folder: Path, description: dict[str, Any]) -> bool:
    try:
        record = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return record == {**json.loads(json.dumps(description)), **_contents(folder)}
    except (OSError, ValueError):
        return False


def _check_replaceable(folder: Path) -> None:
    """Nothing is deleted that a synthetic corpus did not write."""
    ours = {MANIFEST, MEDIA_FOLDER, DESCRIPTION}
    foreign = folder.exists() and (not folder.is_dir() or {entry.name for entry in folder.iterdir()} - ours)
    if foreign:
        raise UserError(
            f"{folder} holds something else than a synthetic corpus", fix="move it away or give another cache folder"
        )


def _move(partial: Path, folder: Path, description: dict[str, Any]) -> None:
    if _is_complete(folder, description):  # another process was faster
        return
    if folder.exists():
        broken = partial.with_suffix(".broken")
        os.rename(folder, broken)
        shutil.rmtree(broken, ignore_errors=True)
    try:
        os.rename(partial, folder)
    except OSError:
        if not _is_complete(folder, description):
            raise


def _remove_stale(folder: Path) -> None:
    """Remove what a killed process left behind, once it is too old to be still in the making."""
    for pattern in (f".{folder.name}.*.partial", f".{folder.name}.*.broken"):
        for leftover in folder.parent.glob(pattern):
            if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)
