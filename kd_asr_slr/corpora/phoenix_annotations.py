"""The annotation files of RWTH-PHOENIX-Weather 2014 and 2014-T: where they lie, and what is in them.

Source: Koller, Forster and Ney, "Continuous sign language recognition" (CVIU 2015); Camgoz et al., "Neural Sign
Language Translation" (CVPR 2018); the folders and headers are those of the distributed archives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kd_asr_slr.corpora.schema import SPLIT_ORDER, did_you_mean, row_problems, shortened
from kd_asr_slr.errors import UserError, raise_all

# 16 frames for 16 glosses in the training csv: the video was cut off. It is in no official reference file.
BROKEN_ITEM = "13April_2011_Wednesday_tagesschau_default-14"
BROKEN_FRAMES = 16


@dataclass(frozen=True)
class Edition:
    """One edition of the corpus.

    Attributes:
        folder: where its csv files lie inside the release; any tail of it may already be in the path the user gives.
        files: split -> name of its csv file.
        columns: our name -> name in the header.
        normaliser: name of its official gloss clean-up in `text.NORMALISERS`.
        checks_gloss: whether the glosses saved beside features must be these; features are made with the standard ones.
    """

    folder: tuple[str, ...]
    files: Mapping[str, str]
    columns: Mapping[str, str]
    normaliser: str
    checks_gloss: bool = True


def _files(pattern: str, **others: str) -> dict[str, str]:
    return {split: pattern.format(split=split) for split in SPLIT_ORDER} | others


_COLUMNS_2014 = {"id": "id", "signer": "signer", "text": "annotation"}
_COLUMNS_2014T = {"id": "name", "signer": "speaker", "text": "orth", "translation": "translation"}
_FOLDER_2014T = ("PHOENIX-2014-T-release-v3", "PHOENIX-2014-T", "annotations", "manual")
_PATTERN_2014T = "PHOENIX-2014-T.{split}.corpus.csv"

EDITIONS: dict[str, Edition] = {
    "phoenix2014": Edition(
        ("phoenix2014-release", "phoenix-2014-multisigner", "annotations", "manual"),
        _files("{split}.corpus.csv"),
        _COLUMNS_2014,
        "phoenix2014",
    ),
    "phoenix2014_si5": Edition(
        ("phoenix2014-release", "phoenix-2014-signerindependent-SI5", "annotations", "manual"),
        _files("{split}.SI5.corpus.csv"),
        _COLUMNS_2014,
        "phoenix2014",
    ),
    "phoenix2014t": Edition(_FOLDER_2014T, _files(_PATTERN_2014T), _COLUMNS_2014T, "phoenix2014t"),
    "phoenix2014t_complex": Edition(
        _FOLDER_2014T,
        _files(_PATTERN_2014T, train=_PATTERN_2014T.format(split="train-complex-annotation")),
        _COLUMNS_2014T,
        "phoenix2014t",
        checks_gloss=False,
    ),
}
# Name of a variant, as an option of a corpus -> edition.
VARIANTS: dict[str, dict[str, str]] = {
    "phoenix2014": {"multisigner": "phoenix2014", "si5": "phoenix2014_si5"},
    "phoenix2014_si5": {"si5": "phoenix2014_si5"},
    "phoenix2014t": {"standard": "phoenix2014t", "complex": "phoenix2014t_complex"},
}


@dataclass(frozen=True)
class Annotation:
    """One utterance of a csv file; `text` holds the glosses as distributed, runs of blanks included."""

    id: str
    signer: str
    text: str
    translation: str | None = None

    @property
    def glosses(self) -> list[str]:
        """The glosses: divided at runs of blanks."""
        return self.text.split()


@dataclass
class Annotations:
    """The annotations of an edition.

    Attributes:
        edition: key of `EDITIONS`.
        folder: where the csv files lie.
        splits: split -> its utterances in the order of the csv, the broken item included.
        frames: split -> frames of each video, from `{split}.num_frames.csv` beside the annotations; else empty.
    """

    edition: str
    folder: Path
    splits: dict[str, list[Annotation]]
    frames: dict[str, dict[str, int]] = field(default_factory=dict)

    def usable(self, split: str) -> list[Annotation]:
        """The utterances of a split without the broken item."""
        return [item for item in self.splits[split] if item.id != BROKEN_ITEM]


def edition_of(corpus: str, variant: str | None) -> str:
    """The key of `EDITIONS` for a corpus and its option `variant`.

    Raises:
        UserError: for a variant the corpus does not have.
    """
    if variant is None:
        return corpus
    variants = VARIANTS[corpus]
    name = str(variant).lower()
    if name not in variants:
        raise UserError(
            f"the corpus '{corpus}' has no variant '{variant}'{did_you_mean(name, variants)}",
            expected=f"one of {', '.join(variants)}",
        )
    return variants[name]


def read_annotations(root: str | Path | None, edition: str = "phoenix2014") -> Annotations:
    """Read the annotations of train, dev and test.

    Args:
        root: the release, any folder on the way to its `annotations/manual`, or a folder with the csv files.
        edition: a key of `EDITIONS`.

    Raises:
        UserError: if a file or a column is missing, or a row cannot be used.

    Example:
        >>> read_annotations("phoenix2014-release").splits["dev"][0].glosses[:3]
        ['ICH', 'OSTERN', 'WETTER']
    """
    folder = _annotation_folder(root, edition)
    known = EDITIONS[edition]
    splits = {split: _read_csv(folder / known.files[split], known) for split in SPLIT_ORDER}
    frames = {split: _read_frames(folder / f"{split}.num_frames.csv") for split in SPLIT_ORDER}
    return Annotations(edition, folder, splits, {split: counts for split, counts in frames.items() if counts})


def _annotation_folder(root: str | Path | None, edition: str) -> Path:
    known = EDITIONS[edition]
    expected = f"{'/'.join(known.folder)}/{known.files['train']}"
    if root is None:
        raise UserError(f"the corpus '{edition}' has no folder", expected=expected, fix="set --data_dir to the release")
    base = Path(root)
    tails = [known.folder[start:] for start in range(len(known.folder) + 1)]
    for folder in (base.joinpath(*tail) for tail in tails):
        present = [split for split in SPLIT_ORDER if (folder / known.files[split]).is_file()]
        if present:
            _check_all_present(folder, known, present)
            return folder
    raise UserError(f"{base} holds no annotations of '{edition}'", expected=expected, fix="correct --data_dir")


def _check_all_present(folder: Path, known: Edition, present: list[str]) -> None:
    missing = [known.files[split] for split in SPLIT_ORDER if split not in present]
    if missing:
        raise UserError(
            f"{folder} has {known.files[present[0]]} but not {' and '.join(missing)}",
            expected="the csv files of train, dev and test",
            fix="copy the annotations again from the release",
        )


def _lines(path: Path) -> list[tuple[int, str]]:
    """Lines that are not blank, with their numbers."""
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start})", fix="copy it again from the release") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", fix="check the file's rights") from error
    lines = [(number, line.rstrip("\r")) for number, line in enumerate(content.split("\n"), 1)]
    return [(number, line) for number, line in lines if line.strip()]


def _read_csv(path: Path, known: Edition) -> list[Annotation]:
    lines = _lines(path)
    if len(lines) < 2:
        raise UserError(f"{path} holds no utterance", fix="copy it again from the release")
    header = [name.strip() for name in lines[0][1].split("|")]
    _check_header(path, header, known)
    places, rows, problems = [], [], []
    for number, line in lines[1:]:
        cells = line.split("|")
        if len(cells) != len(header):
            problems.append(f"line {number}: {len(cells)} fields, but the header has {len(header)}")
            continue
        places.append(f"line {number}")
        rows.append(dict(zip(header, (cell.strip() for cell in cells), strict=True)))
    columns = {name: [row[column] for row in rows] for name, column in known.columns.items()}
    checked = {"id": columns["id"], "speaker": columns["signer"], "text": columns["text"]}
    raise_all(shortened(problems + row_problems(checked, places)), f"the annotations {path}")
    return [Annotation(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def _check_header(path: Path, header: list[str], known: Edition) -> None:
    missing = [column for column in known.columns.values() if column not in header]
    if missing:
        names = " and ".join(f"'{name}'" for name in missing)
        raise UserError(
            f"{path} has no column {names}; its header is {'|'.join(header)}",
            expected=f"the columns {'|'.join(known.columns.values())}",
            fix="copy it again from the release",
        )


def _read_frames(path: Path) -> dict[str, int]:
    """Frames of each video of a split, from a file with the header id,num_frames; empty where there is none."""
    if not path.is_file():
        return {}
    counts = {}
    for number, line in _lines(path)[1:]:
        name, _, count = line.rpartition(",")
        if not name or not count.strip().isdecimal():
            raise UserError(f"{path}: line {number} is '{line}'", expected="id,num_frames")
        counts[name.strip()] = int(count)
    return counts
