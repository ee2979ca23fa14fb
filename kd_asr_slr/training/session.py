"""One run from its folder to its results: open, build the trainer, train (or take up again), finish."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import DatasetDict
from filelock import FileLock, Timeout
from transformers import EarlyStoppingCallback, PreTrainedModel, PrinterCallback, TrainerState

from kd_asr_slr.arguments import DataArguments, DistillationArguments, TeacherArguments
from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.losses.hidden import HiddenProjections, build_projections
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.losses.table import build_losses
from kd_asr_slr.models.auto import frame_ratio
from kd_asr_slr.models.forward import lengths_after, run_ctc
from kd_asr_slr.processing.collator import Collator
from kd_asr_slr.reporting.curves import write_curves
from kd_asr_slr.reporting.model_card import write_model_card
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.reporting.verdicts import verdict_of
from kd_asr_slr.tool_arguments import ScoreArguments
from kd_asr_slr.training.callbacks import EpochCallback, EpochCopyCallback, LogLineCallback
from kd_asr_slr.training.curriculum import build_sampler
from kd_asr_slr.training.data import corpus_name, evaluation_items, protocol_of, training_items, training_part
from kd_asr_slr.training.evaluation import DevMetrics, build_decoding, predict, score_split, with_seen
from kd_asr_slr.training.run_facts import cost_of, vocabulary_of
from kd_asr_slr.training.settings import label_settings, loss_settings, temperature_schedule
from kd_asr_slr.training.stages import FreezingCallback
from kd_asr_slr.training.terminal import quiet_libraries
from kd_asr_slr.training.trainer import DistillationTrainer
from kd_asr_slr.training.training_data import ancestors_of, record_training_data
from kd_asr_slr.training.untranscribed import describe_untranscribed, training_rows

logger = logging.getLogger(__name__)

# Where a run is written, watched or spread over machines does not make it another run.
VOLATILE = frozenset(
    (
        *("output_dir", "overwrite_output_dir", "resume_from_checkpoint", "save_total_limit", "run_name"),
        "restore_callback_states_from_checkpoint",
        *("media_check", "feature_cache_mb", "preflight_batches", "preflight_only", "expected_processes"),
        *("logging_steps", "logging_first_step", "logging_strategy", "log_level", "log_level_replica"),
        *("disable_tqdm", "report_to", "use_cpu", "local_rank", "ddp_timeout"),
        *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers"),
        *("dataloader_prefetch_factor", "push_to_hub", "hub_token", "hub_model_id", "hub_private_repo"),
    )
)


class Session:
    """A run folder while a recipe works on it.

    Attributes:
        folder: the run folder.
        finished: whether this very run has been finished before; there is nothing left to do.
        resumed: whether it has been taken up from a checkpoint.
    """

    def __init__(self, folder: RunFolder, recipe: str, config: dict[str, Any], overwrite: bool) -> None:
        self.folder = folder
        self.recipe = recipe
        self.config = config
        self.overwrite = overwrite
        self.resumed = False
        self.lock = FileLock(folder.path / ".training.lock")
        self.finished = folder.status(config, VOLATILE, recipe=recipe, overwrite=overwrite) == "finished"

    def claim(self) -> Path | None:
        """Take the folder, now that everything has been checked; the checkpoint to go on from, if there is one."""
        state = PartialState()
        if state.is_main_process:
            self.folder.claim(self.config, VOLATILE, recipe=self.recipe, overwrite=self.overwrite)
            self._lock()
        state.wait_for_everyone()
        checkpoint = self.folder.last_checkpoint()
        self.resumed = checkpoint is not None
        return checkpoint

    def _lock(self) -> None:
        """Keep a second process from training in the same folder; the lock goes with the process, kill or not."""
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"another process is training in {self.folder.path}",
                expected="one process a run",
                fix="wait for it, or choose another --output_dir",
            ) from None


@contextlib.contextmanager
def open_run(training: DistillationArguments, recipe: str, config: dict[str, Any]) -> Iterator[Session]:
    """Open the run folder of a recipe; nothing is written before `train`, so a refused run leaves nothing behind.

    Args:
        training: names the folder.
        recipe: "train" or "distill".
        config: the resolved configuration (see `command_line.resolved`).

    Raises:
        UserError: if the folder belongs to another run, or the number of processes is not the expected one.
    """
    announce(training)
    folder = Path(training.output_dir)
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    session = Session(RunFolder(folder), recipe, config, training.overwrite_output_dir)
    if session.finished:
        print(f"{folder} holds this run already, finished; nothing to do (start again: --overwrite_output_dir true)")
    try:
        with _events_in(folder / "tensorboard"):
            yield session
    except BaseException:
        with contextlib.suppress(OSError):  # one holds something, or another process was faster
            for path in absent:
                path.rmdir()  # the trainer makes the empty folder before anything is checked
        raise
    finally:
        session.lock.release()


@contextlib.contextmanager
def _events_in(folder: Path) -> Iterator[None]:
    """Where transformers writes TensorBoard events meanwhile, unless the user's environment says where."""
    if "TENSORBOARD_LOGGING_DIR" in os.environ:
        yield
        return
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("TENSORBOARD_LOGGING_DIR", None)


