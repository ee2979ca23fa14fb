"""Schedules by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from kd_asr_slr.errors import raise_all

# Epochs are sums like 29 + 40/40 in floating point: a milestone counts as reached this much before it.
EPOCH_TOLERANCE = 1e-6


@dataclass(frozen=True)
class TemperatureSchedule:
    """The temperature of each epoch: constant between milestones.

    Args:
        start: temperature from epoch 0 on, > 0.
        milestones: epoch -> temperature from that epoch on; epochs increasing and > 0, temperatures > 0.

    Raises:
        UserError: listing every value that cannot be.

    Example:
        >>> schedule = TemperatureSchedule(4.0, {30: 3.5, 70: 3.0})
        >>> schedule.at(29.5), schedule.at(30.0), schedule.at(200)
        (4.0, 3.5, 3.0)
    """

    start: float = 1.0
    milestones: Mapping[float, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        raise_all(temperature_problems(self.start, self.milestones), "the temperature schedule")
        numbers = {float(epoch): float(value) for epoch, value in self.milestones.items()}
        object.__setattr__(self, "start", float(self.start))
        object.__setattr__(self, "milestones", numbers)

    def at(self, epoch: float) -> float:
        """The temperature at a (fractional) epoch, counted from 0."""
        temperature = self.start
        for milestone, value in self.milestones.items():
            if epoch >= milestone - EPOCH_TOLERANCE:
                temperature = value
        return temperature


def temperature_problems(start: float, milestones: Mapping[float, float]) -> list[str]:
    """What is wrong with a temperature schedule, one sentence a problem; see `TemperatureSchedule`."""
    problems = [] if _positive(start) else [f"temperature is {start!r}; expected a number above 0"]
    for epoch, value in milestones.items():
        if not _positive(epoch):
            problems.append(f"temperature milestone at epoch {epoch!r}; expected a number above 0")
        if not _positive(value):
            problems.append(f"temperature {value!r} at epoch {epoch!r}; expected a number above 0")
    epochs = [float(epoch) for epoch in milestones if _positive(epoch)]
    if any(later <= earlier for earlier, later in zip(epochs, epochs[1:], strict=False)):
        problems.append(f"temperature milestones at epochs {list(milestones)}; expected increasing epochs")
    return problems


def _positive(value: object) -> bool:
    """Whether the value, or the text of it that a command line gives, is a finite number above 0."""
    try:
        return not isinstance(value, bool) and 0 < float(value) < math.inf  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
