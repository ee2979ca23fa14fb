"""Training in stages, as a configuration declares it: epochs, what is frozen, the learning rate of every step."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCHEDULES = ("constant", "linear", "cosine", "noam")
KEYS = ("epochs", "freeze", "learning_rate", "lr_scheduler_type", "warmup_steps")


@dataclass(frozen=True)
class Stage:
    """One stage of a training.

    Attributes:
        epochs: how many, at least 1.
        learning_rate: at its peak.
        freeze: names of modules or parameters of the student that keep their weights.
        schedule: one of `SCHEDULES`; it begins and ends with the stage.
        warmup_steps: optimiser steps, counted in the stage, until the peak.
    """

    epochs: int
    learning_rate: float
    freeze: tuple[str, ...] = ()
    schedule: str = "constant"
    warmup_steps: int = 0

    def learning_rate_at(self, step: int, steps: int) -> float:
        """The learning rate of one optimiser step.

        `constant`, `linear` and `cosine` are those of transformers; `noam` is
        learning_rate * sqrt(warmup) * min(n ** -0.5, n * warmup ** -1.5) with n = step + 1, so that the peak is
        `learning_rate`, at n = warmup.

        Args:
            step: counted in the stage, from 0.
            steps: of the stage.

        Source: Vaswani et al. 2017, "Attention Is All You Need" (1706.03762), equation 3, for `noam`.

        Example:
            >>> Stage(1, 2e-4, schedule="noam", warmup_steps=100).learning_rate_at(399, 1000)
            0.0001
        """
        warmup = self.warmup_steps
        if self.schedule == "noam":
            number = step + 1
            return self.learning_rate * min((warmup / number) ** 0.5, number / warmup)
        if step < warmup:
            return self.learning_rate * step / warmup
        progress = min((step - warmup) / max(steps - warmup, 1), 1.0)
        if self.schedule == "linear":
            return self.learning_rate * (1 - progress)
        if self.schedule == "cosine":
            return self.learning_rate * (1 + math.cos(math.pi * progress)) / 2
        return self.learning_rate


def read_stages(declared: Sequence[Any], learning_rate: float, schedule: str) -> tuple[list[Stage], list[str]]:
    """Stages from their declarations; what one does not say is that of the run.

    Args:
        declared: mappings, or their JSON, with `epochs` and any other of `KEYS`.
        learning_rate: of the run.
        schedule: `lr_scheduler_type` of the run.

    Returns:
        The stages, and sentences about what cannot be used; there are no stages where there is such a sentence.

    Example:
        >>> read_stages(['{"epochs": 5, "freeze": ["encoder"]}'], 3e-4, "constant")[0]
        [Stage(epochs=5, learning_rate=0.0003, freeze=('encoder',), schedule='constant', warmup_steps=0)]
    """
    stages, problems = [], []
    for number, item in enumerate(declared, 1):
        values = as_mapping(item)
        if values is None:
            problems.append(f"stage {number} is {item!r}; expected a mapping such as {{epochs: 5, freeze: [encoder]}}")
            continue
        values = {"freeze": [], "learning_rate": learning_rate, "lr_scheduler_type": schedule} | values
        values = {"warmup_steps": 0} | {key: value for key, value in values.items() if value is not None}
        found = _value_problems(values)
        problems += [f"stage {number}: {problem}" for problem in found]
        if not found:
            stages.append(_stage(values))
    return ([], problems) if problems else (stages, [])


def stage_problems(training: Any) -> list[str]:
    """Sentences about the stages of a run, and about options of the whole run that stages replace.

    Args:
        training: `DistillationArguments`.
    """
    schedule = getattr(training.lr_scheduler_type, "value", training.lr_scheduler_type)
    stages, problems = read_stages(training.stages, training.learning_rate, schedule)
    if training.stages and not training.learning_rate > 0:
        problems.append("learning_rate is 0 and there are stages; leave it out, or give one above 0")
    epochs = sum(stage.epochs for stage in stages)
    if stages and training.num_train_epochs != epochs:
        problems.append(
            f"num_train_epochs is {training.num_train_epochs:g} and the stages have {epochs} epochs; leave it out"
        )
    if stages and training.max_steps > 0:
        problems.append(f"max_steps is {training.max_steps} and there are stages; leave one of the two out")
    if stages and training.warmup_steps:
        problems.append(f"warmup_steps is {training.warmup_steps:g} and there are stages; set it in a stage")
    frozen = training.freeze_modules or any(stage.freeze for stage in stages)
    if frozen and training.ddp_find_unused_parameters is False:
        problems.append("ddp_find_unused_parameters is false; expected true where modules are frozen")
    return problems


def as_mapping(item: Any) -> dict[str, Any] | None:
    """A declaration as a dictionary; None where it is none."""
    try:
        value = json.loads(item) if isinstance(item, str) else item
    except json.JSONDecodeError:
        return None
    return dict(value) if isinstance(value, Mapping) else None


def describe_stage(item: Any) -> str:
    """A declared stage in a few words, for people."""
    values = as_mapping(item) or {}
    words = [f"{values['lr_scheduler_type']}"] if values.get("lr_scheduler_type") else []
    words += [f"{values['warmup_steps']} warm-up steps"] if values.get("warmup_steps") else []
    words += [f"{', '.join(_names(values['freeze']))} frozen"] if values.get("freeze") else []
    rate = f" at {values['learning_rate']:g}" if values.get("learning_rate") else ""
    return f"{values.get('epochs')} epochs{rate}" + (f" ({'; '.join(words)})" if words else "")


def _stage(values: Mapping[str, Any]) -> Stage:
    return Stage(
        epochs=values["epochs"],
        learning_rate=float(values["learning_rate"]),
        freeze=_names(values["freeze"]),
        schedule=values["lr_scheduler_type"],
        warmup_steps=values["warmup_steps"],
    )


def _names(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _value_problems(values: Mapping[str, Any]) -> list[str]:
    problems = [f"unknown key '{key}'; expected {', '.join(KEYS)}" for key in values if key not in KEYS]
    if not _whole(values.get("epochs"), 1):
        problems.append(f"epochs is {values.get('epochs', 'missing')}; expected a whole number, 1 or more")
    rate, schedule, warmup = values["learning_rate"], values["lr_scheduler_type"], values["warmup_steps"]
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf:
        problems.append(f"learning_rate is {rate}; expected a number above 0")
    if schedule not in SCHEDULES:
        problems.append(f"lr_scheduler_type is '{schedule}'; expected one of {', '.join(SCHEDULES)}")
    lowest = 1 if schedule == "noam" else 0
    if not _whole(warmup, lowest):
        problems.append(f"warmup_steps is {warmup}; expected a whole number, {lowest} or more for '{schedule}'")
    if not isinstance(values["freeze"], str | list | tuple) or not all(isinstance(x, str) for x in values["freeze"]):
        problems.append(f"freeze is {values['freeze']}; expected names of modules, such as [encoder]")
    return problems


def _whole(value: Any, lowest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= lowest
