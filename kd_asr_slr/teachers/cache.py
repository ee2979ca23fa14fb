"""Writing down what a pool of teachers says: sharded over processes, resumable after a kill."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from kd_asr_slr.outputs import TeacherSignal, given
from kd_asr_slr.teachers.batches import batch_to
from kd_asr_slr.teachers.pool import TeacherPool
from kd_asr_slr.teachers.shards import EncodedTarget, StoredTarget
from kd_asr_slr.teachers.store import StoreWriter

logger = logging.getLogger(__name__)


def write_cache(
    pool: TeacherPool,
    dataloader_factory: Callable[[range], Iterable[dict[str, Any]]],
    writer: StoreWriter,
    rank: int = 0,
    world_size: int = 1,
    progress: Callable[[int], object] | None = None,
) -> int:
    """Make this process's missing shards. Afterwards, once all processes are here, one calls `writer.finish()`.

    Batches never reach over a shard's end, so that its bytes do not depend on where a run was killed. A shard that
    another command is making at the same time is left to it.

    Args:
        pool: the live teachers, on their device.
        dataloader_factory: positions in the corpus -> batches of exactly these utterances, in any order, without
            augmentation, and the same batches whenever it is asked again.
        writer: the store.
        rank: this process.
        world_size: number of processes.
        progress: called with the number of utterances after each batch, for a progress bar.

    Returns:
        The number of utterances that were made; 0 where nothing was missing.
    """
    made = 0

    def make(shard: int, wait: bool) -> bool:
        """Whether the shard is whole now; it is not where another process is making it."""
        nonlocal made
        with writer.claim(shard, wait) as ours:
            if ours and not writer.is_whole(shard):
                targets = targets_of_shard(pool, dataloader_factory(writer.positions(shard)), writer, progress)
                writer.write_shard(shard, targets)
                made += len(targets)
            elif ours and progress is not None:
                progress(len(writer.positions(shard)))
        return ours

    others = [shard for shard in writer.missing_shards(rank, world_size) if not make(shard, wait=False)]
    if others:
        logger.info("waiting for another command that writes %s", writer.folder)
    for shard in others:  # made by now, or left unmade by a process that was killed
        make(shard, wait=True)
    return made


def targets_of_shard(
    pool: TeacherPool,
    batches: Iterable[dict[str, Any]],
    writer: StoreWriter,
    progress: Callable[[int], object] | None = None,
) -> dict[str, EncodedTarget]:
    """What the teachers say of a shard's utterances, by id.

    Encoded at once: a shard of dense distributions over thousands of classes would not fit into the memory.
    """
    targets: dict[str, EncodedTarget] = {}
    for batch in batches:
        signal = pool.signal(batch_to(batch, pool.device), writer.manifest.hidden_layers)
        targets |= {
            name: writer.encode(name, target) for name, target in zip(batch["ids"], targets_of(signal), strict=True)
        }
        if progress is not None:
            progress(len(batch["ids"]))
    return targets


def targets_of(signal: TeacherSignal) -> list[StoredTarget]:
    """The utterances of a signal, each without its padding, on the CPU."""
    log_probs, weights = signal.log_probs.cpu(), signal.weight.tolist()
    decoder = signal.decoder_log_probs.cpu() if signal.decoder_log_probs is not None else None
    hidden = {layer: states.cpu() for layer, states in (signal.hidden_states or {}).items()}
    ends = given(signal.decoder_lengths, "decoder_lengths") if decoder is not None else signal.lengths
    targets = []
    for row, frames in enumerate(signal.lengths.tolist()):
        tensors: dict[str, Any] = {"log_probs": log_probs[row, :frames]}  # [T, V]
        if decoder is not None:
            tensors["decoder_log_probs"] = decoder[row, : int(ends[row])]  # [U+1, V]
        tensors |= {f"hidden_{layer}": states[row, :frames] for layer, states in hidden.items()}
        targets.append(StoredTarget(frames, weights[row], tensors))
    return targets
