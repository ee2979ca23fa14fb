"""Batches by a budget of frames: utterances of similar length together, as many as the budget holds once padded.

transformers' `group_by_length` has a fixed number of utterances a batch and an order that a run which is taken up again
does not repeat; its `batch_rebalance` cuts random batches into micro-batches, so that one process without accumulation
pads as before. Neither knows a budget.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import TrainingArguments
from transformers.trainer_utils import seed_worker

from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.collator import Collator

logger = logging.getLogger(__name__)

# Utterances whose lengths differ by less than this share are exchanged from epoch to epoch. More means more padding.
SPREAD = 0.05


class FrameBatchSampler(Sampler[list[int]]):
    """Batches whose padded size, utterances x longest, stays within a budget.

    Utterances are grouped by length, shuffled within their group, laid side by side from short to long and cut where
    the budget is full; the batches then come in a random order. The cuts reckon with the longest utterance of a group,
    so that they are the same in every epoch: the steps of a run, and its schedule, are known beforehand. An order
    depends on seed and epoch alone: all processes have the same, and a run that is taken up again goes on with it.

    Args:
        lengths: of each utterance, in input frames (samples, for waveforms), [N]; one without frames counts as one.
        frames: the budget; no utterance may be longer.
        seed: of the run.

    Example:
        >>> sampler = FrameBatchSampler([30, 100, 10, 31, 98, 11], frames=200, seed=0)
        >>> sorted(sorted(batch) for batch in sampler)
        [[0, 2, 3, 5], [1, 4]]
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, frames: int, seed: int) -> None:
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.frames = frames
        self.epoch = 0
        self._seed = seed
        # Whether an utterance without frames is fit for training is for preflight to say, of all of them at once.
        counted = np.maximum(self.lengths, 1)
        self._groups = np.floor(np.log(counted) / np.log1p(SPREAD)).astype(np.int64)
        self._cuts = self._cut(counted)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._cuts) + 1

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng([self._seed, self.epoch])
        shuffled = np.lexsort((generator.random(len(self.lengths)), self._groups))
        batches = np.split(shuffled, self._cuts)
        for number in generator.permutation(len(batches)):
            yield batches[number].tolist()

    @property
    def padding(self) -> float:
        """Share of the frames of an epoch that is padding, 0 to 1; it hardly differs between epochs."""
        padded = sum(len(batch) * int(self.lengths[batch].max()) for batch in self)
        return 1 - int(self.lengths.sum()) / padded if padded else 0.0

    def _cut(self, lengths: np.ndarray) -> np.ndarray:
        """Where batches begin but the first, in the order of the groups."""
        groups, members = np.unique(self._groups, return_inverse=True)
        longest = np.zeros(len(groups), dtype=np.int64)
        np.maximum.at(longest, members, lengths)
        cuts, begin = [], 0
        for place, bound in enumerate(np.sort(longest[members]).tolist()):
            if (place - begin + 1) * bound > self.frames:
                cuts.append(begin := place)
        return np.array(cuts, dtype=np.int64)


def build_frame_batches(
    lengths: Sequence[int] | np.ndarray, ids: Sequence[str], frames: int, seed: int
) -> FrameBatchSampler:
    """The batches of a run, announced in a log line.

    Args:
        lengths: input frames of each utterance (samples, for waveforms).
        ids: of the utterances, for the message.
        frames: the budget.
        seed: of the run.

    Raises:
        UserError: if an utterance is longer than the budget.
    """
    longest = int(np.argmax(lengths))
    if lengths[longest] > frames:
        raise UserError(
            f"batch_frames is {frames} and utterance '{ids[longest]}' has {lengths[longest]} frames",
            expected="a budget that holds the longest utterance",
            fix=f"set --batch_frames {lengths[longest]} or more",
        )
    sampler = FrameBatchSampler(lengths, frames, seed)
    each = len(lengths) / len(sampler)
    logger.info(
        "%d batches of up to %d frames, %.1f utterances each, %.1f %% padding",
        *(len(sampler), frames, each, 100 * sampler.padding),
    )
    return sampler


def frame_loader(
    dataset: Dataset, sampler: FrameBatchSampler, collator: Collator, arguments: TrainingArguments
) -> DataLoader:
    """The loader that transformers would make of the arguments, but for these batches."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collator,
        num_workers=arguments.dataloader_num_workers,
        pin_memory=arguments.dataloader_pin_memory,
        persistent_workers=arguments.dataloader_persistent_workers,
        prefetch_factor=arguments.dataloader_prefetch_factor,
        multiprocessing_context=arguments.dataloader_multiprocessing_context,
        worker_init_fn=partial(seed_worker, num_workers=arguments.dataloader_num_workers, rank=arguments.process_index),
    )
