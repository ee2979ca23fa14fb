"""The keypoint pickles of the field: one pickle a split, one dictionary an utterance.

MSKA and TwoStream-SLR: `name`, `gloss`, `num_frames`, `keypoint` [T, 133, 3] (x, y, confidence), in a dictionary by
name, files such as `phoenix-2014.train`. Sign Language Transformers: `name`, `gloss`, `sign` [T, 1024] in a list,
gzipped. A pickle of 800,000 frames does not fit into every process that trains, so each utterance becomes one .npz
file, once; these are what is read from then on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from kd_asr_slr.corpora.arrays import FEATURES_KEY
from kd_asr_slr.corpora.feature_files import GLOSS_KEY
from kd_asr_slr.corpora.pickles import load_pickle
from kd_asr_slr.corpora.schema import SPLIT_ORDER, shortened
from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.progress import Progress

logger = logging.getLogger(__name__)

ARRAY_KEYS = ("keypoint", "keypoints", "sign", "feature", "features")
_SUFFIXES = (".pkl", ".pickle", ".gzip", ".gz", *(f".{split}" for split in SPLIT_ORDER))
_DONE = "converted.json"
_VERSION = 1


@dataclass(frozen=True)
class Utterance:
    """One utterance of a pickle: its name as it stands there, its glosses if any, its values [T, ...] as float32."""

    name: str
    gloss: str | None
    values: np.ndarray


def find_pickle(folder: Path, split: str) -> Path | None:
    """The pickle of a split in a folder, by its name (`train.pkl`, `phoenix-2014.train`); None where there is none.

    Raises:
        UserError: if several could be meant.
    """
    if not folder.is_dir():
        return None
    named = [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name.endswith(_SUFFIXES) and split in re.split(r"[._-]", path.name)
    ]
    if len(named) > 1:
        raise UserError(
            f"{folder} has several pickles of '{split}': {', '.join(path.name for path in named)}",
            expected="one for each split",
            fix="set features_dir to a folder with one set of pickles",
        )
    return named[0] if named else None


def read_utterances(path: Path) -> Iterator[Utterance]:
    """The utterances of a pickle, in its order.

    Raises:
        UserError: if the file cannot be read, or an entry has no name, no array, or another number of frames than it
            says; with every such entry.
    """
    content = load_pickle(path)
    if isinstance(content, Mapping):
        entries = [(str(key), value) for key, value in content.items()]
    elif isinstance(content, list):
        entries = [(f"entry {number}", value) for number, value in enumerate(content, 1)]
    else:
        raise UserError(f"{path} holds {type(content).__name__}", expected="a dictionary or a list of utterances")
    problems = [f"'{key}': {problem}" for key, value in entries if (problem := _entry_problem(value))]
    raise_all(shortened(problems), f"the pickle {path}")
    if not entries:
        raise UserError(f"{path} holds no utterance")
    for key, value in entries:
        gloss = value.get("gloss")
        if isinstance(gloss, Sequence) and not isinstance(gloss, str):
            gloss = " ".join(map(str, gloss))
        if (array := _array(value)) is not None:  # as checked above
            yield Utterance(str(value.get("name", key)), gloss, array.astype(np.float32, copy=False))


def convert(path: Path, split: str, ids: Sequence[str], cache_dir: Path) -> Path:
    """Write the utterances of a pickle as `<folder>/<split>/<id>.npz`, once for each state of the pickle.

    Args:
        path: the pickle.
        split: name of the split.
        ids: utterances of the annotations; others are left out. An id may be any part of the path in a name.
        cache_dir: folder to write under; several processes may ask at once, one of them writes.

    Returns:
        The folder above the one of the split.

    Raises:
        UserError: if the pickle cannot be used, has no utterance in common with `ids`, or nothing can be written.
    """
    status = path.stat()
    state = [_VERSION, str(path.resolve()), status.st_size, status.st_mtime_ns, split, sorted(ids)]
    key = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:12]
    folder = cache_dir / f"{path.name}-{key}"
    if (folder / _DONE).is_file():
        return folder
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(cache_dir / f".{folder.name}.lock"):
            if not (folder / _DONE).is_file():
                _write(path, split, ids, folder)
    except OSError as error:
        raise UserError(f"cannot write {folder} ({error})", fix="free some space or set converted_dir") from error
    return folder


def _write(path: Path, split: str, ids: Sequence[str], folder: Path) -> None:
    """The files first, the mark that all are there last, then the folder's name."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    (partial / split).mkdir(parents=True)
    known, left_out, written = set(ids), [], 0
    try:
        for utterance in Progress(read_utterances(path), f"converting {path.name}"):
            name = _id_of(utterance.name, known)
            if name is None:
                left_out.append(utterance.name)
                continue
            texts = {} if utterance.gloss is None else {GLOSS_KEY: np.array(utterance.gloss)}
            np.savez(partial / split / f"{name}.npz", **{FEATURES_KEY: utterance.values}, **texts)
            written += 1
        if not written:
            raise UserError(
                f"{path} has no utterance in common with the csv of '{split}': it holds {len(left_out)} such as "
                f"'{left_out[0]}', the csv names '{ids[0]}'",
                fix="check that keypoints and annotations are of the same corpus and split",
            )
        record = {"source": str(path), "written": written, "left_out": len(left_out)}
        (partial / _DONE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    logger.info("wrote %d utterances of %s to %s, left out %d of other splits", written, path, folder, len(left_out))


def _id_of(name: str, known: set[str]) -> str | None:
    """The id in a name such as `fullFrame-210x260px/train/<id>/1`, if it is one of the split."""
    return next((part for part in reversed(name.split("/")) if part in known), None)


def _entry_problem(value: Any) -> str:
    if not isinstance(value, Mapping):
        return f"is {type(value).__name__}, expected a dictionary with name, gloss, num_frames, keypoint"
    array = _array(value)
    if array is None:
        return f"has no array under {' or '.join(ARRAY_KEYS[:3])}; it has {', '.join(map(str, value)) or 'nothing'}"
    if array.dtype.kind not in "fiu" or array.ndim not in (2, 3):
        return f"its array has shape {array.shape} and type {array.dtype}, expected numbers [frames, points, 3]"
    frames = value.get("num_frames")
    if frames is not None and frames != len(array):
        return f"says num_frames {frames}, but its array has {len(array)} frames"
    return ""


def _array(value: Mapping[str, Any]) -> np.ndarray | None:
    return next((value[key] for key in ARRAY_KEYS if isinstance(value.get(key), np.ndarray)), None)
