"""What is checked before the first step, so that two days of training do not end in what one batch would have shown."""

from __future__ import annotations

import itertools
import logging
import math
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict
from tqdm import tqdm

from kd_asr_slr.arguments import DataArguments, TeacherArguments
from kd_asr_slr.decoding.greedy import collapse
from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.processing.augmentation import check_for_cache
from kd_asr_slr.processing.dataset import RecogniserDataset
from kd_asr_slr.processing.feasibility import ctc_frames_needed
from kd_asr_slr.teachers.batches import batch_to
from kd_asr_slr.teachers.cached import CachedTeachers
from kd_asr_slr.teachers.diagnosis import diagnose
from kd_asr_slr.teachers.fingerprints import vocabulary_difference
from kd_asr_slr.training.data import augmentation_of, evaluation_items, protocol_of, training_part
from kd_asr_slr.training.evaluation import batches, prediction_of, rates
from kd_asr_slr.training.session import subsampling_of
from kd_asr_slr.training.teaching import dev_wer_of, only_dev_speaker_of, speakers_without_teacher
from kd_asr_slr.training.trainer import DistillationTrainer

logger = logging.getLogger(__name__)

FRAME_RATE_TOLERANCE = 1e-6
COLLAPSED_BLANK_RATIO = 0.999
# What a student gives beside its logits, and the field of its configuration that says so.
STUDENT_OUTPUTS = {"decoder_logits": "has_decoder", "auxiliary_logits": "auxiliary_classifier"}
AUXILIARY_ADVICE = """set model_options {front: k5p2k5p2, auxiliary_classifier: true} (bilstm, i3d, mobilenet)"""


def preflight(
    trainer: DistillationTrainer,
    processor: Any,
    corpus: DatasetDict,
    data: DataArguments,
    teaching: TeacherArguments | None = None,
) -> None:
    """Check a run: labels, teachers against student, the combined target, one batch. All problems at once.

    Args:
        trainer: of the run, not yet started.
        processor: the student's.
        corpus: its splits.
        data: which of them is tuned on.
        teaching: who teaches; None for a run on labels only.

    Raises:
        UserError: listing what would go wrong.
    """
    problems = label_problems(trainer.train_dataset, trainer) + missing_needs(trainer)
    if trainer.teachers is not None and teaching is not None:
        problems += teacher_problems(trainer, processor, teaching)
    raise_all(problems, "preflight")
    with torch.random.fork_rng(devices=[]):  # every new loader draws from it
        if trainer.teachers is not None and trainer.args.preflight_batches:
            check_combined_target(trainer, processor, corpus, data)
        check_one_batch(trainer)


def label_problems(items: RecogniserDataset, trainer: DistillationTrainer, listed: int = 5) -> list[str]:
    """Training utterances with labels outside of the vocabulary, or with fewer output frames than CTC needs."""
    output_length = subsampling_of(trainer.model)
    unreadable, short = [], []
    for index in tqdm(range(len(items)), desc="labels", disable=trainer.args.disable_tqdm, leave=False):
        try:
            labels = items.labels_of(index)
        except UserError as error:
            unreadable.append(str(error))
            continue
        frames, needed = output_length(items.length_of(index)), ctc_frames_needed(labels)
        if frames < needed:
            short.append(f"'{items.rows[index]['id']}' ({frames} frames, {needed} needed)")
    problems = unreadable[:listed]
    if len(unreadable) > listed:
        problems.append(f"and {len(unreadable) - listed} more utterances like these")
    if short:
        shown = ", ".join(short[:listed]) + (f" and {len(short) - listed} more" if len(short) > listed else "")
        problems.append(
            f"{len(short)} training utterances are too short for their labels after the model's subsampling: {shown}; "
            "take them out of the training split, or use a model with less subsampling"
        )
    return problems


def teacher_problems(trainer: DistillationTrainer, processor: Any, teaching: TeacherArguments) -> list[str]:
    """What keeps these teachers from teaching this student."""
    teachers = trainer.teachers
    problems = []
    difference = vocabulary_difference(
        teachers.tokens, teachers.blank_id, processor.tokens, processor.blank_id, "the teachers' list", "the student's"
    )
    if difference:
        problems.append(f"vocabularies differ: {difference}; build the student with --vocabulary TEACHER_RUN")
    if trainer.args.rate_matching == "equal" and frame_rates_differ(trainer):
        problems.append(
            f"the teachers have a frame every {teachers.frame_seconds:g} s and the student every "
            f"{trainer.frame_seconds:g} s; expected one frame rate, or --rate_matching resample"
        )
    if isinstance(teachers, CachedTeachers):
        problems += _cache_problems(trainer)
    else:
        problems += speakers_without_teacher(teachers, trainer.train_dataset.rows["speaker"])
    return problems + worse_teachers(teaching, teachers)


def frame_rates_differ(trainer: DistillationTrainer) -> bool:
    """Whether teachers and student have frames of different length."""
    return abs(trainer.teachers.frame_seconds / trainer.frame_seconds - 1) > FRAME_RATE_TOLERANCE


