"""Which teachers have which utterance, from what their folders say of their training data."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from datasets import DatasetDict

from kd_asr_slr.arguments import DataArguments
from kd_asr_slr.corpora.schema import UNTRANSCRIBED
from kd_asr_slr.errors import raise_all
from kd_asr_slr.teachers.aggregation import AGGREGATIONS, AggregationSettings
from kd_asr_slr.teachers.frozen import FrozenTeacher
from kd_asr_slr.teachers.matching import Matching
from kd_asr_slr.teachers.pool import TeacherPool
from kd_asr_slr.training.data import training_part
from kd_asr_slr.training.training_data import read_training_data
from kd_asr_slr.training.untranscribed import training_rows

logger = logging.getLogger(__name__)


def matching_of(
    settings: AggregationSettings, teachers: Sequence[FrozenTeacher], corpus: DatasetDict, data: DataArguments
) -> Matching | None:
    """The matching of a run; None where every teacher is asked about every utterance.

    Args:
        settings: the rule; `route` and `best` ask one teacher and have no use for it.
        teachers: the specialists; `training_data.json` in a teacher's folder says which texts it has, else the training
            split of the speaker that it is bound to.
        corpus: the splits of the run.
        data: names the training and dev split, and the normaliser.

    Raises:
        UserError: if it is not known what a teacher was trained on, or utterances have no text to match.
    """
    if settings.matching == "all" or settings.name not in AGGREGATIONS:
        return None
    if AGGREGATIONS[settings.name].alone:
        logger.warning(
            "teacher_matching %s changes nothing: aggregation %s asks one teacher", settings.matching, settings.name
        )
        return None
    problems, known = [], []
    for teacher in teachers:
        words = texts_of(teacher, corpus, data)
        if words is None:
            problems.append(
                f"nothing says which words teacher {teacher.name} was trained on; expected training_data.json in its "
                "folder with the same normaliser, or a teacher bound to its speaker (--teachers SPEAKER=FOLDER): train "
                "it again, or set --teacher_matching all"
            )
        known.append(words or frozenset())
    if UNTRANSCRIBED in corpus and len(corpus[UNTRANSCRIBED]):
        problems.append(
            f"teacher_matching {settings.matching} compares words and {len(corpus[UNTRANSCRIBED])} untranscribed "
            "recordings have none; set --teacher_matching all"
        )
    raise_all(problems, "the teachers")
    rows = training_rows(corpus, data)
    texts: dict[str, str] = {}
    for part in (rows, training_part(corpus, data, data.dev_split)):
        texts |= dict(zip(part["id"], part["text"], strict=True))
    return Matching(settings.matching, settings.min_teachers, texts, known, list(rows["id"]))


def texts_of(teacher: FrozenTeacher, corpus: DatasetDict, data: DataArguments) -> frozenset[str] | None:
    """The transcripts in a teacher's own training data; None where nothing tells."""
    record = read_training_data(teacher.name)
    if record is not None and record.normaliser == data.normaliser:
        return frozenset(record.transcripts)
    if not teacher.speakers or record is not None:
        return None
    part = corpus[data.train_split]
    return frozenset(
        text for text, speaker in zip(part["text"], part["speaker"], strict=True) if speaker in teacher.speakers
    )


def utterances_without_teachers(pool: TeacherPool, ids: Sequence[str]) -> list[str]:
    """The sentence about utterances that too few teachers have; none where the policy is not to refuse them."""
    if pool.matching is None or pool.settings.unknown_speaker != "error":
        return []
    short = pool.matching.short(ids)
    return [pool.matching.sentence(short)] if short else []
