"""Stages while a run trains: which modules are frozen in an epoch, and the learning rate over the whole run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from kd_asr_slr.errors import raise_all
from kd_asr_slr.stages import Stage


class FreezingCallback(TrainerCallback):
    """Keeps modules of the student as they are, in the epochs of a stage or in the whole run.

    A frozen parameter gets no gradient, so that the optimiser passes it over, weight decay included. A frozen module
    runs in evaluation mode (batch statistics, dropout), although the trainer puts the student into training mode
    before every step.

    Args:
        student: what is trained.
        stages: of the run; may be empty.
        always: names that are frozen in every epoch.

    Raises:
        UserError: for names that the student does not have, or if a stage leaves nothing to train.

    Example:
        >>> trainer.add_callback(FreezingCallback(student, stages=[Stage(5, 3e-4, ("encoder",)), Stage(35, 2e-4)]))
    """

    def __init__(self, student: nn.Module, stages: Sequence[Stage], always: Sequence[str] = ()) -> None:
        self.student = student
        self._stages = list(stages)
        self._always = tuple(always)
        self._parameters = {name: value for name, value in student.named_parameters() if value.requires_grad}
        self._modules: list[nn.Module] = []
        self._hook: Any = None
        raise_all(self._problems(), "what is frozen")

    def frozen_in(self, epoch: int) -> tuple[str, ...]:
        """Names that are frozen in an epoch, counted from 0."""
        for stage in self._stages:
            if epoch < stage.epochs:
                return self._always + stage.freeze
            epoch -= stage.epochs
        return self._always

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Watch the student's forward passes: the trainer's own model.train() comes just before each."""
        self._hook = self.student.register_forward_pre_hook(self._keep_in_evaluation)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Freeze what the epoch's stage freezes, and nothing else."""
        self._freeze(self.frozen_in(int(state.epoch or 0)))  # a run taken up in the middle of epoch 1 starts at 1.5

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the student as it was given."""
        self._hook.remove()
        self._freeze(())

    def _freeze(self, names: Sequence[str]) -> None:
        for name, parameter in self._parameters.items():
            parameter.requires_grad_(not any(_belongs(name, module) for module in names))
        modules = dict(self.student.named_modules())
        self._modules = [modules[name] for name in names if name in modules]

    def _keep_in_evaluation(self, student: nn.Module, inputs: Any) -> None:
        if not student.training:
            return
        for module in self._modules:
            module.eval()
            for layer in module.modules():
                if isinstance(layer, nn.RNNBase) and layer.dropout == 0:
                    layer.train()  # the same values, and cuDNN gives a gradient through it in training mode only

    def _problems(self) -> list[str]:
        known = {name for name, _ in self.student.named_modules() if name}
        known |= {name for name, _ in self.student.named_parameters()}
        top = ", ".join(name for name, _ in self.student.named_children())
        asked = dict.fromkeys((*self._always, *(name for stage in self._stages for name in stage.freeze)))
        problems = [
            f"the student has no module or parameter '{name}' to freeze; it has {top}, and what is inside of them"
            for name in asked
            if name not in known
        ]
        for number, stage in enumerate(self._stages or [Stage(1, 1.0)], 1):
            names = self._always + stage.freeze
            if all(any(_belongs(name, module) for module in names) for name in self._parameters):
                where = f"stage {number}" if self._stages else "freeze_modules"
                problems.append(f"{where} freezes every parameter of the student; leave something to train")
        return problems


def _belongs(parameter: str, module: str) -> bool:
    return parameter == module or parameter.startswith(f"{module}.")


def staged_scheduler(optimizer: Optimizer, stages: Sequence[Stage], num_training_steps: int) -> LambdaLR:
    """One schedule over all stages; each has its own steps, and its own warm-up in them.

    Args:
        optimizer: with the learning rate that everything is relative to, above 0.
        stages: in their order.
        num_training_steps: of the whole run, the same number in each epoch.
    """
    base = optimizer.param_groups[0]["lr"]
    per_epoch = num_training_steps // sum(stage.epochs for stage in stages)

    def factor(step: int) -> float:
        for stage in stages:
            steps = stage.epochs * per_epoch
            if step < steps:
                return stage.learning_rate_at(step, steps) / base
            step -= steps
        return stages[-1].learning_rate_at(steps, steps) / base  # asked for after the last step

    return LambdaLR(optimizer, factor)
