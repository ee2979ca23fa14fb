"""One run from its folder to its results: open, train (or take up again), finish."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import DatasetDict
from filelock import FileLock, Timeout
from transformers import EarlyStoppingCallback, TrainerState

from kd_asr_slr.arguments import DataArguments, DistillationArguments
from kd_asr_slr.errors import UserError
from kd_asr_slr.hub.custom_code import write_custom_code
from kd_asr_slr.hub.destination import Destination, check_destination, destination_of
from kd_asr_slr.hub.push import push_run
from kd_asr_slr.progress import say
from kd_asr_slr.reporting.curves import write_curves
from kd_asr_slr.reporting.model_card import write_model_card
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.reporting.verdicts import verdict_of
from kd_asr_slr.tool_arguments import ScoreArguments
from kd_asr_slr.training.data import corpus_name, evaluation_items, protocol_of, training_part
from kd_asr_slr.training.evaluation import build_decoding, predict, score_split, with_seen
from kd_asr_slr.training.run_facts import cost_of, vocabulary_of
from kd_asr_slr.training.terminal import quiet_libraries
from kd_asr_slr.training.trainer import DistillationTrainer
from kd_asr_slr.training.training_data import ancestors_of, record_training_data
from kd_asr_slr.training.untranscribed import describe_untranscribed

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
        *("hub_update", "target_wer"),
    )
)


class Session:
    """A run folder while a recipe works on it.

    Attributes:
        folder: the run folder.
        finished: whether this very run has been finished before; there is nothing left to do.
        resumed: whether it has been taken up from a checkpoint.
        destination: where on the hub it is published when it is finished, if anywhere.
    """

    def __init__(self, folder: RunFolder, recipe: str, config: dict[str, Any], overwrite: bool) -> None:
        self.folder = folder
        self.recipe = recipe
        self.config = config
        self.overwrite = overwrite
        self.resumed = False
        self.destination: Destination | None = None
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
        UserError: if the folder belongs to another run, the number of processes is not the expected one, or the run is
            to be published and the hub refuses.
    """
    announce(training)
    folder = Path(str(training.output_dir))
    destination = destination_of(training)
    training.push_to_hub = False  # transformers' trainer would publish every checkpoint, with the predictions
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    session = Session(RunFolder(folder), recipe, config, training.overwrite_output_dir)
    if session.finished:
        say(f"{folder} holds this run already, finished; nothing to do (start again: --overwrite_output_dir true)")
    elif destination is not None and PartialState().is_main_process:
        check_destination(destination)  # now, not when the training is over
        session.destination = destination
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
    """What every recipe does first: log lines on stderr, no library's progress bars, the right number of processes.

    Raises:
        UserError: if the number of processes is not the expected one.
    """
    quiet_libraries()
    if training.disable_tqdm:
        os.environ["TQDM_DISABLE"] = "1"
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
    """Save the best student with its code, score dev and test greedily, draw the curves, write the card, mark the run
    finished.
    """
    trainer.drop_projections()
    trainer.save_model()
    if trainer.is_world_process_zero():
        model = trainer.accelerator.unwrap_model(trainer.model)
        folder, teachers = session.folder, described(trainer.teachers)
        write_custom_code(folder.path)
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
            size, what, protocol = trainer.args.eval_batch_size, f"scoring {split}", protocol_of(data)
            predictions = predict(model, items, trainer.data_collator, decode, size, what, protocol)
            predictions = with_seen(predictions, texts)
            score = score_split(folder, predictions, split, "greedy", protocol=protocol)
        write_curves(folder, trainer.args.target_wer, trainer.state.log_history)
        write_model_card(folder)
        folder.finish()
        say(f"{folder.path}: {split} WER {100 * score['wer']:.2f} %, WRA {100 * score['wra']:.2f} % (greedy)")
        for line in verdict_of(folder, score):
            say(line)
        if session.destination is not None:
            push_run(folder, session.destination)
    PartialState().wait_for_everyone()