def announce(training: DistillationArguments) -> None:
    """What every recipe does first: log lines on stderr, no progress bars outside of a terminal, the right number of
    processes.

    Raises:
        UserError: if the number of processes is not the expected one.
    """
    training.disable_tqdm = not quiet_libraries() or training.disable_tqdm
    training.dataloader_pin_memory = training.dataloader_pin_memory and torch.cuda.is_available()
    check_world_size(training)


def described(teachers: Any) -> dict[str, Any]:
    """Teachers and aggregation as results.json has them."""
    if teachers is None:
        return {"teachers": []}
    description = teachers.describe()
    generalist = [description["generalist"]] if description["generalist"] else []
    return {"teachers": description["teachers"] + generalist, "aggregation": description["aggregation"]}


def check_world_size(training: DistillationArguments) -> None:
    """Refuse a run on another number of processes than its configuration was made for.

    Raises:
        UserError: naming both numbers and the command that starts the expected one.
    """
    expected, found = training.expected_processes, training.world_size
    if expected is not None and expected != found:
        raise UserError(
            f"the configuration expects {expected} processes and {found} is running"
            if found == 1
            else f"the configuration expects {expected} processes and {found} are running",
            expected="as many processes as the configuration says (the batch size depends on it)",
            fix=f"on CPUs, accelerate starts a single process whatever --num_processes says: type "
            f"ACCELERATE_USE_CPU=1 torchrun --nproc_per_node {expected} recipes/...; or change --expected_processes",
        )


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
    sampler = build_sampler(rows, teachers, teaching, processor, data, training)
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
    trainer.remove_callback(PrinterCallback)
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
        student_states = run_ctc(student.eval(), batch, output_hidden_states=True).hidden_states
        teacher_states = teachers.signal(batch, hidden_layers=tuple(layers)).hidden_states
    widths = [0] * (max(teacher_states) + 1)
    for layer, states in teacher_states.items():
        widths[layer] = states.shape[-1]
    return build_projections([states.shape[-1] for states in student_states], widths, settings.layer_map)


def train(trainer: DistillationTrainer, session: Session) -> None:
    """Train from the start, or from the last checkpoint of a run that was killed."""
    checkpoint = session.claim()
    if checkpoint is not None:
        logger.info("taking up the run again from %s", checkpoint)
        if has_stopped_early(trainer, checkpoint):
            return
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def has_stopped_early(trainer: DistillationTrainer, checkpoint: Path) -> bool:
    """Whether early stopping ended the training at this checkpoint; then the trainer is left as training leaves it."""
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    stopping = state.stateful_callbacks.get(EarlyStoppingCallback.__name__)
    patience = trainer.args.early_stopping_patience
    if not patience or stopping is None or stopping["attributes"]["early_stopping_patience_counter"] < patience:
        return False
    trainer.state = state
    trainer._load_best_model()
    return True


def finish(
    trainer: DistillationTrainer, session: Session, *, processor: Any, corpus: DatasetDict, data: DataArguments
) -> None:
    """Save the best student, score dev and test greedily, draw the curves, write the card, mark the run finished."""
    trainer.drop_projections()
    trainer.save_model()
    if trainer.is_world_process_zero():
        model = trainer.accelerator.unwrap_model(trainer.model)
        folder, teachers = session.folder, described(trainer.teachers)
        folder.write_results(
            model_type=model.config.model_type,
            parameters=model.num_parameters(),
            bytes=sum(file.stat().st_size for file in folder.path.glob("*.safetensors")),
            corpus=corpus_name(data),
            seed=trainer.args.seed,
            training=cost_of(trainer.state, session.resumed),
            vocabulary=vocabulary_of(processor),
            **teachers,
            diagnostics=trainer.diagnostics or None,
            **(describe_untranscribed(corpus, data) if trainer.teachers is not None else {}),
        )
        ancestors = ancestors_of(session.config, teachers["teachers"])
        record_training_data(folder.path, trainer.train_dataset.rows, data, ancestors)
        decode = build_decoding(ScoreArguments(), processor, model)
        texts = training_part(corpus, data, data.train_split)["text"]
        for split in (data.dev_split, data.test_split):
            items = evaluation_items(training_part(corpus, data, split), processor, data)
            predictions = predict(model, items, trainer.data_collator, decode, trainer.args.eval_batch_size)
            predictions = with_seen(predictions, texts)
            score = score_split(folder, predictions, split, "greedy", protocol=protocol_of(data))
        write_curves(folder)
        write_model_card(folder)
        folder.finish()
        print(f"{folder.path}: {split} WER {100 * score['wer']:.2f} %, WRA {100 * score['wra']:.2f} % (greedy)")
        for line in verdict_of(folder, score):
            print(line)
    PartialState().wait_for_everyone()
