"""Features of a corpus as one file an utterance, `<root>/<split>/<id>.npz` (.npy, .pose): found and checked by id."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from kd_asr_slr.corpora.arrays import embedded_text
from kd_asr_slr.corpora.schema import SUFFIXES
from kd_asr_slr.errors import UserError

FEATURE_SUFFIXES = tuple(suffix for suffix, kind in SUFFIXES.items() if kind == "features")
GLOSS_KEY = "gloss"


@dataclass
class Located:
    """The feature files of a split.

    Attributes:
        paths: id -> file; where there is none, the file that was expected.
        missing: ids without a file.
        others: feature files of no utterance of the split.
    """

    paths: dict[str, str]
    missing: list[str]
    others: list[str]


def has_features(folder: Path, split: str) -> bool:
    """Whether a feature file lies in `<folder>/<split>`."""
    inside = folder / split
    return inside.is_dir() and any(_is_feature(entry.name) for entry in os.scandir(inside))


def locate(root: Path, split: str, ids: Sequence[str]) -> Located:
    """Find the file of each utterance of a split.

    Args:
        root: the folder of the features, with one folder a split.
        split: name of the split.
        ids: utterances, as the annotations call them.

    Raises:
        UserError: if there is no folder for the split, or it holds the features of other utterances only.
    """
    folder = root / split
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {folder}",
            expected=f"the features of '{split}' as <id>{', <id>'.join(FEATURE_SUFFIXES)}",
            fix="set features_dir to the folder above train, dev and test",
        )
    names = {entry.name for entry in os.scandir(folder) if _is_feature(entry.name)}
    found = {name: file for name in ids if (file := _file_of(name, names))}
    others = sorted(names - set(found.values()))
    if not found:
        raise _nothing_in_common(folder, split, ids, others)
    suffix = Counter(Path(file).suffix for file in found.values()).most_common(1)[0][0]
    paths = {name: str(folder / found.get(name, f"{name}{suffix}")) for name in ids}
    return Located(paths, [name for name in ids if name not in found], others)


def gloss_problems(paths: Mapping[str, str], texts: Mapping[str, str], clean: Callable[[str], str]) -> dict[str, str]:
    """Sentences, by path, about files whose `gloss` is not what the annotations say of their utterance.

    Args:
        paths: id -> file that exists; only .npz files can hold a gloss.
        texts: id -> glosses as annotated.
        clean: the gloss clean-up of the corpus; a file may hold cleaned glosses too.
    """
    problems: dict[str, str] = {}
    owners: dict[tuple[str, ...], str] | None = None
    for name, path in paths.items():
        try:
            held = embedded_text(Path(path), GLOSS_KEY) if path.endswith(".npz") else None
        except UserError as error:
            problems[path] = str(error)
            continue
        if held is None or _forms(held, clean) & _forms(texts[name], clean):
            continue
        if owners is None:
            owners = {form: owner for owner, text in texts.items() for form in _forms(text, clean)}
        owner = next((owners[form] for form in _forms(held, clean) if form in owners), None)
        problems[path] = _other_utterance(path, name, texts[name], held, owner)
    return problems


def _forms(text: str, clean: Callable[[str], str]) -> set[tuple[str, ...]]:
    """The glosses as they are and cleaned, whatever their case; repetitions as one, since tools differ in them."""
    return {tuple(gloss for gloss, _ in groupby(form.upper().split())) for form in (text, clean(text))}


def _other_utterance(path: str, name: str, text: str, held: str, owner: str | None) -> str:
    of = f" (those of '{owner}')" if owner else ""
    return (
        f"{path} holds the features of another utterance: its glosses are '{_start(held)}'{of}, "
        f"those of '{name}' in the csv are '{_start(text)}'"
    )


def _start(text: str, glosses: int = 6) -> str:
    words = text.split()
    return " ".join(words[:glosses]) + (" ..." if len(words) > glosses else "")


def _is_feature(name: str) -> bool:
    return name.endswith(FEATURE_SUFFIXES) and not name.startswith(".")


def _file_of(name: str, names: Iterable[str]) -> str | None:
    return next((file for suffix in FEATURE_SUFFIXES if (file := name + suffix) in names), None)


def _nothing_in_common(folder: Path, split: str, ids: Sequence[str], others: Sequence[str]) -> UserError:
    held = f"{len(others)} feature files such as '{others[0]}'" if others else "no feature file"
    return UserError(
        f"{folder} has no utterance in common with the csv of '{split}': it holds {held}, the csv names '{ids[0]}'",
        expected=f"<id>{', <id>'.join(FEATURE_SUFFIXES)}",
        fix="check that features and annotations are of the same corpus and split",
    )
