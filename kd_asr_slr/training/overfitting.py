"""The oldest check of a model: it must learn a handful of utterances by heart."""

from __future__ import annotations

import dataclasses
from typing import Any

from datasets import Dataset, DatasetDict
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from kd_asr_slr.arguments import DataArguments, DistillationArguments, ModelArguments
from kd_asr_slr.command_line import as_dict
from kd_asr_slr.errors import UserError
from kd_asr_slr.models.auto import MODELS
from kd_asr_slr.models.options import option_types
from kd_asr_slr.training.building import build_trainer


class StopAtZero(TrainerCallback):
    """Stops the training once dev has no error; `epoch` says when that was."""

    def __init__(self) -> None:
        self.epoch: int | None = None

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Stop where the WER is 0."""
        if (metrics or {}).get("eval_wer") == 0.0:
            self.epoch = round(state.epoch or 0)
            control.should_training_stop = True


def few_utterances(corpus: DatasetDict, data: DataArguments, count: int) -> DatasetDict:
    """A corpus whose train, dev and test splits are the same few training utterances, texts as different as they come.

    Args:
        corpus: the splits of the run.
        data: names the splits.
        count: utterances.

    Raises:
        UserError: if the train split has fewer.
    """
    rows = corpus[data.train_split]
    if len(rows) < count:
        raise UserError(f"the train split has {len(rows)} utterances", expected=f"at least {count}")
    first_of_each_text = list(dict(reversed(list(zip(rows["text"], range(len(rows)), strict=True)))).values())
    chosen = sorted(first_of_each_text)[:count]
    chosen += [index for index in range(len(rows)) if index not in set(chosen)][: count - len(chosen)]
    few: Dataset = rows.select(chosen)
    return DatasetDict(dict.fromkeys((data.train_split, data.dev_split, data.test_split), few))


def without_regularisation(model: ModelArguments, training: DistillationArguments, folder: str, epochs: int) -> None:
    """Labels only; switch off what keeps a model from learning by heart, and what a check need not write."""
    training.alpha, training.beta, training.gamma = 0.0, 1.0, 0.0
    if model.model in MODELS and "dropout" in option_types(MODELS[model.model].config_class):
        model.model_options = {**as_dict(model.model_options), "dropout": 0.0}
    training.augmentation, training.augmentation_options = [], None
    training.consistency_weight = 0.0
    training.stages, training.freeze_modules, training.curriculum = [], [], "none"
    training.weight_decay = 0.0
    training.num_train_epochs = epochs
    training.gradient_accumulation_steps = 1
    training.output_dir = folder
    training.save_strategy, training.load_best_model_at_end = "no", False
    training.early_stopping_patience = 0
    training.report_to = []


def overfit(
    student: Any, processor: Any, few: DatasetDict, data: DataArguments, training: DistillationArguments
) -> int | None:
    """Train on a few utterances until they are recognised without an error.

    Args:
        student: a new network.
        processor: its features and labels.
        few: see `few_utterances`.
        data: names the splits.
        training: see `without_regularisation`.

    Returns:
        The epochs it took; None where it did not happen within `num_train_epochs`.
    """
    training.per_device_train_batch_size = len(few[data.train_split])
    everyone = dataclasses.replace(data, train_speakers=[], test_speakers=[])
    trainer = build_trainer(student, processor, few, everyone, training)
    stop = StopAtZero()
    trainer.add_callback(stop)
    trainer.train()
    return stop.epoch
