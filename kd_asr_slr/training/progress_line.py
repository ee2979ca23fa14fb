"""How a training is getting on, on one line of the terminal while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from kd_asr_slr.progress import Progress
from kd_asr_slr.training.callbacks import number_of


class ProgressLine(TrainerCallback):
    """The live line of a training: utterances, steps, loss parts, dev WER so far; below it dev, while it is decoded.

    Args:
        parts: the loss parts since the last log entry (the trainer's `parts_so_far`).
    """

    SECONDS = 1.0  # between two readings of the loss parts: on a GPU each waits for its work

    def __init__(self, parts: Callable[[], dict[str, float]]) -> None:
        self.parts = parts
        self._line: Progress | None = None
        self._dev: Progress | None = None
        self._read, self._losses = 0.0, ""
        self._wers: list[float] = []

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        """Open the line, where the run stands."""
        utterances = len(train_dataloader.dataset)
        steps = max(len(train_dataloader) // args.gradient_accumulation_steps, 1)  # an epoch
        self._per_step = utterances / steps
        self._wers = [entry["eval_wer"] for entry in state.log_history if "eval_wer" in entry]
        done, total = (round(count * self._per_step) for count in (state.global_step, state.max_steps))
        self._line = Progress(what="training", total=total, initial=done)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move on by a step."""
        if self._line is None or not self._line.watched:
            return
        now = time.monotonic()
        if now - self._read >= self.SECONDS:
            values = {name: value for name, value in self.parts().items() if name.startswith("loss")}
            self._losses = "  ".join(f"{name} {number_of(name, value)}" for name, value in values.items())
            self._read = now
        wer = f"dev WER {100 * self._wers[-1]:.1f} %, best {100 * min(self._wers):.1f} %" if self._wers else ""
        self._line.note(f"step {state.global_step}/{state.max_steps}", self._losses, wer)
        self._line.update(round(state.global_step * self._per_step) - self._line.n)

    def on_prediction_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        eval_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        """Move on by a batch of dev."""
        if self._dev is None:
            self._dev = Progress(what="dev", unit="batches", total=len(eval_dataloader))
        self._dev.update()

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Close the line of dev and keep its WER."""
        if self._dev is not None:
            self._dev.close()
            self._dev = None
        if metrics and "eval_wer" in metrics:
            self._wers.append(metrics["eval_wer"])

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the line."""
        if self._line is not None:
            self._line.close()
            self._line = None
