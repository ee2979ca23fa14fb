"""Writing down what a pool of teachers says: sharded over processes, resumable after a kill."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kd_asr_slr.outputs import TeacherSignal, given
from kd_asr_slr.teachers.batches import batch_to
from kd_asr_slr.teachers.pool import TeacherPool
from kd_asr_slr.teachers.shards import EncodedTarget, StoredTarget
from kd_asr_slr.teachers.store import StoreWriter


def write_cache(
    pool: TeacherPool,
    dataloader_factory: Callable[[range], Iterable[dict[str, Any]]],
    writer: StoreWriter,
    rank: int = 0,
    world_size: int = 1,
    progress: Callable[[int], object] | None = None,
) -> int:
    """Make this process's missing shards. Afterwards, once all processes are here, one calls `writer.finish()`.

    Batches never reach over a shard's end, so that its bytes do not depend on where a run was killed.

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
    layers = writer.manifest.hidden_layers
    for shard in writer.missing_shards(rank, world_size):
        targets: dict[str, EncodedTarget] = {}
        for batch in dataloader_factory(writer.positions(shard)):
            signal = pool.signal(batch_to(batch, pool.device), layers)
            # Encoded at once: a shard of dense distributions over thousands of classes would not fit into the memory.
            targets |= {
                name: writer.encode(name, target) for name, target in zip(batch["ids"], targets_of(signal), strict=True)
            }
            if progress is not None:
                progress(len(batch["ids"]))
        writer.write_shard(shard, targets)
        made += len(targets)
    return made


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
