"""A corpus before training: everything counted, every file read, and a manifest of what can be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kd_asr_slr.arguments import DataArguments
from kd_asr_slr.command_line import as_dict
from kd_asr_slr.corpora import phoenix, speaker_folders, torgo, uaspeech
from kd_asr_slr.corpora.build import default_cache_dir
from kd_asr_slr.corpora.file_facts import inspect_files
from kd_asr_slr.corpora.integrity import Clean, Item, Report, make_report
from kd_asr_slr.corpora.known_counts import KNOWN
from kd_asr_slr.corpora.manifest import save_manifest
from kd_asr_slr.corpora.phoenix_annotations import BROKEN_FRAMES, BROKEN_ITEM, EDITIONS, VARIANTS, Annotations
from kd_asr_slr.corpora.recordings import Found
from kd_asr_slr.corpora.schema import SPLIT_ORDER
from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.feasibility import ctc_frames_needed
from kd_asr_slr.text import normalise, normaliser_of_split
from kd_asr_slr.training.data import corpus_name, load_rows

Row = Mapping[str, Any]
# Loaders that say what they leave out, and the columns whose values are counted.
SURVEYS: dict[str, Callable[..., Found]] = {
    "uaspeech": uaspeech.survey,
    "torgo": torgo.survey,
    "speaker_folders": speaker_folders.survey,
}
GROUPED = ("block", "microphone", "band", "category", "session", "group")


def prepare(data: DataArguments, output: str | Path | None = None) -> Report:
    """Look at everything a corpus holds; keypoint pickles are converted on the way.

    Args:
        data: which corpus, and where.
        output: a manifest (.csv) to write: the utterances whose files can be used.

    Returns:
        The report; with problems where anything is wrong.

    Raises:
        UserError: if nothing can be said of the corpus: no annotations, a manifest that cannot be read.

    Example:
        >>> prepare(DataArguments(corpus="fsdd", data_dir="free-spoken-digit-dataset")).problems
        []
    """
    if data.corpus in VARIANTS:
        report, rows = _prepare_phoenix(data)
    else:
        report, rows = _prepare_other(data)
    if output:
        save_manifest(output, rows)
        report.notes.append(f"{len(rows)} utterances with usable files written to {output}")
    return report


def _prepare_other(data: DataArguments) -> tuple[Report, list[Row]]:
    found = _survey(data)
    rows = found.rows
    facts = inspect_files(_path(row) for row in rows)
    items = [Item(row["id"], row["split"], row["speaker"], row["text"], _path(row)) for row in rows]
    report = make_report(
        f"corpus '{corpus_name(data)}'",
        items,
        facts,
        clean=_clean_up(data.normaliser, data.train_split),
        frames_needed=ctc_frames_needed,
        known_problems=found.problems,
        notes=found.notes,
    )
    report.problems += found.differences
    report.groups = {name: counts for name in GROUPED if (counts := _counts_by(rows, name))}
    return report, [row for row in rows if _path(row) not in facts.problems]


def _survey(data: DataArguments) -> Found:
    """The rows of a corpus, and what its loader leaves out."""
    if data.corpus not in SURVEYS:
        return Found([row for split in load_rows(data).values() for row in split.to_list()])
    options = as_dict(data.corpus_options)
    found = SURVEYS[data.corpus](name=data.corpus_name, root=data.data_dir, options=options)
    if not found.rows:
        raise UserError(f"{data.data_dir} holds no usable recording", expected=f"a copy of {data.corpus}")
    found.rows.sort(key=lambda row: SPLIT_ORDER.index(row["split"]))  # the first split is what words are known from
    return found


def _counts_by(rows: Sequence[Row], column: str) -> dict[str, int]:
    return dict(sorted(Counter(str(row[column]) for row in rows if row.get(column) is not None).items()))


def _prepare_phoenix(data: DataArguments) -> tuple[Report, list[Row]]:
    options = as_dict(data.corpus_options)
    found = phoenix.survey(
        data.corpus, name=data.corpus_name, root=data.data_dir, options=options, cache_dir=default_cache_dir()
    )
    rows = [row for split in found.splits.values() for row in split]
    facts = inspect_files(row["features"] for row in rows if "features" in row)
    notes = list(found.notes)
    if not any("features" in row for row in rows):
        notes.append("annotations only: set features_dir in corpus_options to have the features checked")
    edition = found.annotations.edition
    report = make_report(
        f"corpus '{edition}', annotations in {found.annotations.folder}",
        _phoenix_items(found.annotations, rows),
        facts,
        clean=_clean_up(EDITIONS[edition].normaliser, "train"),
        frames_needed=ctc_frames_needed,
        known=KNOWN.get(edition),
        known_problems=found.problems,
        notes=notes,
    )
    bad = {**facts.problems, **found.problems}
    return report, [row for row in rows if "features" in row and row["features"] not in bad]


def _clean_up(normaliser: str, train_split: str) -> Clean:
    """The normaliser of each split: what PHOENIX publishes as references is clean already."""
    normalise("", normaliser)
    return lambda split, text: normalise(text, normaliser_of_split(normaliser, training=split == train_split))


def _phoenix_items(annotations: Annotations, rows: Sequence[Row]) -> list[Item]:
    by_id = {(row["split"], row["id"]): row for row in rows}
    items = []
    for split, utterances in annotations.splits.items():
        for utterance in utterances:
            row = by_id.get((split, utterance.id), {})
            broken = utterance.id == BROKEN_ITEM
            frames = BROKEN_FRAMES if broken else row.get("frames")
            items.append(
                Item(utterance.id, split, utterance.signer, utterance.text, row.get("features"), frames, broken)
            )
    return items


def _path(row: Row) -> str:
    return row.get("audio") or row["features"]
