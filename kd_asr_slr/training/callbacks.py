"""What happens beside the steps: augmentation follows the epoch, a log line a person can read, curves to watch."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from kd_asr_slr.processing.dataset import RecogniserDataset
from kd_asr_slr.progress import say
from kd_asr_slr.reporting.curves import draw_curves
from kd_asr_slr.reporting.history import write_history
from kd_asr_slr.training.curriculum import CurriculumSampler
from kd_asr_slr.training.frame_batches import FrameBatchSampler

RATES = {"eval_wer", "eval_wra", "valid_frame_ratio"}
# The last entry of a training. transformers sends these five to TensorBoard as train/train_runtime and so on, to
# Weights & Biases outside of the history, to trackio not at all; other names it treats alike in all three.
TOTALS = {
    "train_runtime": "runtime",
    "train_samples_per_second": "samples_per_second",
    "train_steps_per_second": "steps_per_second",
    "train_loss": "mean_loss",
    "total_flos": "flos",
}


class EpochCallback(TrainerCallback):
    """Tells the training dataset its epoch, so that augmentation differs between epochs and repeats after a resume.

    Args:
        dataset: what is trained on.
        sampler: what draws from it, where that depends on the epoch too.
    """

    def __init__(
        self, dataset: RecogniserDataset, sampler: CurriculumSampler | FrameBatchSampler | None = None
    ) -> None:
        self._followers = [item for item in (dataset, sampler) if item is not None]

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the epoch that begins."""
        # A run that is taken up in the middle of epoch 1 starts at 1.5; whole epochs are exact in floating point.
        for follower in self._followers:
            follower.set_epoch(int(state.epoch or 0))


class SameNamesCallback(TrainerCallback):
    """Gives the totals of a training the same names in every logger (`--report_to`); has to come before the loggers.

    The trainer's own history keeps transformers' names.
    """

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Rename them in the entry, which every later callback is handed too."""
        if logs:
            for name in TOTALS.keys() & logs.keys():
                logs[TOTALS[name]] = logs.pop(name)


class LogLineCallback(TrainerCallback):
    """One line per log entry: epoch, step, loss parts, rates in per cent."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Print the line on the main process."""
        if not state.is_world_process_zero or not logs:
            return
        shown = [f"{name} {number_of(name, value)}" for name, value in logs.items() if is_shown(name, value)]
        if shown:
            say(f"epoch {logs.get('epoch', 0):5.1f}/{state.num_train_epochs}  " + "  ".join(shown))


def is_shown(name: str, value: Any) -> bool:
    """Whether a log entry belongs on the line (speeds and totals do not)."""
    return isinstance(value, int | float) and (
        name.startswith("loss") or name in RATES | {"eval_loss", "temperature", "learning_rate"}
    )


def number_of(name: str, value: float) -> str:
    """The value as it is printed: rates in per cent, small numbers in scientific form."""
    if name in RATES:
        return f"{100 * value:.1f} %"
    return f"{value:.2e}" if 0 < abs(value) < 1e-2 else f"{value:.3f}"


class EpochCopyCallback(TrainerCallback):
    """Keeps a copy of the student every few epochs, in `epoch-N`; best and last are the trainer's own checkpoints.

    Args:
        every: epochs between two copies.
        save: writes student and processor into a folder (the trainer's `save_model`).
    """

    def __init__(self, every: int, save: Callable[[str], None]) -> None:
        self.every = every
        self.save = save

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save once an epoch's number is a multiple of `every`."""
        epoch = round(state.epoch or 0)
        if epoch and epoch % self.every == 0:
            self.save(str(Path(str(args.output_dir)) / f"epoch-{epoch:04d}"))


class CurvesCallback(TrainerCallback):
    """Keeps `history.json` and the training curves up to date, so that a run can be watched.

    The log is written after every evaluation. The page takes a second to draw, so it is drawn again only when that is
    a small share of the time since; a run's end draws it in any case (`session.finish`).

    Args:
        target_wer: a fraction, drawn as a line.
        pause: seconds of training before the first page, and at least between two.
        share: of the time that drawing may take.
    """

    def __init__(self, target_wer: float | None = None, pause: float = 20.0, share: float = 0.05) -> None:
        self.target_wer = target_wer
        self.pause = pause
        self.share = share
        self._due = float("inf")

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self._due = time.monotonic() + self.pause

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the log, and draw where it is time to."""
        if not state.is_world_process_zero:
            return
        folder = Path(str(args.output_dir))
        write_history(state.log_history, folder)
        began = time.monotonic()
        if began < self._due:
            return
        draw_curves(state.log_history, folder, title=f"{folder.name} (training)", target_wer=self.target_wer)
        now = time.monotonic()
        self._due = now + max(self.pause, (now - began) / self.share)
