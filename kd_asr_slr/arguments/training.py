"""Arguments about the training: transformers' own, the losses, augmentation and checks."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from typing import Any

from transformers import TrainingArguments

from kd_asr_slr.arguments.fields import at_least, one_of, option
from kd_asr_slr.stages import Stage, read_stages, stage_problems


@dataclass
class DistillationArguments(TrainingArguments):
    """transformers' `TrainingArguments`, and what distillation adds to them.

    Changed defaults: columns are kept (`remove_unused_columns`), evaluation and checkpoints every epoch, the best
    checkpoint by WER is the student, TensorBoard is written, best and last checkpoint are kept.
    """

    output_dir: str | None = option(None, "the run folder")
    overwrite_output_dir: bool = option(False, "throw away the run that is in output_dir and start again")
    remove_unused_columns: bool = option(False, "must stay false: ids, speakers and cached targets travel in the batch")
    eval_strategy: str = option("epoch", "when dev is scored: no, steps or epoch")
    save_strategy: str = option("epoch", "when a checkpoint is written: no, steps, epoch or best")
    save_total_limit: int | None = option(2, "checkpoints kept: the best and the last")
    load_best_model_at_end: bool = option(True, "the student is the best checkpoint, not the last")
    metric_for_best_model: str | None = option("wer", "what best means: wer or loss (lower), wra (higher)")
    greater_is_better: bool | None = option(None, "default: false for wer and loss, true for wra")
    logging_strategy: str = option("epoch", "when loss parts are logged: steps or epoch")
    restore_callback_states_from_checkpoint: bool = option(True, "a run taken up again keeps its early-stopping count")
    report_to: list[str] = option(["tensorboard"], "tensorboard, wandb, trackio, none")
    num_train_epochs: float | None = option(  # type: ignore[assignment]  # a number once the stages are known
        None, "default: the epochs of all stages; without stages 3"
    )
    stages: list[str] = option(
        [],
        'stages of the training, each as JSON: {"epochs": 5, "freeze": ["encoder"], "learning_rate": 3e-4, '
        '"lr_scheduler_type": "constant, linear, cosine or noam", "warmup_steps": 0}',
    )
    freeze_modules: list[str] = option([], "modules or parameters of the student that keep their weights all along")
    batch_frames: int = option(
        0,
        "input frames (of waveforms: samples) a batch may have on each device, padding included; utterances of similar "
        "length come together, as many as fit, whatever per_device_train_batch_size says; 0: batches by number",
    )
    curriculum: str = option("none", "easy utterances first (distill.py): none, linear, sqrt or step")
    curriculum_epochs: int = option(10, "epochs until the curriculum draws every utterance")
    curriculum_start: float = option(0.3, "share of the utterances, the easiest, that it draws in the first epoch")

    alpha: float = option(0.7, "weight of the soft losses (teacher)")
    beta: float = option(0.3, "weight of the hard losses (labels); 0 is a pure-KD run")
    gamma: float = option(0.0, "weight of the feature losses (hidden states)")
    soft_losses: list[str] = option(["ctc_kd"], "ctc_kd, decoder_kd")
    hard_losses: list[str] = option(["ctc"], "ctc, cross_entropy")
    feature_losses: list[str] = option([], "hidden")
    ctc_share: float = option(0.5, "share of CTC against decoder, inside soft and inside hard, where both are used")
    temperature: float = option(2.0, "temperature of the soft losses at the start; 1 at evaluation")
    temperature_milestones: dict[str, Any] | str | None = option(
        None, 'epochs at which the temperature changes, as JSON: {"30": 3.5, "70": 3.0}'
    )
    frame_selection: str = option("all", "frames of ctc_kd: all, threshold or symmetric")
    blank_threshold: float = option(0.95, "threshold: frames whose combined blank probability reaches it are left out")
    neighbours: int = option(1, "symmetric: non-blank frames and this many neighbours on each side")
    drop_blank_class: bool = option(False, "ctc_kd over the labels only, renormalised without the blank")
    rate_matching: str = option(
        "equal",
        "frame rates of teacher and student: equal (else refused), resample (by the known ratio), shift (the best one "
        "of each utterance, for a student that is late) or tokens (one distribution per label, by forced alignment)",
    )
    match_window: int = option(5, "shift: frames of the student to both sides that are tried")
    layer_map: dict[str, Any] | str | None = option(None, 'student layer -> teacher layer, as JSON: {"2": 2, "3": 3}')
    hidden_distance: str = option("mse", "hidden: mse on layer-normalised states, or cosine")
    decoder_label_smoothing: float = option(0.0, "label smoothing of cross_entropy")
    ctc_label_smoothing: float = option(0.0, "label smoothing of ctc: its frames are drawn towards the uniform")

    auxiliary_ctc_weight: float = option(0.0, "weight of CTC on the student's auxiliary classifier (usual: 1)")
    auxiliary_kd_weight: float = option(
        0.0, "weight of the self-distillation from the student's output to that classifier (usual: 25); no teacher"
    )
    auxiliary_temperature: float = option(
        8.0, "temperature of that self-distillation (usual: 8 on convolutions, 1 with intermediate_layer)"
    )
    consistency_weight: float = option(
        0.0, "weight of the consistency between two masked views of each utterance (usual: 0.2); takes spec_augment"
    )
    blank_mass_weight: float = option(
        0.0, "weight of the match of teachers' and student's blank probability, on every frame"
    )
    pseudo_label_weight: float = option(0.0, "weight of the cross-entropy on the classes that the teachers are sure of")
    pseudo_label_confidence: float = option(0.9, "probability from which on the teachers are sure of a frame's class")
    sequence_kd_weight: float = option(
        0.0, "weight of CTC on the label sequence that the teachers hear; for recordings without a transcript"
    )
    sequence_confidence: float = option(
        0.0, "mean (geometric) of the teachers' best probabilities that an utterance needs for it; 0: every utterance"
    )

    augmentation: list[str] = option(
        [],
        "spec_augment; gain, gaussian_noise, pitch, vtlp; for landmarks rotation, translation, part_masking, mirror, "
        "temporal_mixup (length kept); speed, tempo, resample_time (live teachers only)",
    )
    augmentation_options: dict[str, Any] | str | None = option(
        None, 'options by name, as JSON: {"gain": {"highest": 3.0}}'
    )
    early_stopping_patience: int = option(0, "evaluations without improvement after which training stops; 0: never")
    early_stopping_min_delta: float = option(0.0, "what counts as an improvement of metric_for_best_model")
    expected_processes: int | None = option(None, "processes the configuration was made for; another number is refused")
    checkpoint_every_epochs: int = option(0, "also keep a copy of the student every so many epochs; 0: none")
    hub_update: bool = option(False, "push_to_hub: write into a repository that exists and holds a model")
    target_wer: float | None = option(None, "WER to reach, a fraction: a line in the training curves")
    preflight_only: bool = option(False, "check everything that is checked before training, then stop")
    preflight_batches: int = option(4, "dev batches on which the combined teacher is decoded before training; 0: none")

    def __post_init__(self) -> None:
        if self.greater_is_better is None and self.metric_for_best_model is not None:
            self.greater_is_better = self.metric_for_best_model.removeprefix("eval_") == "wra"
        unnamed = self.output_dir is None
        if self.num_train_epochs is None:
            self.num_train_epochs = float(sum(stage.epochs for stage in self.declared_stages) or 3)
        frozen = [*self.freeze_modules, *(name for stage in self.declared_stages for name in stage.freeze)]
        if self.ddp_find_unused_parameters is None and frozen:
            self.ddp_find_unused_parameters = True  # what is frozen changes after the model is wrapped
        super().__post_init__()
        if unnamed:  # transformers makes "trainer_output" of it
            self.output_dir = None

    @property
    def declared_stages(self) -> list[Stage]:
        """The stages; none where none are declared, or one of them cannot be used (see `problems`)."""
        schedule = getattr(self.lr_scheduler_type, "value", self.lr_scheduler_type)
        return read_stages(self.stages, self.learning_rate, schedule)[0]

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        found = stage_problems(self)
        if not self.output_dir:
            found.append("no run folder; set --output_dir FOLDER")
        if self.remove_unused_columns:
            found.append("remove_unused_columns is true; expected false, or ids, speakers and cached targets vanish")
        if self.early_stopping_patience < 0:
            found.append(f"early_stopping_patience is {self.early_stopping_patience}; expected 0 or more")
        if self.checkpoint_every_epochs < 0:
            found.append(f"checkpoint_every_epochs is {self.checkpoint_every_epochs}; expected 0 or more")
        if self.target_wer is not None and not 0 <= self.target_wer <= 1:
            found.append(f"target_wer is {self.target_wer}; expected a fraction between 0 and 1 (0.25, not 25)")
        if self.early_stopping_patience and not self.load_best_model_at_end:
            found.append("early_stopping_patience needs load_best_model_at_end true")
        if self.label_smoothing_factor:
            found.append("label_smoothing_factor is not used here; set --decoder_label_smoothing")
        if self.consistency_weight > 0 and "spec_augment" not in self.augmentation:
            found.append(
                f"consistency_weight is {self.consistency_weight} and augmentation has no spec_augment; "
                "two views without masks are identical and teach nothing: add it, or set --consistency_weight 0"
            )
        return found + self._batch_problems() + self._curriculum_problems() + self._trainer_problems()

    def _batch_problems(self) -> list[str]:
        found = at_least(self, 0, "batch_frames")
        if self.train_sampling_strategy in ("group_by_length", "batch_rebalance"):
            found.append(
                f"train_sampling_strategy is '{self.train_sampling_strategy}', of which a run that is taken up again "
                "repeats neither order nor counts; set --batch_frames N for batches of similar length instead"
            )
        if not self.batch_frames:
            return found
        unfit = [
            *(["curriculum"] if self.curriculum != "none" else []),
            *(["train_sampling_strategy"] if self.train_sampling_strategy == "sequential" else []),
            *(name for name in ("dataloader_drop_last", "auto_find_batch_size") if getattr(self, name)),
        ]
        return found + [
            f"batch_frames is {self.batch_frames} and {name} is {getattr(self, name)}; batches by frames have an order "
            "and a size of their own: set only one of them"
            for name in unfit
        ]

    def _curriculum_problems(self) -> list[str]:
        found = one_of("curriculum", self.curriculum, ("none", "linear", "sqrt", "step"))
        found += at_least(self, 1, "curriculum_epochs")
        if not 0 < self.curriculum_start <= 1:
            found.append(f"curriculum_start is {self.curriculum_start}; expected more than 0, 1 at most")
        if self.curriculum != "none" and self.train_sampling_strategy != "random":
            found.append(f"train_sampling_strategy is '{self.train_sampling_strategy}'; a curriculum needs random")
        return found

    def _trainer_problems(self) -> list[str]:
        """Values that transformers takes, and only stumbles over when it trains."""
        found = at_least(self, 1, "per_device_train_batch_size", "per_device_eval_batch_size")
        found += at_least(self, 1, "gradient_accumulation_steps")
        found += at_least(self, 0, "learning_rate", "weight_decay", "max_grad_norm")
        if not 0 < (self.num_train_epochs or 0) < math.inf:
            found.append(f"num_train_epochs is {self.num_train_epochs}; expected more than 0")
        if (self.metric_for_best_model or "wer").removeprefix("eval_") not in ("wer", "wra", "loss"):
            found.append(f"metric_for_best_model is '{self.metric_for_best_model}'; expected wer, wra or loss")
        if set(self.report_to) <= {"tensorboard"} and importlib.util.find_spec("tensorboard"):
            return found
        # Imports every logger that is installed, some of which take a second: only where another one is asked for.
        from transformers.integrations import get_available_reporting_integrations

        loggers = get_available_reporting_integrations()
        for name in sorted(set(self.report_to) - set(loggers)):
            found.append(f"report_to has '{name}'; expected none, or what is installed here: {', '.join(loggers)}")
        return found
