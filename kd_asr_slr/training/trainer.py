"""`DistillationTrainer`: transformers' Trainer with a list of losses and, where given, teachers.

Dimension legend: see `kd_asr_slr.outputs`.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PreTrainedModel, Trainer

from kd_asr_slr.arguments import DistillationArguments
from kd_asr_slr.errors import UserError
from kd_asr_slr.losses.hidden import HiddenProjections
from kd_asr_slr.losses.schedules import TemperatureSchedule
from kd_asr_slr.losses.table import WeightedLoss
from kd_asr_slr.models.forward import run_ctc
from kd_asr_slr.outputs import CTCOutput, TeacherSignal, given
from kd_asr_slr.processing.collator import Collator
from kd_asr_slr.processing.dataset import RecogniserDataset
from kd_asr_slr.teachers.batches import signal_to
from kd_asr_slr.teachers.cached import CachedTeachers
from kd_asr_slr.teachers.interface import Teachers
from kd_asr_slr.training import student_projections
from kd_asr_slr.training.dev_labels import best_labels, without_infeasible
from kd_asr_slr.training.frame_batches import FrameBatchSampler, frame_loader
from kd_asr_slr.training.stages import staged_scheduler
from kd_asr_slr.training.target_reading import SIGNAL, TargetReadingCollator
from kd_asr_slr.training.two_views import add_other_view, both_views, views_of

COUNTED = "counted"  # key of a batch: [B], 0 for an utterance that only fills a batch up


class DistillationTrainer(Trainer):
    """Trains a student on a weighted sum of losses, each a function of (student output, teacher signal, batch).

    The trainer owns the normalisation: the loss is the sum over utterances divided by the utterances of the whole
    accumulated batch, over all processes. So 4 micro-batches of 1 give the gradient of 1 batch of 4, two processes
    give that of one, and an incomplete last batch weighs its utterances like any other.

    Args:
        losses: the weighted losses of training.
        evaluation_losses: the weighted label losses that make `eval_loss`, so that runs with other weights compare.
        teachers: live or cached teachers, or None for training on labels only. They stay outside of the student's
            module: never trained, never saved.
        temperature: temperature of the soft losses by epoch.
        frame_seconds: seconds between two output frames of the student (sign: video frames).
        projections: module that maps student hidden states to the teachers' width, if a loss needs one. It is trained
            with the student, saved beside a checkpoint for resuming, and never part of the student's own weights.
        sampler: draws the training utterances, as many an epoch as there are, or whole batches of them; default: the
            trainer's own.
        *args: as for `transformers.Trainer`.
        **kwargs: as for `transformers.Trainer`.

    Example:
        >>> trainer = DistillationTrainer(student, arguments, losses=losses, evaluation_losses=label_losses,
        ...     teachers=pool, temperature=TemperatureSchedule(2.0), frame_seconds=0.04, train_dataset=data)
        >>> trainer.train()
    """

    # What it is given, more narrowly than transformers has it.
    model: PreTrainedModel
    args: DistillationArguments
    train_dataset: RecogniserDataset
    eval_dataset: RecogniserDataset
    data_collator: Collator  # for the moment of making a loader, one that reads targets too

    def __init__(
        self,
        *args: Any,
        losses: Sequence[WeightedLoss],
        evaluation_losses: Sequence[WeightedLoss],
        temperature: TemperatureSchedule,
        frame_seconds: float,
        teachers: Teachers | None = None,
        projections: HiddenProjections | None = None,
        sampler: Sampler[int] | FrameBatchSampler | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        # Both switches off transformers' own idea of when a loss is divided by the accumulation steps.
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = True
        self.losses = list(losses)
        self.evaluation_losses = list(evaluation_losses)
        self.teachers = teachers
        self.temperature = temperature
        self.frame_seconds = frame_seconds
        self.diagnostics: dict[str, Any] = {}  # of the combined target, from the preflight
        self.sampler = sampler
        self._hook = student_projections.attach(self.model, projections, self.args.device)
        if teachers is not None:
            teachers.to(self.args.device)
        self._sums: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros(2, device=self.args.device))

    @property
    def current_temperature(self) -> float:
        """Temperature of the soft losses at this moment of training."""
        return self.temperature.at(self.state.epoch or 0.0)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The weighted sum of the losses over the batch, divided by `num_items_in_batch` utterances (with two views of
        each: the mean over its views).

        Args:
            model: the student as the trainer wrapped it.
            inputs: the batch (see `processing.collator`).
            return_outputs: also return the student's output.
            num_items_in_batch: utterances of the accumulated batch over all processes; default: of this batch.
        """
        views = views_of(inputs)
        inputs, signal = both_views(inputs, self._signal(inputs), self.model.main_input_name)
        output = self._listen(model, inputs)
        if views == 2:
            add_other_view(output)
        temperature = self.current_temperature
        counted = inputs.get(COUNTED, torch.ones_like(output.logit_lengths))  # [B]
        # A zero on the graph: DistributedDataParallel waits for the gradient of every output, asked for or not.
        total = output.logits[:, :0].sum((1, 2)).float()  # [B]
        for item in self.losses:
            value = item.loss(output, signal, inputs, temperature=temperature)  # [B]
            total = total + item.weight * value
            self._record(f"loss_{item.name}", value[counted > 0])
            for name, number in item.loss.diagnostics(output, signal, inputs).items():
                self._record(name, torch.as_tensor([number], dtype=torch.float32, device=total.device))
        if signal is not None:
            self._record("temperature", total.new_tensor([temperature]))
        count = total.shape[0] if num_items_in_batch is None else num_items_in_batch * views
        # DistributedDataParallel averages over processes; count is their sum already.
        scale = 1 if num_items_in_batch is None else self.accelerator.num_processes
        loss = (total * counted).sum() * scale / count
        return (loss, output) if return_outputs else loss

    def _listen(self, model: nn.Module, batch: dict[str, Any]) -> CTCOutput:
        """The student's output; the decoder of a hybrid, which wants the labels, runs only where a loss asks for it."""
        hidden = any("hidden_states" in item.loss.needs for item in self.losses)
        if not any("decoder_logits" in item.loss.needs for item in self.losses):
            batch = {name: value for name, value in batch.items() if name != "labels"}
        return run_ctc(model, batch, output_hidden_states=hidden)

    def _signal(self, batch: dict[str, Any]) -> TeacherSignal | None:
        if not self._asks_teachers:
            return None
        signal = batch.pop(SIGNAL, None)
        if signal is not None:
            return signal_to(signal, self.args.device)
        with torch.no_grad():
            return given(self.teachers, "teachers").signal(batch, **self._asked())

    @property
    def _asks_teachers(self) -> bool:
        return self.teachers is not None and any(item.loss.kind in ("soft", "feature") for item in self.losses)

    def _asked(self) -> dict[str, Any]:
        """What the losses ask of the teachers beside their CTC distributions."""
        layers = sorted({layer for item in self.losses for layer in getattr(item.loss, "teacher_layers", ())})
        decoder = any("decoder_log_probs" in item.loss.needs for item in self.losses)
        return {"hidden_layers": tuple(layers), "decoder": decoder}

    def get_train_dataloader(self) -> DataLoader:
        """Batches of the training data, by number or by frames; with cached teachers, their targets too."""
        plain: Any = self.data_collator  # what dev is collated by
        if self._asks_teachers and isinstance(self.teachers, CachedTeachers):
            collator: Any = TargetReadingCollator(plain, partial(self.teachers.signal, **self._asked()))
            self.data_collator = collator
        try:
            if not isinstance(self.sampler, FrameBatchSampler):
                return super().get_train_dataloader()
            loader = frame_loader(self.train_dataset, self.sampler, self.data_collator, self.args)
            return self.accelerator.prepare(loader)
        finally:
            self.data_collator = plain

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Any:
        return super()._get_train_sampler(train_dataset) if self.sampler is None else self.sampler

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The learning rates of the declared stages, where there are any; else what transformers makes."""
        stages = self.args.declared_stages
        if stages and self.lr_scheduler is None:
            used = given(optimizer or self.optimizer, "the optimizer")
            self.lr_scheduler = staged_scheduler(used, stages, num_training_steps)
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], torch.Tensor]:
        """The micro-batches of one step, and how many utterances they have over all processes."""
        batches = list(itertools.islice(epoch_iterator, num_batches))
        count = torch.tensor(sum(len(batch["ids"]) for batch in batches), device=device)
        if batches and self.accelerator.gradient_state.end_of_dataloader:
            counted = self._without_repeated(len(batches[-1]["ids"])).to(device)
            batches[-1][COUNTED] = counted
            count = count - len(counted) + counted.sum()
        return batches, self.accelerator.gather(count).sum()

    def _without_repeated(self, size: int) -> torch.Tensor:
        """Which utterances of an epoch's last batch count, [B]: several processes get equally many batches, of one size
        where they are counted, which accelerate fills up from the epoch's start."""
        if isinstance(self.sampler, FrameBatchSampler):
            left = len(self.sampler) % self.args.world_size
            return torch.full((size,), int(left == 0 or self.args.process_index < left))
        together = self._train_batch_size * self.args.world_size
        left = len(self.train_dataset) % together
        if self.args.world_size == 1 or left == 0 or self.args.dataloader_drop_last:
            return torch.ones(size, dtype=torch.long)
        place = torch.arange(size) + self._train_batch_size * self.args.process_index
        return (place < left).long()

    def _record(self, name: str, values: torch.Tensor) -> None:
        self._sums[name] += torch.stack([values.detach().sum().float(), values.new_tensor(values.numel()).float()])

    def drop_projections(self) -> None:
        """Take the projections out of the student, whose training is over."""
        student_projections.detach(self.model, self._hook)

    def parts_so_far(self) -> dict[str, float]:
        """The parts since the last log entry, averaged over this process's utterances; for the live line."""
        means = {name: total / count for name, (total, count) in self._sums.items() if count}
        return {name: float(mean) for name, mean in means.items()}

    def forget_parts(self) -> None:
        """Drop what has been summed since the last log entry."""
        self._sums.clear()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and beside the training loss each of its parts under its own name, averaged over all processes."""
        if "loss" in logs:
            for name in sorted(self._sums):
                total, count = self.accelerator.reduce(self._sums[name], reduction="sum").tolist()
                logs[name] = total / max(count, 1.0)
            refuse_not_finite(logs, self.state.epoch or 0.0)
            self.forget_parts()
        super().log(logs, start_time)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """Label losses at temperature 1, and the best label of every frame (a label outside of the utterance: -100)."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            output = run_ctc(model, inputs)
            scored = without_infeasible(inputs, output)
            loss = output.logits.new_zeros((), dtype=torch.float32)
            for item in self.evaluation_losses:
                loss = loss + item.weight * item.loss(output, None, scored, temperature=1.0).mean()
        if prediction_loss_only:
            return loss, None, None
        return loss, best_labels(output), inputs["labels"]

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        folder = Path(str(output_dir if output_dir is not None else self.args.output_dir))
        state = self.accelerator.unwrap_model(self.model).state_dict() if state_dict is None else state_dict
        projections = student_projections.of_projections(state)
        super()._save(str(folder), {name: value for name, value in state.items() if name not in projections})
        if projections and self.args.should_save and folder != Path(str(self.args.output_dir)):
            safetensors.torch.save_file(projections, folder / student_projections.FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        student_projections.load(model or self.model, resume_from_checkpoint)


def refuse_not_finite(logs: dict[str, float], epoch: float) -> None:
    """Stop a training whose losses are no numbers any more.

    Raises:
        UserError: naming the loss parts and the epoch.
    """
    broken = [name for name, value in logs.items() if name.startswith("loss") and not math.isfinite(value)]
    if broken:
        raise UserError(
            f"{', '.join(broken)} became {logs[broken[0]]} by epoch {epoch:.2f}",
            expected="finite losses",
            fix="lower --learning_rate, or clip harder (--max_grad_norm), and start again with "
            "--overwrite_output_dir true",
        )
