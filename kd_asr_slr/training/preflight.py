"""What is checked before the first step, so that two days of training do not end in what one batch would have shown."""

from __future__ import annotations

import logging
from typing import Any

import torch
from datasets import DatasetDict

from kd_asr_slr.arguments import DataArguments, TeacherArguments
from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.outputs import given
from kd_asr_slr.processing.augmentation import check_for_cache
from kd_asr_slr.processing.dataset import RecogniserDataset
from kd_asr_slr.processing.feasibility import ctc_frames_needed
from kd_asr_slr.progress import Progress
from kd_asr_slr.teachers.cached import CachedTeachers
from kd_asr_slr.teachers.fingerprints import vocabulary_difference
from kd_asr_slr.training.building import subsampling_of
from kd_asr_slr.training.data import augmentation_of
from kd_asr_slr.training.matching import utterances_without_teachers
from kd_asr_slr.training.preflight_teachers import check_combined_target, worse_teachers
from kd_asr_slr.training.teaching import speakers_without_teacher
from kd_asr_slr.training.trainer import DistillationTrainer

logger = logging.getLogger(__name__)

FRAME_RATE_TOLERANCE = 1e-6
# What a student gives beside its logits, and the field of its configuration that says so.
STUDENT_OUTPUTS = {
    "decoder_logits": ("has_decoder",),
    "auxiliary_logits": ("auxiliary_classifier", "intermediate_layer"),
}
AUXILIARY_ADVICE = (
    "set model_options {intermediate_layer: N} (bilstm, i3d, mobilenet, nemo_hybrid; N: half of the layers), "
    "or {front: k5p2k5p2, auxiliary_classifier: true} (bilstm, i3d, mobilenet)"
)
DENSE_ADVICE = (
    "the soft targets hold some classes of each frame and rate_matching moves frames in time: cache them with "
    "--cache_format dense or quantised, or set --rate_matching equal"
)
TEACHER_ADVICE = "distil with teachers (recipes/distill.py), or set --{option} 0"


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
            trainer.diagnostics = check_combined_target(trainer, processor, corpus, data, teaching)
        check_one_batch(trainer)


def label_problems(items: RecogniserDataset, trainer: DistillationTrainer, listed: int = 5) -> list[str]:
    """Training utterances with labels outside of the vocabulary, or with fewer output frames than CTC needs."""
    output_length = subsampling_of(trainer.model)
    unreadable, short = [], []
    for index in Progress(range(len(items)), "checking labels"):
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
    teachers: Any = trainer.teachers
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
        rows = trainer.train_dataset.rows
        problems += speakers_without_teacher(teachers, rows["speaker"]) + utterances_without_teachers(
            teachers, rows["id"]
        )
    return problems + worse_teachers(teaching, teachers)


def frame_rates_differ(trainer: DistillationTrainer) -> bool:
    """Whether teachers and student have frames of different length."""
    return abs(given(trainer.teachers, "teachers").frame_seconds / trainer.frame_seconds - 1) > FRAME_RATE_TOLERANCE


def missing_needs(trainer: DistillationTrainer) -> list[str]:
    """Losses that need what the teachers, or the student, do not give."""
    given = set() if trainer.teachers is None else set(trainer.teachers.provides)
    config = trainer.model.config
    given |= {
        output for output, options in STUDENT_OUTPUTS.items() if any(getattr(config, name, False) for name in options)
    }
    if any("other_view_logits" in item.loss.needs for item in trainer.losses) and trainer.train_dataset.two_views:
        given.add("other_view_logits")
    problems = []
    for item in trainer.losses:
        absent = sorted(item.loss.needs - given)
        if absent:
            have = ", ".join(sorted(given - {"dense_log_probs"})) or "none of it"
            advice = f"; {AUXILIARY_ADVICE}" if "auxiliary_logits" in absent else ""
            if absent == ["dense_log_probs"] and "log_probs" in given:
                advice = f"; {DENSE_ADVICE}"
            if trainer.teachers is None and item.loss.kind == "soft" and item.loss.weight_option:
                advice = f"; {TEACHER_ADVICE.format(option=item.loss.weight_option)}"
            problems.append(f"loss '{item.name}' needs {', '.join(absent)}; teachers and student give {have}{advice}")
    return problems


def _cache_problems(trainer: DistillationTrainer) -> list[str]:
    problems = []
    try:
        check_for_cache(augmentation_of(trainer.args))
    except UserError as error:
        problems.append(str(error))
    teachers: Any = trainer.teachers
    absent = teachers.reader.missing(list(trainer.train_dataset.rows["id"]))
    if absent:
        problems.append(f"{len(absent)} training utterances are not in the cached targets, e.g. '{absent[0]}'")
    return problems


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