def missing_needs(trainer: DistillationTrainer) -> list[str]:
    """Losses that need what the teachers, or the student, do not give."""
    given = set() if trainer.teachers is None else set(trainer.teachers.provides)
    config = trainer.model.config
    given |= {output for output, option in STUDENT_OUTPUTS.items() if getattr(config, option, False)}
    problems = []
    for item in trainer.losses:
        absent = sorted(item.loss.needs - given)
        if absent:
            have = ", ".join(sorted(given)) or "none of it"
            advice = f"; {AUXILIARY_ADVICE}" if "auxiliary_logits" in absent else ""
            problems.append(f"loss '{item.name}' needs {', '.join(absent)}; teachers and student give {have}{advice}")
    return problems


def _cache_problems(trainer: DistillationTrainer) -> list[str]:
    problems = []
    try:
        check_for_cache(augmentation_of(trainer.args))
    except UserError as error:
        problems.append(str(error))
    absent = trainer.teachers.reader.missing([row["id"] for row in trainer.train_dataset.rows])
    if absent:
        problems.append(f"{len(absent)} training utterances are not in the cached targets, e.g. '{absent[0]}'")
    return problems


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
    problems = []
    for name, speaker, dev_wer in _judged(teachers):
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


@torch.no_grad()
def check_combined_target(
    trainer: DistillationTrainer, processor: Any, corpus: DatasetDict, data: DataArguments
) -> dict[str, float]:
    """Decode what the teachers say together, greedily, on a few batches: of dev; cached ones of the training split.

    A mean of teachers that do not know a speaker collapses to blanks; here that shows in seconds.

    Raises:
        UserError: if the combined target is blank nearly everywhere.
    """
    teachers = trainer.teachers
    cached = isinstance(teachers, CachedTeachers)
    if cached:
        items = evaluation_items(training_part(corpus, data, data.train_split), processor, data)
    else:
        items = dev_items(trainer, processor, corpus, data)
    found = batches(items, trainer.data_collator, trainer.args.eval_batch_size)
    heard = list(itertools.islice(found, trainer.args.preflight_batches)) if len(items) else []
    if not heard:
        logger.info("the combined target is not decoded: no teacher may speak for anyone in dev")
        return {}
    numbers, predictions = {"frames": 0, "blanks": 0}, []
    for batch in heard:
        signal = teachers.signal(batch if cached else batch_to(batch, teachers.device))
        for row, frames in enumerate((signal.lengths * (signal.weight > 0)).tolist()):
            best = signal.log_probs[row, :frames].argmax(-1).cpu().numpy()
            numbers["frames"] += frames
            numbers["blanks"] += int((best == processor.blank_id).sum())
            text = processor.decode_labels(collapse(best, processor.blank_id))
            predictions.append(prediction_of(items.rows[len(predictions)], text))
    numbers |= rates(predictions, protocol_of(data))
    numbers["blank_ratio"] = numbers["blanks"] / max(numbers["frames"], 1)
    if not cached:
        numbers |= diagnose(teachers, heard)
        logger.info("the teachers agree on %.1f %% of the frames", 100 * numbers["teacher_agreement"])
    logger.info(
        "combined target on %d %s utterances: WER %.1f %%, blank in %.1f %% of the frames",
        len(predictions),
        data.train_split if cached else data.dev_split,
        100 * numbers["wer"],
        100 * numbers["blank_ratio"],
    )
    if numbers["blank_ratio"] > COLLAPSED_BLANK_RATIO and not math.isclose(numbers["wer"], 0.0):
        raise UserError(
            f"the combined target has collapsed: blank in {100 * numbers['blank_ratio']:.1f} % of the frames, "
            f"{100 * numbers['wer']:.1f} % WER when decoded on {data.train_split if cached else data.dev_split}",
            expected="a target that says something",
            fix="let each teacher speak for its own speaker (--aggregation route), or use teachers that know them all",
        )
    return numbers


def dev_items(
    trainer: DistillationTrainer, processor: Any, corpus: DatasetDict, data: DataArguments
) -> RecogniserDataset:
    """The dev split with the teachers' views of it, restricted to speakers that may be asked about."""
    rows = trainer.eval_dataset.rows
    pool = trainer.teachers
    unknown = pool.unknown_speakers(rows["speaker"]) if pool.settings.name == "route" else []
    if unknown and pool.settings.unknown_speaker == "error":
        known = [index for index, speaker in enumerate(rows["speaker"]) if speaker not in set(unknown)]
        rows = rows.select(known)
    return evaluation_items(rows, processor, data, views=getattr(pool, "views", {}))


def check_one_batch(trainer: DistillationTrainer) -> None:
    """One batch through forward, every loss and backward; nothing of it stays: neither gradients nor random state.

    Raises:
        UserError: if a loss or a gradient is not finite.
    """
    model = trainer.model
    items = [trainer.train_dataset[index] for index in range(min(2, len(trainer.train_dataset)))]
    batch = trainer._prepare_inputs(trainer.data_collator(items))
    kept = {name: value.clone() for name, value in model.named_buffers()}
    with torch.random.fork_rng(enabled=True):
        model.train()
        loss = trainer.compute_loss(model, batch)
        loss.backward()
    bad = [
        name for name, value in model.named_parameters() if value.grad is not None and not value.grad.isfinite().all()
    ]
    finite = bool(loss.isfinite())
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, value in model.named_buffers():
            value.copy_(kept[name])
    trainer.forget_parts()
    if not finite or bad:
        raise UserError(
            f"the loss of a first batch is {float(loss.detach()):g}"
            + (f" and the gradient of {bad[0]} is not finite" if bad else ""),
            expected="finite numbers",
            fix="check features and labels of " + ", ".join(batch["ids"]),
        )
