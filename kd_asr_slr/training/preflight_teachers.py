"""What is checked of teachers before the first step: each against the baseline, and all of them together."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from kd_asr_slr.arguments import DataArguments, TeacherArguments
from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.processing.dataset import RecogniserDataset
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.scoring.predictions import Prediction
from kd_asr_slr.teachers.cached import CachedTeachers
from kd_asr_slr.training.data import evaluation_items, protocol_of, training_part
from kd_asr_slr.training.dev_scores import dev_wer_of, only_dev_speaker_of, other_protocols
from kd_asr_slr.training.evaluation import batches, rates
from kd_asr_slr.training.target_diagnosis import diagnosis_table, listener_for, measure_target
from kd_asr_slr.training.trainer import DistillationTrainer

logger = logging.getLogger(__name__)

COLLAPSED_BLANK_RATIO = 0.999


def worse_teachers(teaching: TeacherArguments, teachers: Any) -> list[str]:
    """Teachers whose dev WER is worse than the baseline's on the same speakers: distilling from them cannot help.

    Args:
        teaching: names the baseline run, if there is one.
        teachers: live or cached; the teachers of a cache are judged by their run folders, where these are still there.
    """
    if not teaching.baseline_run or teaching.allow_worse_teacher:
        return []
    if not (Path(teaching.baseline_run) / "results.json").is_file():
        return [
            f"the baseline run {teaching.baseline_run} has no results.json; train it first, or leave out --baseline_run"
        ]
    judged = _judged(teachers)
    problems = other_protocols([*(name for name, _, _ in judged), teaching.baseline_run])
    if problems:
        return problems
    for name, speaker, dev_wer in judged:
        baseline = dev_wer_of(teaching.baseline_run, speaker)
        if baseline is not None and dev_wer is not None and dev_wer > baseline:
            problems.append(
                f"teacher {name} has {100 * dev_wer:.2f} % WER on dev and the student's baseline "
                f"{teaching.baseline_run} {100 * baseline:.2f} %; a worse teacher cannot help: take a better one, "
                f"distil from the baseline itself (self-distillation: --teachers {teaching.baseline_run}), "
                "or go on with --allow_worse_teacher true"
            )
    return problems


def _judged(teachers: Any) -> list[tuple[str, str | None, float | None]]:
    """Name, speaker (where it is the teacher of one) and dev WER of every teacher."""
    if isinstance(teachers, CachedTeachers):
        names = [teacher["name"] for teacher in teachers.describe()["teachers"]]
        return [(name, only_dev_speaker_of(name), dev_wer_of(name)) for name in names]
    return [
        (teacher.name, next(iter(teacher.speakers)) if len(teacher.speakers) == 1 else None, teacher.dev_wer)
        for teacher in teachers.teachers
    ]


def check_combined_target(
    trainer: DistillationTrainer,
    processor: Any,
    corpus: DatasetDict,
    data: DataArguments,
    teaching: TeacherArguments | None = None,
) -> dict[str, Any]:
    """Measure what the teachers say together on a few batches: of dev; cached ones of the training split.

    A mean of teachers that do not know a speaker collapses to blanks; here that shows in seconds.

    Returns:
        The figures, for `diagnostics` in results.json (see `target_diagnosis`); empty where nobody may speak.

    Raises:
        UserError: if the combined target is blank nearly everywhere, or worse than the baseline on the same utterances.
    """
    teachers: Any = trainer.teachers
    cached = isinstance(teachers, CachedTeachers)
    split = data.train_split if cached else data.dev_split
    listener = listener_for(trainer, processor, teaching)
    views = {**getattr(teachers, "views", {}), **(listener.views if listener else {})}
    if cached:
        items = evaluation_items(training_part(corpus, data, split), processor, data, views=views)
    else:
        items = dev_items(trainer, processor, data, views)
    found = batches(items, trainer.data_collator, trainer.args.eval_batch_size)
    heard = list(itertools.islice(found, trainer.args.preflight_batches)) if len(items) else []
    if not heard:
        logger.info("the combined target is not decoded: no teacher may speak for anyone in dev")
        return {}
    numbers, predictions = measure_target(teachers, heard, items.rows, processor, protocol_of(data), listener)
    numbers = {"split": split, **numbers}
    if not cached:
        rows = trainer.train_dataset.rows
        numbers["teachers_per_utterance"] = teachers.teachers_per_utterance(rows["id"], rows["speaker"])
    elif "mean_teachers" in (aggregation := teachers.describe()["aggregation"]):
        numbers["teachers_per_utterance"] = aggregation["mean_teachers"]
    logger.info("the combined target on %d %s utterances:\n%s", len(predictions), split, diagnosis_table(numbers))
    if numbers["blank_ratio"] > COLLAPSED_BLANK_RATIO and not math.isclose(numbers["wer"], 0.0):
        raise UserError(
            f"the combined target has collapsed: blank in {100 * numbers['blank_ratio']:.1f} % of the frames, "
            f"{100 * numbers['wer']:.1f} % WER when decoded on {split}",
            expected="a target that says something",
            fix="let each teacher speak for its own speaker (--aggregation route), or use teachers that know them all",
        )
    if teaching is not None:
        raise_all(worse_target(teaching, predictions, protocol_of(data)), "preflight")
    return numbers


def worse_target(teaching: TeacherArguments, predictions: Sequence[Prediction], protocol: str) -> list[str]:
    """The sentence about a combined target that is worse than the baseline on the very same dev utterances.

    Args:
        teaching: names the baseline run, if there is one.
        predictions: the combined target, decoded.
        protocol: by which both are scored.
    """
    if not teaching.baseline_run or teaching.allow_worse_teacher:
        return []
    theirs = _baseline_predictions(teaching.baseline_run, [row["id"] for row in predictions])
    if theirs is None:
        logger.info("the combined target is not compared with the baseline, which has not decoded these utterances")
        return []
    target, baseline = rates(predictions, protocol)["wer"], rates(theirs, protocol)["wer"]
    if target <= baseline:
        return []
    return [
        f"the combined target has {100 * target:.2f} % WER on {len(predictions)} dev utterances and the student's "
        f"baseline {teaching.baseline_run} {100 * baseline:.2f} % on the same ones; a worse target cannot help: let "
        "each teacher speak for its own speaker (--aggregation route), take better teachers, or go on with "
        "--allow_worse_teacher true"
    ]


def _baseline_predictions(baseline: str, ids: Sequence[str]) -> list[Prediction] | None:
    """The baseline's greedy dev predictions of some utterances, in their order; None where it has not all of them."""
    folder = RunFolder(baseline)
    known = (folder.path / "resolved_config.yaml").is_file()
    split = folder.config().get("dev_split", "dev") if known else "dev"
    if not folder.predictions_path(split).is_file():
        return None
    rows = {row["id"]: row for row in folder.read_predictions(split)}
    return [rows[name] for name in ids] if all(name in rows for name in ids) else None


def dev_items(
    trainer: DistillationTrainer, processor: Any, data: DataArguments, views: Mapping[str, Any]
) -> RecogniserDataset:
    """The dev split with the teachers' views of it, restricted to utterances that may be asked about."""
    rows = trainer.eval_dataset.rows
    pool: Any = trainer.teachers
    if pool.settings.unknown_speaker == "error":
        unknown = set(pool.unknown_speakers(rows["speaker"]) if pool.settings.name == "route" else [])
        short = set(pool.matching.short(rows["id"]) if pool.matching is not None else [])
        if unknown or short:
            pairs = enumerate(zip(rows["id"], rows["speaker"], strict=True))
            rows = rows.select([index for index, (name, who) in pairs if name not in short and who not in unknown])
    return evaluation_items(rows, processor, data, views=views)
