"""Moving rows between splits: what every split policy is made of."""

from __future__ import annotations

from collections.abc import Sequence

from datasets import Dataset, DatasetDict, concatenate_datasets

from kd_asr_slr.corpora.row_files import with_value
from kd_asr_slr.corpora.schema import SPLIT_ORDER, UNTRANSCRIBED, did_you_mean
from kd_asr_slr.corpora.speaker_shares import utterances_for_dev
from kd_asr_slr.errors import UserError


def pooled(corpus: DatasetDict) -> Dataset:
    """All rows with a text, whatever their split."""
    parts = [part for name, part in corpus.items() if name != UNTRANSCRIBED]
    return concatenate_datasets(parts)


def divided(pool: Dataset, splits: Sequence[str | None], corpus: DatasetDict) -> DatasetDict:
    """The rows of a pool in the split named for each of them; None leaves a row out.

    Args:
        pool: from `pooled`.
        splits: train, dev, test or None, for each row.
        corpus: where the pool comes from; its recordings without text stay as they are.
    """
    found = {
        name: renamed(pool.select([row for row, split in enumerate(splits) if split == name]), name)
        for name in SPLIT_ORDER
    }
    rest = {name: part for name, part in corpus.items() if name == UNTRANSCRIBED}
    return DatasetDict({**found, **rest})


def renamed(dataset: Dataset, split: str) -> Dataset:
    """The same rows in the same columns, with another name in `split`."""
    return with_value(dataset, "split", split)


def utterances_of(rows: Dataset) -> list[str]:
    """What each row is a recording of: `speaker/utterance`, shared by all microphones, or `speaker/id`."""
    ids = rows["id"][:]
    names = rows["utterance"][:] if "utterance" in rows.column_names else ids
    return [f"{speaker}/{name or own}" for speaker, name, own in zip(rows["speaker"][:], names, ids, strict=True)]


def with_dev(pool: Dataset, splits: Sequence[str | None], share: float) -> list[str | None]:
    """The splits, with a share of each speaker's training utterances moved to dev, all microphones together."""
    rows = list(zip(pool["speaker"][:], utterances_of(pool), splits, strict=True))
    tuned = utterances_for_dev([(speaker, name) for speaker, name, split in rows if split == "train"], share)
    return ["dev" if split == "train" and name in tuned else split for _, name, split in rows]


def column_of(pool: Dataset, name: str, what: str) -> list[str | None]:
    """The values of a column.

    Raises:
        UserError: if the corpus has no such column.
    """
    if name not in pool.column_names:
        raise UserError(
            f"this corpus has no column '{name}'",
            expected=f"the {what} of every recording, as UASpeech has them",
            fix="choose another split policy, or add the column to the manifest",
        )
    return pool[name][:]


def check_known(names: Sequence[str], known: Sequence[str | None], what: str) -> None:
    """Refuse names that stand nowhere in a column.

    Raises:
        UserError: with the name, the closest known one, and all of them.
    """
    present = sorted({value for value in known if value is not None})
    for name in names:
        if name not in present:
            raise UserError(
                f"there is no {what} '{name}'{did_you_mean(name, present)}", expected=f"some of {', '.join(present)}"
            )


def check_not_empty(corpus: DatasetDict, what: str, fix: str) -> DatasetDict:
    """The corpus.

    Raises:
        UserError: if a split has no utterance.
    """
    for name, split in corpus.items():
        if len(split) == 0:
            raise UserError(
                f"{what} leaves no utterance in '{name}'", expected="at least one utterance in every split", fix=fix
            )
    return corpus
