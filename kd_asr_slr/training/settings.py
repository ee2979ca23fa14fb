"""From the flat arguments of a run to the settings of the rooms that use them."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from kd_asr_slr.arguments import DistillationArguments, TeacherArguments
from kd_asr_slr.command_line import as_dict
from kd_asr_slr.losses.schedules import TemperatureSchedule
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.losses.table import LOSSES
from kd_asr_slr.teachers.aggregation import AggregationSettings

logger = logging.getLogger(__name__)


def loss_settings(training: DistillationArguments) -> LossSettings:
    """The losses of a run. A run without label loss is announced: it can only become what its teachers are."""
    settings = LossSettings(
        alpha=training.alpha,
        beta=training.beta,
        gamma=training.gamma,
        soft_losses=training.soft_losses,
        hard_losses=training.hard_losses,
        feature_losses=training.feature_losses,
        ctc_share=training.ctc_share,
        frame_selection=training.frame_selection,
        blank_threshold=training.blank_threshold,
        neighbours=training.neighbours,
        drop_blank_class=training.drop_blank_class,
        rate_matching=training.rate_matching,
        match_window=training.match_window,
        layer_map=as_dict(training.layer_map),
        hidden_distance=training.hidden_distance,
        label_smoothing=training.decoder_label_smoothing,
        ctc_label_smoothing=training.ctc_label_smoothing,
        auxiliary_ctc_weight=training.auxiliary_ctc_weight,
        auxiliary_kd_weight=training.auxiliary_kd_weight,
        auxiliary_temperature=training.auxiliary_temperature,
        consistency_weight=training.consistency_weight,
        blank_mass_weight=training.blank_mass_weight,
        pseudo_label_weight=training.pseudo_label_weight,
        pseudo_label_confidence=training.pseudo_label_confidence,
        sequence_kd_weight=training.sequence_kd_weight,
        sequence_confidence=training.sequence_confidence,
    )
    if settings.is_pure_kd:
        logger.warning("PURE KD: no label loss (beta is 0); the student learns nothing that its teachers do not say")
    return settings


def label_settings(settings: LossSettings) -> LossSettings:
    """The label losses of a run alone, at weight 1; CTC where the run has none."""
    labels: dict[str, Any] = {"beta": 1.0, "hard_losses": settings.hard_losses or ("ctc",)}
    own = {loss.weight_option for loss in LOSSES.values() if loss.weight_option is not None}
    others = {"alpha", "gamma", "ctc_label_smoothing", *own}
    return dataclasses.replace(settings, **labels | dict.fromkeys(others, 0.0))


def temperature_schedule(training: DistillationArguments) -> TemperatureSchedule:
    """The temperature of the soft losses by epoch."""
    return TemperatureSchedule(training.temperature, as_dict(training.temperature_milestones))


def aggregation_settings(teaching: TeacherArguments) -> AggregationSettings:
    """How several teachers become one."""
    return AggregationSettings(
        name=teaching.aggregation,
        unknown_speaker=teaching.unknown_speaker,
        generalist_weight=teaching.generalist_weight,
        weighting_temperature=teaching.weighting_temperature,
        gate_temperature=teaching.gate_temperature,
        matching=teaching.teacher_matching,
        min_teachers=teaching.min_teachers,
    )
