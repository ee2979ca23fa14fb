"""What the teachers say of the training split, stored once."""

from __future__ import annotations

import time
from typing import Any

from accelerate import PartialState
from datasets import DatasetDict
from torch.utils.data import DataLoader, Subset

from kd_asr_slr.arguments import DataArguments, DistillationArguments, TeacherArguments
from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.processing.augmentation import check_for_cache
from kd_asr_slr.processing.collator import Collator
from kd_asr_slr.progress import Progress, say
from kd_asr_slr.teachers.cache import write_cache
from kd_asr_slr.teachers.pool import TeacherPool
from kd_asr_slr.teachers.store import StoreWriter
from kd_asr_slr.training.cache_forecast import (
    forecast,
    form_losses,
    probe,
    refuse_dense_losses,
    warn_of_loss,
)
from kd_asr_slr.training.data import augmentation_of, evaluation_items
from kd_asr_slr.training.matching import utterances_without_teachers
from kd_asr_slr.training.settings import loss_settings, temperature_schedule
from kd_asr_slr.training.store_size import readable, require_room, store_size
from kd_asr_slr.training.teaching import manifest_for, speakers_without_teacher
from kd_asr_slr.training.untranscribed import training_rows


def cache_teachers(
    pool: TeacherPool,
    teaching: TeacherArguments,
    processor: Any,
    corpus: DatasetDict,
    data: DataArguments,
    training: DistillationArguments,
) -> str:
    """Write the missing shards of the store `teacher_cache`, then close it.

    Args:
        pool: the live teachers.
        teaching: where and how the targets are stored.
        processor: the student's.
        corpus: the splits; the training split is stored.
        data: names that split.
        training: batch size, device, and the augmentation the student will use.

    Returns:
        A sentence for the user: how many utterances were made and how many were there.

    Raises:
        UserError: if no folder is given, it holds something else, or the student's augmentation changes lengths.
    """
    if not teaching.teacher_cache:
        raise UserError("no folder for the soft targets", fix="set --teacher_cache FOLDER")
    check_for_cache(augmentation_of(training))
    state = PartialState()
    rows = training_rows(corpus, data)
    problems = speakers_without_teacher(pool, rows["speaker"]) + utterances_without_teachers(pool, rows["id"])
    raise_all(problems, "the teachers")
    items = evaluation_items(rows, processor, data, views=pool.views)
    collate = Collator(processor.input_name)
    with state.main_process_first():
        writer = StoreWriter(teaching.teacher_cache, manifest_for(pool, teaching, corpus, data), rows["id"])

    def loader(positions: range) -> DataLoader:
        return DataLoader(Subset(items, positions), batch_size=training.eval_batch_size, collate_fn=collate)

    pool.to(training.device)
    look_ahead(pool, writer, items, collate, training)
    state.wait_for_everyone()  # nobody writes while another one may still refuse
    missing = writer.missing_shards(state.process_index, state.num_processes)
    total = sum(len(writer.positions(shard)) for shard in missing)
    start = time.perf_counter()
    with Progress(what="soft targets", total=total) as line:
        made = write_cache(pool, loader, writer, state.process_index, state.num_processes, line.update)
    seconds = time.perf_counter() - start
    state.wait_for_everyone()
    if state.is_main_process:
        writer.finish()
    state.wait_for_everyone()
    share = f" (process {state.process_index} of {state.num_processes})" if state.num_processes > 1 else ""
    return (
        f"{writer.folder}: soft targets of {len(rows)} utterances in {writer.manifest.shards} shards, "
        f"{readable(writer.size())}; {made} utterances made now{share}"
        + (f", {made / seconds:.3g} a second" if made else "")
    )


def look_ahead(
    pool: TeacherPool, writer: StoreWriter, items: Any, collate: Collator, training: DistillationArguments
) -> None:
    """Say what a store that is not finished will take and lose, from a few utterances.

    Raises:
        UserError: if a loss of the run cannot use its form, or the disk cannot hold it.
    """
    manifest, form, settings = writer.manifest, writer.encode.form, loss_settings(training)
    raise_all(settings.problems(), "the losses")
    refuse_dense_losses(form, settings, pool.blank_id, pool.frame_seconds)
    if writer.is_finished:
        return
    found = probe(pool, items, collate, manifest.hidden_layers)
    size = store_size(manifest, writer.ids, found)
    require_room(writer.folder, size, manifest.shards)
    if not PartialState().is_main_process:
        return
    spoken = {name: target.tensors["log_probs"] for name, target in found.said.items() if target.weight}
    schedule = temperature_schedule(training)
    temperatures = sorted({schedule.start, *schedule.milestones.values()})
    losses = form_losses(form, spoken, temperatures, settings, pool.blank_id)
    dense = 4 * len(pool.tokens) * sum(map(len, spoken.values())) * len(pool.teachers) / found.share
    say(forecast(manifest, size, dense, losses))
    warn_of_loss(form, losses)
