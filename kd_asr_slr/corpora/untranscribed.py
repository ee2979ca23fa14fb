"""Recordings whose text nobody may see: moved or copied out of a split, with an empty text.

Teachers may still say what they hear in them; of other speakers, or, transductively, of the speaker that is tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset, DatasetDict, Value, concatenate_datasets

from kd_asr_slr.corpora.manifest import load_manifest
from kd_asr_slr.corpora.schema import MEDIA, PRIVATE_PREFIX, UNTRANSCRIBED
from kd_asr_slr.corpora.splits import filter_speakers, list_speakers, resolve_speakers
from kd_asr_slr.errors import UserError

SPELLING = ("word", "word_id", "utterance", "prompt", "translation", "category")  # columns that tell what was said


def load_untranscribed(path: str | Path, name: str, corpus: DatasetDict) -> Dataset:
    """The recordings of a manifest that nobody has transcribed; columns `text` and `split` are not read.

    Args:
        path: a manifest (see `load_manifest`); its paths are relative to its own folder.
        name: of the corpus, put before every speaker that has no namespace yet.
        corpus: what they are trained on with.

    Raises:
        UserError: with every problem of the manifest; if its files or its ids do not go with those of the corpus.
    """
    rows = load_manifest(path, name, untranscribed=True)[UNTRANSCRIBED]
    wanted = [kind for kind in MEDIA if any(kind in part.column_names for part in corpus.values())]
    if not set(wanted) & set(rows.column_names):
        raise UserError(f"the manifest {path} has no {' or '.join(wanted)}", expected="files as the corpus has them")
    taken = sorted(set(rows["id"]) & {name for part in corpus.values() for name in part["id"]})
    if taken:
        raise UserError(
            f"the manifest {path} has {len(taken)} ids that the corpus has too, e.g. '{taken[0]}'",
            expected="ids of its own",
            fix="give other ids; recordings of the corpus are named by --untranscribed_speakers instead",
        )
    return rows


def set_untranscribed(
    corpus: DatasetDict,
    speakers: Sequence[str],
    source: str,
    *,
    train: str = "train",
    dev: str = "dev",
    given: Sequence[Dataset] = (),
) -> DatasetDict:
    """The corpus with a split "untranscribed": what is given or has that name already, and what is named, without text.

    From the training split the recordings are moved, and the same speakers leave the dev split, because nobody has
    transcripts of them; from any other split they are copied, so that they are scored as well.

    Args:
        corpus: splits after the split policy.
        speakers: with or without their corpus; may be empty.
        source: split their recordings are taken from.
        train: name of the split to train on.
        dev: name of the split to tune on.
        given: more recordings without text.

    Raises:
        UserError: if the split or a speaker is unknown, or nothing is left to train or tune on.

    Example:
        >>> set_untranscribed(corpus, ["theo"], "train")["untranscribed"]["text"][:2]
        ['', '']
    """
    parts = [*given, *([corpus[UNTRANSCRIBED]] if UNTRANSCRIBED in corpus else [])]
    if speakers:
        if source not in corpus:
            raise UserError(
                f"there is no split '{source}' to take untranscribed recordings from",
                expected=f"one of {', '.join(corpus)}",
                fix="set --untranscribed_split",
            )
        named = resolve_speakers(speakers, list_speakers(corpus))
        parts.append(_recordings_of(corpus[source], named, source))
        if source == train:
            corpus = DatasetDict({**corpus, **{name: _without(corpus[name], named, name) for name in (train, dev)}})
    if not parts:
        return corpus
    return DatasetDict({**corpus, UNTRANSCRIBED: concatenate_datasets([_without_text(part) for part in parts])})


def marked(part: Dataset, value: bool) -> Dataset:
    """The rows with the column "untranscribed"."""
    return part.add_column(UNTRANSCRIBED, [value] * len(part)).cast_column(UNTRANSCRIBED, Value("bool"))


def _recordings_of(part: Dataset, speakers: Sequence[str], split: str) -> Dataset:
    absent = sorted(set(speakers) - set(list_speakers(part)))
    if absent:
        raise UserError(
            f"split '{split}' has no recordings of {', '.join(absent)}",
            expected="recordings of every speaker in untranscribed_speakers",
            fix="set --untranscribed_split to the split that has them",
        )
    return filter_speakers(part, speakers)


def _without(part: Dataset, speakers: Sequence[str], split: str) -> Dataset:
    kept = [row for row, speaker in enumerate(part["speaker"][:]) if speaker not in set(speakers)]
    if not kept:
        raise UserError(
            f"without {', '.join(speakers)} no utterance is left in '{split}'",
            expected="other speakers, with transcripts",
            fix="name fewer speakers in untranscribed_speakers",
        )
    return part.select(kept)


def _without_text(part: Dataset) -> Dataset:
    """The rows with an empty text, marked; columns that may spell it hold nothing."""
    count = len(part)
    columns = {name: [None] * count if _may_spell(name) else part[name][:] for name in part.column_names}
    return marked(Dataset.from_dict({**columns, "text": [""] * count}, features=part.features), True)


def _may_spell(column: str) -> bool:
    return column in SPELLING or column.startswith(PRIVATE_PREFIX)
