"""What a run trains on where some recordings have no text: soft targets are all that a student learns of them."""

from __future__ import annotations

import logging
from typing import Any

from datasets import Dataset, DatasetDict, concatenate_datasets

from kd_asr_slr.arguments import DataArguments
from kd_asr_slr.corpora.schema import UNTRANSCRIBED
from kd_asr_slr.corpora.untranscribed import marked
from kd_asr_slr.training.data import training_part

logger = logging.getLogger(__name__)


def training_rows(corpus: DatasetDict, data: DataArguments, soft_targets: bool = True) -> Dataset:
    """The training part of a run and, with soft targets to learn from, the untranscribed recordings.

    Args:
        corpus: from `load_data`.
        data: names the training split and its speakers.
        soft_targets: whether there are teachers; without them an untranscribed recording says nothing.

    Returns:
        The rows; untranscribed ones have the text "" and, in the column "untranscribed", true.
    """
    rows = training_part(corpus, data, data.train_split)
    if not soft_targets or UNTRANSCRIBED not in corpus:
        return rows
    return concatenate_datasets([marked(rows, False), corpus[UNTRANSCRIBED]])


def describe_untranscribed(corpus: DatasetDict, data: DataArguments) -> dict[str, Any]:
    """What results.json says of the untranscribed recordings; empty where there are none.

    `transductive` is true where a recording is of a speaker that the test split has too.
    """
    if UNTRANSCRIBED not in corpus:
        return {}
    part = corpus[UNTRANSCRIBED]
    tested = set(training_part(corpus, data, data.test_split)["speaker"])
    transductive = bool(tested & set(part["speaker"]))
    if transductive:
        logger.warning("TRANSDUCTIVE: the student hears recordings, without text, of speakers that it is tested on")
    return {UNTRANSCRIBED: {"utterances": len(part), "transductive": transductive}}
