"""Teachers from arguments: live ones, or the soft targets that were cached from them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from kd_asr_slr.arguments import DataArguments, TeacherArguments
from kd_asr_slr.corpora.splits import list_speakers, resolve_speakers
from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.hub_names import may_be_hub_name
from kd_asr_slr.models.auto import load_model
from kd_asr_slr.models.loading import commit_of
from kd_asr_slr.processing.auto import load_processor
from kd_asr_slr.teachers.aggregation import AggregationSettings
from kd_asr_slr.teachers.cached import CachedTeachers
from kd_asr_slr.teachers.formats import format_of
from kd_asr_slr.teachers.frozen import FrozenTeacher
from kd_asr_slr.teachers.manifest import fingerprint_of_texts, manifest_of, require_match
from kd_asr_slr.teachers.pool import TeacherPool
from kd_asr_slr.teachers.store import StoreReader
from kd_asr_slr.training.bindings import bindings_of
from kd_asr_slr.training.data import corpus_name, media_fingerprint
from kd_asr_slr.training.dev_scores import dev_wer_of, other_protocols, warn_of_other_speakers
from kd_asr_slr.training.matching import matching_of
from kd_asr_slr.training.provenance import informed_teachers
from kd_asr_slr.training.settings import aggregation_settings
from kd_asr_slr.training.untranscribed import training_rows

logger = logging.getLogger(__name__)

WEIGHING = ("best", "weighted")  # aggregations that compare the teachers' dev WERs


def build_teachers(
    teaching: TeacherArguments, processor: Any, corpus: DatasetDict, data: DataArguments
) -> TeacherPool | CachedTeachers:
    """The teachers of a run: the cache where `teacher_cache` is given, live ones otherwise.

    A cache is compared with the teachers, where they are given too, and with the training split.

    Args:
        teaching: who teaches.
        processor: the student's.
        corpus: the splits of the run.
        data: which of them is trained on.

    Raises:
        UserError: if a teacher cannot be read, teachers do not agree, or the cache was made for something else.
    """
    if not teaching.teacher_cache:
        return build_pool(teaching, processor, corpus, data.held_out_speakers, data)
    reader = StoreReader(teaching.teacher_cache)
    expected: Any
    if teaching.teachers:
        pool = build_pool(teaching, processor, corpus, data.held_out_speakers, data)
        expected = manifest_for(pool, teaching, corpus, data)
    else:
        cached = [teacher["name"] for teacher in (*reader.manifest.teachers, reader.manifest.generalist) if teacher]
        raise_all(informed_teachers(teaching, data, list_speakers(corpus), cached), "the teachers")
        part = training_rows(corpus, data)
        expected = {
            "ids": fingerprint_of_texts(part["id"]),
            "count": len(part),
            "tokens": processor.tokens,
            "blank_id": processor.blank_id,
            "media": media_fingerprint(part, corpus, data),
        }
    require_match(teaching.teacher_cache, reader.manifest, expected)
    if data.media_check == "full":
        reader.require_whole()
    return CachedTeachers(reader)


def speakers_without_teacher(pool: TeacherPool, speakers: Iterable[str]) -> list[str]:
    """The sentence about speakers that no teacher is bound to; none where the policy is not to refuse them."""
    if pool.settings.name != "route" or pool.settings.unknown_speaker != "error":
        return []
    unknown = pool.unknown_speakers(speakers)
    if not unknown:
        return []
    return [
        f"no teacher is bound to {', '.join(unknown)}; bind one (--teachers SPEAKER=FOLDER), leave these speakers out "
        "(--train_speakers), or say what happens (--unknown_speaker generalist, logprob_mean or skip)"
    ]


def manifest_for(pool: TeacherPool, teaching: TeacherArguments, corpus: DatasetDict, data: DataArguments) -> Any:
    """What a cache of these teachers over the training split says of itself."""
    part = training_rows(corpus, data)
    return manifest_of(
        pool,
        corpus=corpus_name(data),
        ids=part["id"],
        transcripts=part["text"],
        dtype=teaching.cache_dtype,
        target_format=format_of(teaching.target_format).describe(),
        shard_size=teaching.cache_shard_size,
        hidden_layers=teaching.cache_hidden_layers,
        media=media_fingerprint(part, corpus, data),
    )


def build_pool(
    teaching: TeacherArguments,
    processor: Any,
    corpus: DatasetDict,
    held_out: Sequence[str] = (),
    data: DataArguments | None = None,
) -> TeacherPool:
    """The live teachers.

    Args:
        teaching: who teaches.
        processor: the student's.
        corpus: the splits of the run.
        held_out: speakers that nobody trains on, so that nobody's teacher may be theirs.
        data: the run's corpus, with which the teachers' training data are compared.

    Raises:
        UserError: if a folder is no trained run, a speaker is unknown or held out, a teacher was trained on a held-out
            speaker, or the teachers do not agree.
    """
    if not teaching.teachers:
        raise UserError("no teachers are given", fix="set --teachers FOLDER [FOLDER ...]")
    known = list_speakers(corpus)
    bindings = bindings_of(teaching.teachers)
    bound = resolve_speakers([speaker for speaker, _ in bindings if speaker], known)
    problems = _held_out_problems(sorted(set(bound) & set(resolve_speakers(held_out, known))), teaching)
    paths = [path for _, path in bindings]
    problems += _unreadable([*paths, *([teaching.generalist] if teaching.generalist else [])])
    problems += informed_teachers(teaching, data, known) if data is not None else []
    if teaching.aggregation in WEIGHING:
        problems += other_protocols(paths)
    raise_all(problems, "the teachers")
    teachers = [
        load_teacher(path, resolve_speakers([speaker], known) if speaker else [], teaching, processor)
        for speaker, path in bindings
    ]
    generalist = load_teacher(teaching.generalist, [], teaching, processor) if teaching.generalist else None
    raise_all(_other_media([*teachers, *([generalist] if generalist else [])], processor), "the teachers")
    settings = aggregation_settings(teaching)
    if settings.name == "route" and len(teachers) == 1 and not teachers[0].speakers:
        logger.info("one teacher for every speaker: it teaches all utterances")
        teachers[0].speakers = frozenset(known)
    if settings.name in WEIGHING:
        warn_of_other_speakers(paths, settings.name)
    matching = matching_of(settings, teachers, corpus, data or DataArguments())
    return TeacherPool(teachers, settings, _speaking(generalist, settings, matching is not None), matching)


def _speaking(generalist: FrozenTeacher | None, settings: AggregationSettings, matching: bool) -> FrozenTeacher | None:
    """The generalist, where there is an utterance for which it may speak."""
    asked = settings.unknown_speaker == "generalist" and (settings.name == "route" or matching)
    if generalist is None or asked or settings.generalist_weight > 0:
        return generalist
    logger.warning(
        "generalist %s never speaks and is left out: its weight is 0 and unknown_speaker does not ask it; set "
        "--generalist_weight (aggregation route: or --unknown_speaker generalist)",
        generalist.name,
    )
    return None


def _held_out_problems(speakers: Sequence[str], teaching: TeacherArguments) -> list[str]:
    """Sentences about held-out speakers with a teacher of their own; a warning instead where that was asked for."""
    if not teaching.held_out_as_teacher:
        return [
            f"a teacher is bound to {speaker}, who is held out; leave it out, take {speaker} out of held_out_speakers, "
            "or set --held_out_as_teacher true for a debug run"
            for speaker in speakers
        ]
    if speakers:
        logger.warning(
            "WARNING: held_out_as_teacher is set: the teacher of %s has heard this speaker, who is held out. This is a "
            "debug run; its score is NOT one on an unseen speaker.",
            ", ".join(speakers),
        )
    return []


def load_teacher(path: str, speakers: list[str], teaching: TeacherArguments, processor: Any) -> FrozenTeacher:
    """One frozen teacher from a run folder or a hub name."""
    return FrozenTeacher(
        load_model(path),
        load_processor(path),
        name=path,
        speakers=speakers,
        dev_wer=dev_wer_of(path),
        precision=teaching.teacher_dtype,
        student_features=processor.fingerprint,
        revision=commit_of(path),
    )


def _other_media(teachers: Sequence[FrozenTeacher], processor: Any) -> list[str]:
    """Sentences about teachers that take audio of another rate than the student, or something else than audio."""

    def media(taker: Any) -> str:
        return f"audio of {taker.sampling_rate} Hz" if taker.sampling_rate else "features"

    return [
        f"teacher {teacher.name} takes {media(teacher.processor)} and the student {media(processor)}"
        for teacher in teachers
        if teacher.processor.sampling_rate != processor.sampling_rate
    ]


def _unreadable(paths: Any) -> list[str]:
    """Sentences about local folders that were never finished, so that all of them are named at once."""
    found = []
    for path in paths:
        folder = Path(path)
        if folder.exists() and not (folder / "config.json").is_file():
            found.append(f"{path} holds no trained model; expected a run folder that recipes/train.py finished")
        elif not folder.exists() and not may_be_hub_name(path):
            found.append(f"there is no folder {path}; train this teacher first")
    return found
