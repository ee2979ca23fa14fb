"""The trainer of a run, put together from its arguments: datasets, losses, schedules, callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from datasets import DatasetDict
from transformers import EarlyStoppingCallback, PreTrainedModel, PrinterCallback, ProgressCallback

from kd_asr_slr.arguments import DataArguments, DistillationArguments, TeacherArguments
from kd_asr_slr.errors import raise_all
from kd_asr_slr.losses.hidden import HiddenProjections, build_projections
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.losses.table import build_losses
from kd_asr_slr.models.auto import frame_ratio
from kd_asr_slr.models.forward import lengths_after, run_ctc
from kd_asr_slr.processing.collator import Collator
from kd_asr_slr.progress import Progress
from kd_asr_slr.training.callbacks import (
    CurvesCallback,
    EpochCallback,
    EpochCopyCallback,
    LogLineCallback,
    SameNamesCallback,
)
from kd_asr_slr.training.curriculum import CurriculumSampler, build_sampler
from kd_asr_slr.training.data import evaluation_items, protocol_of, training_items, training_part
from kd_asr_slr.training.evaluation import DevMetrics
from kd_asr_slr.training.frame_batches import FrameBatchSampler, build_frame_batches
from kd_asr_slr.training.progress_line import ProgressLine
from kd_asr_slr.training.settings import label_settings, loss_settings, temperature_schedule
from kd_asr_slr.training.stages import FreezingCallback
from kd_asr_slr.training.trainer import DistillationTrainer
from kd_asr_slr.training.untranscribed import training_rows


def build_trainer(
    student: PreTrainedModel,
    processor: Any,
    corpus: DatasetDict,
    data: DataArguments,
    training: DistillationArguments,
    teachers: Any = None,
    teaching: TeacherArguments | None = None,
) -> DistillationTrainer:
    """The trainer of a run: datasets, losses, schedules, callbacks.

    Raises:
        UserError: for anything wrong with the losses, the schedule, the labels, the augmentation, the curriculum or
            what is frozen.
    """
    views = getattr(teachers, "views", {})
    rows = training_rows(corpus, data, soft_targets=teachers is not None)
    train_set = training_items(rows, processor, data, training, views=views, subsampling=subsampling_of(student))
    dev_set = evaluation_items(training_part(corpus, data, data.dev_split), processor, data)
    collator = Collator(processor.input_name)
    settings = loss_settings(training)
    raise_all(settings.problems(), "the losses")
    frame_seconds = processor.frame_seconds * frame_ratio(student)
    # An evaluation item, since its labels may not fit: that is for preflight to say.
    probe = evaluation_items(rows.select([0]), processor, data, views=views)
    projections = projections_for(settings, student, teachers, lambda: collator([probe[0]]))
    known = {"blank_id": processor.blank_id, "eos_id": getattr(processor.tokenizer, "eos_id", None)}
    sampler: CurriculumSampler | FrameBatchSampler | None
    sampler = build_sampler(rows, teachers, teaching, processor, data, training)
    if training.batch_frames:
        measured = (train_set.length_of(index) for index in Progress(range(len(train_set)), "measuring lengths"))
        lengths = np.fromiter(measured, np.int64, len(train_set))
        sampler = build_frame_batches(lengths, rows["id"], training.batch_frames, training.seed)
    callbacks = [EpochCallback(train_set, sampler), LogLineCallback()]
    if training.stages or training.freeze_modules:
        callbacks.append(FreezingCallback(student, training.declared_stages, training.freeze_modules))
    if training.early_stopping_patience:
        callbacks.append(EarlyStoppingCallback(training.early_stopping_patience, training.early_stopping_min_delta))
    trainer = DistillationTrainer(
        model=student,
        args=training,
        train_dataset=train_set,
        eval_dataset=dev_set,
        data_collator=collator,
        processing_class=processor,
        compute_metrics=DevMetrics(dev_set, processor, protocol_of(data)),
        callbacks=callbacks,
        # without projections: the trainer makes them part of the student's forward pass
        losses=build_losses(settings, **known, frame_seconds=frame_seconds),
        evaluation_losses=build_losses(label_settings(settings), **known),
        teachers=teachers,
        temperature=temperature_schedule(training),
        frame_seconds=frame_seconds,
        projections=projections,
        sampler=sampler,
    )
    for theirs in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(theirs)
    trainer.callback_handler.callbacks.insert(0, SameNamesCallback())  # `add_callback` would put it behind the loggers
    trainer.add_callback(ProgressLine(trainer.parts_so_far))
    trainer.add_callback(CurvesCallback(training.target_wer))
    if training.checkpoint_every_epochs:
        trainer.add_callback(EpochCopyCallback(training.checkpoint_every_epochs, trainer.save_model))
    return trainer


def subsampling_of(student: PreTrainedModel) -> Callable[[int], int]:
    """From input frames to output frames, by the student's own length function."""

    def output_frames(frames: int) -> int:
        return int(lengths_after(student, torch.tensor([frames]))[0])

    return output_frames


def projections_for(
    settings: LossSettings, student: PreTrainedModel, teachers: Any, probe: Callable[[], dict[str, Any]]
) -> HiddenProjections | None:
    """The projections that hidden-state matching needs, their widths seen on one batch; None without that loss."""
    if teachers is None or not (settings.gamma > 0 and settings.feature_losses):
        return None
    layers, batch = sorted(set(settings.layer_map.values())), probe()
    with torch.no_grad():
        student_states = run_ctc(student.eval(), batch, output_hidden_states=True).hidden_states or ()
        teacher_states = teachers.signal(batch, hidden_layers=tuple(layers)).hidden_states
    widths = [0] * (max(teacher_states) + 1)
    for layer, states in teacher_states.items():
        widths[layer] = states.shape[-1]
    return build_projections([states.shape[-1] for states in student_states], widths, settings.layer_map)
