"""RWTH-PHOENIX-Weather 2014 (multisigner and SI5) and 2014-T: German Sign Language glosses with features.

The annotations are the release's csv files; the features are the user's own, one file an utterance, or the keypoint
pickles of the field.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from kd_asr_slr.corpora.feature_files import gloss_problems, has_features, locate
from kd_asr_slr.corpora.keypoint_pickles import convert, find_pickle
from kd_asr_slr.corpora.phoenix_annotations import (
    BROKEN_ITEM,
    EDITIONS,
    Annotation,
    Annotations,
    edition_of,
    read_annotations,
)
from kd_asr_slr.corpora.schema import SPLIT_ORDER, check_corpus_name, did_you_mean, namespaced, shortened
from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.text import normalise

logger = logging.getLogger(__name__)

OPTIONS = ("features_dir", "variant", "converted_dir")


@dataclass
class Survey:
    """A corpus as it lies on disk.

    Attributes:
        annotations: every utterance of the csv files.
        splits: rows by split, without the broken item; without `features` where none were asked for.
        notes: what is left out or unused, for the reader.
        problems: what is wrong, by the path of the file or by an id; with any, `load` refuses the corpus.
    """

    annotations: Annotations
    splits: dict[str, list[dict[str, Any]]]
    notes: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


def load(
    corpus: str,
    *,
    manifest: str | Path | None = None,
    name: str | None = None,
    root: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    cache_dir: Path,
) -> DatasetDict:
    """Load an edition of the corpus with its features; see `build.load_corpus`.

    The text of a row holds the glosses as distributed, runs of blanks included: two of them between equal glosses keep
    the official clean-up from merging these. Labels are what stands between runs of blanks. Files that are missing keep
    their row, and are named by `media_check.check_media`.

    Args:
        corpus: "phoenix2014", "phoenix2014_si5" or "phoenix2014t".
        manifest: none may be given.
        name: namespace of the signers; the corpus by default.
        root: the release, or a folder with the annotations.
        options: `features_dir` (folder above train, dev, test with a file an utterance, or folder of the keypoint
            pickles; `features` in the release by default), `variant` (multisigner or si5; standard or complex),
            `converted_dir` (where pickles are converted to; the cache by default).
        cache_dir: folder that pickles are converted under, once.

    Raises:
        UserError: if annotations or features cannot be found or used, or features belong to another utterance.

    Example:
        >>> corpus = load("phoenix2014", root="phoenix2014-release", options={"features_dir": "npz"}, cache_dir=cache)
        >>> corpus["dev"][0]["signer"]
        'Signer04'
    """
    if manifest:
        raise UserError(f"the corpus '{corpus}' takes no manifest, found {manifest}", fix="set --data_dir instead")
    found = survey(corpus, name=name, root=root, options=options, cache_dir=cache_dir)
    raise_all(shortened(list(found.problems.values())), f"the corpus '{corpus}'")
    for note in found.notes:
        logger.info(note)
    if "features" not in found.splits["train"][0]:
        raise UserError(
            f"no features of '{corpus}' in {root}",
            expected="<features_dir>/<split>/<id>.npz, .npy or .pose, or the keypoint pickle of each split",
            fix="set features_dir in corpus_options",
        )
    return DatasetDict({split: Dataset.from_list(rows) for split, rows in found.splits.items()})


def survey(
    corpus: str,
    *,
    name: str | None = None,
    root: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    cache_dir: Path,
) -> Survey:
    """Everything about a corpus on disk, with what is wrong as a list; arguments as for `load`.

    Raises:
        UserError: if nothing can be said: no annotations, or features of another corpus.
    """
    given = _checked(corpus, options or {})
    check_corpus_name(name or corpus)
    annotations = read_annotations(root, edition_of(corpus, given.get("variant")))
    splits = {split: _rows(annotations, split, name or corpus) for split in SPLIT_ORDER}
    found = Survey(annotations, splits)
    if any(item.id == BROKEN_ITEM for item in annotations.splits["train"]):
        found.notes.append(f"left out '{BROKEN_ITEM}': its video is broken off, 16 frames for 16 glosses")
    folder = Path(given["features_dir"]) if "features_dir" in given else _default_features(annotations, root)
    if folder is not None:
        _add_features(found, folder, Path(given.get("converted_dir", cache_dir)))
    return found


def _checked(corpus: str, options: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [option for option in options if option not in OPTIONS]
    raise_all(
        [f"unknown option '{name}'{did_you_mean(name, OPTIONS)}; known: {', '.join(OPTIONS)}" for name in unknown],
        f"the options of the corpus '{corpus}'",
    )
    return {option: value for option, value in options.items() if value is not None}


def _rows(annotations: Annotations, split: str, name: str) -> list[dict[str, Any]]:
    frames = annotations.frames.get(split, {})
    return [_row(item, split, name, frames.get(item.id)) for item in annotations.usable(split)]


def _row(item: Annotation, split: str, name: str, frames: int | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": item.id,
        "split": split,
        "speaker": namespaced(item.signer, name),
        "text": item.text,
        "signer": item.signer,
    }
    if item.translation is not None:
        row["translation"] = item.translation
    if frames is not None:
        row["frames"] = frames
    return row


def _default_features(annotations: Annotations, root: str | Path | None) -> Path | None:
    """The folder of the release that has features of the training split, if any."""
    release = annotations.folder.parent.parent
    for folder in (release / "features", Path(root or ".") / "features", Path(root or ".")):
        if has_features(folder, "train") or find_pickle(folder, "train"):
            return folder
    return None


def _add_features(found: Survey, folder: Path, cache_dir: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", expected="the features", fix="correct features_dir")
    edition = EDITIONS[found.annotations.edition]
    clean = partial(normalise, name=edition.normaliser)
    for split, rows in found.splits.items():
        ids = [row["id"] for row in rows]
        place = folder
        if not (folder / split).is_dir() and (pickle := find_pickle(folder, split)):
            place = convert(pickle, split, ids, cache_dir)
        located = locate(place, split, ids)
        texts = {row["id"]: row["text"] for row in rows}
        missing = set(located.missing)
        if edition.checks_gloss:
            present = {name: path for name, path in located.paths.items() if name not in missing}
            found.problems |= gloss_problems(present, texts, clean)
        if located.others:
            found.notes.append(f"{split}: {len(located.others)} feature files of no utterance of the csv are not used")
        for row in rows:
            row["features"] = located.paths[row["id"]]
