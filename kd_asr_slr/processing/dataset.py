"""The dataset a recogniser trains on: one row of the corpus -> features, labels, and the teachers' views of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.outputs import given
from kd_asr_slr.processing.augmentation import Augmentation
from kd_asr_slr.processing.base import RecogniserProcessor
from kd_asr_slr.processing.cache import ArrayCache
from kd_asr_slr.processing.collator import SECOND_VIEW
from kd_asr_slr.processing.feasibility import Subsampling, ctc_frames_needed, output_frames
from kd_asr_slr.processing.foreign import ForeignProcessor
from kd_asr_slr.processing.sign import SignProcessor

logger = logging.getLogger(__name__)

Processor = RecogniserProcessor | ForeignProcessor
Row = Mapping[str, Any]


class RecogniserDataset(Dataset):
    """Items for `Collator`, extracted when asked for; un-augmented arrays are cached up to a bound.

    The teachers' views come from the very waveform that the student hears, noise and gain included, or from the very
    landmarks that it sees; masks on the student's features are its own. A teacher with the student's features needs
    no view.

    Args:
        rows: a `datasets.Dataset` (or a list of rows) with id, speaker, text and audio or features; a row whose
            `untranscribed` is true has no text and no labels.
        processor: the student's.
        reader: row -> waveform [S] at the processor's rate, or frames [T, F]; media belong to another room.
        augmentation: applied in training only.
        views: the processors of teachers that take other features, by name.
        cache_mb: bound of the cache in MiB, over all loader workers together.
        train: whether labels outside the vocabulary and utterances too short for their labels are errors; otherwise
            such labels are left out (the row's text stays whole for scoring).
        subsampling: of the model, see `feasibility.output_frames`.
        two_views: whether an item has the student's features twice, under masks drawn independently, as "second_view".
            Among its views are the unmasked features then, so that a teacher who takes them is asked once for both.

    Raises:
        UserError: if processors, rows and augmentation do not go together.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        processor: Processor,
        reader: Callable[[Row], np.ndarray],
        augmentation: Augmentation | None = None,
        views: Mapping[str, Processor] | None = None,
        cache_mb: float = 512,
        train: bool = True,
        subsampling: Subsampling = 1,
        two_views: bool = False,
    ) -> None:
        self.rows: Any = rows  # of a Dataset, columns can be asked for too
        self.processor = processor
        self.train = train
        self.two_views = two_views and train
        self._reader = reader
        self._augmentation = augmentation if train else None
        others = {view.fingerprint: view for view in (views or {}).values()}
        self._own = processor.fingerprint  # kept: it hashes everything that was fitted
        self._processors = {**others, self._own: processor}
        self._subsampling = subsampling
        self._cache_bytes = int(cache_mb * 2**20)
        self._cache = ArrayCache(self._cache_bytes)
        self._shared_by = 1
        self._lengths = np.full(len(rows), -1, dtype=np.int64)
        # In shared memory, so that loader workers that live on see the epoch too.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        raise_all(self._problems(views or {}), "the dataset")

    def _problems(self, views: Mapping[str, Processor]) -> list[str]:
        rate = self.processor.sampling_rate
        problems = [
            f"'{name}' takes audio of {view.sampling_rate} Hz, the student of {rate} Hz; they must hear the same"
            for name, view in views.items()
            if view.sampling_rate != rate
        ]
        if not len(self.rows):
            return problems
        given, wanted = ("audio" if self.rows[0].get("audio") else "features"), ("audio" if rate else "features")
        if given != wanted:
            problems.append(f"the rows have {given}, but the processor takes {wanted}")
        if self.two_views and not (self._augmentation and self._augmentation.has("features")):
            problems.append("two views of an utterance without masks are identical; add the augmentation spec_augment")
        if self._augmentation is None:
            return problems
        if self._augmentation.has("waveform") and not self.rows[0].get("audio"):
            problems.append("an augmentation of waveforms, but the rows have features; leave it out")
        if self._augmentation.has("features") and self.processor.input_name == "input_values":
            problems.append(
                "an augmentation of features, but the model takes waveforms; leave it out, and let the network mask "
                'its own features: model_options {"time_masks": 5, "freq_masks": 2} for nemo_hybrid, '
                '{"mask_time_prob": 0.05} for those of transformers'
            )
        if self._augmentation.has("landmarks"):
            problems += self._landmark_problems(views)
        return problems

    def _landmark_problems(self, views: Mapping[str, Processor]) -> list[str]:
        if not isinstance(self.processor, SignProcessor) or self.rows[0].get("audio"):
            return ["an augmentation of landmarks, but the rows have audio; leave it out"]
        student = self.processor.feature_extractor
        problems = [
            f"'{name}' does not read '{student.layout}' landmarks as the student does; augmented, it has to"
            for name, view in views.items()
            if not isinstance(view, SignProcessor) or not student.reads_as(view.feature_extractor)
        ]
        augmentation = given(self._augmentation, "an augmentation")
        if augmentation.needs_points and student.augmented_layout is None:
            what = "raw" if student.points_layout is None else "temporal: keep"
            problems.append(
                f"an augmentation that moves, masks or mirrors points, but the features are '{what}'; "
                "name the layout of the landmarks, or leave it out"
            )
        if augmentation.only_moves and student.centre != "none":
            logger.warning("translation changes nothing: the features are centred; it is for centre: none")
        return problems

    def __len__(self) -> int:
        return len(self.rows)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins; the augmentation draws anew. The trainer's loader calls it."""
        self._epoch.fill_(epoch)

    def labels_of(self, index: int) -> list[int]:
        """Label indices of one row, without touching its media.

        Raises:
            UserError: in training, for labels outside the vocabulary or none at all.
        """
        return self._labels(self.rows[index])

    def length_of(self, index: int) -> int:
        """Input frames (samples, for waveforms) of one row, un-augmented; extracted at most once."""
        if self._lengths[index] < 0:
            self._clean(index, self.rows[index], {self._own: self.processor})
        return int(self._lengths[index])

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        labels = self._labels(row)
        arrays = self._arrays(index, row, labels)  # fingerprint -> [T, F] or [S]
        unmasked = arrays[self._own]
        if not self.two_views:
            del arrays[self._own]
        views = {name: {self._processors[name].input_name: array} for name, array in arrays.items()}
        return {
            self.processor.input_name: self._masked(unmasked, index, view=0),
            "labels": labels,
            "id": row["id"],
            "speaker": row["speaker"],
            "text": row["text"],
            "views": views,
            **({SECOND_VIEW: self._masked(unmasked, index, view=1)} if self.two_views else {}),
        }

    def _masked(self, inputs: np.ndarray, index: int, view: int) -> np.ndarray:
        if self._augmentation is None or not self._augmentation.has("features"):
            return inputs
        return self._augmentation.features(inputs, int(self._epoch), index, view)

    def _labels(self, row: Row) -> list[int]:
        with _naming(row):
            labels = self.processor.encode_labels(row["text"], "error" if self.train else "drop")
        if self.train and not labels and not row.get("untranscribed"):
            raise UserError(f"utterance '{row['id']}' has no label", "at least one in every training transcript")
        return labels

    def _arrays(self, index: int, row: Row, labels: list[int]) -> dict[str, np.ndarray]:
        if self._augments_media:
            arrays = self._augmented(index, row)
            if self._fits(arrays, labels):
                return arrays
            # Sped up too far for its labels; whether the recording itself is too short is decided below.
        arrays = self._clean(index, row, self._processors)
        if self.train and not self._fits(arrays, labels):
            raise self._too_short(row, arrays, labels)
        return arrays

    @property
    def _augments_media(self) -> bool:
        return self._augmentation is not None and any(map(self._augmentation.has, ("waveform", "landmarks")))

    def _augmented(self, index: int, row: Row) -> dict[str, np.ndarray]:
        media, epoch = self._media(index, row), int(self._epoch)
        augmentation = given(self._augmentation, "an augmentation")
        if augmentation.has("waveform"):
            waveform = augmentation.waveform(media, epoch, index)
            return {name: self._extract(row, processor, waveform) for name, processor in self._processors.items()}
        student: Any = self.processor.feature_extractor
        with _naming(row):
            frames = augmentation.landmarks(student.read_frames(media), epoch, index, student.augmented_layout)
            return {name: item.feature_extractor.extract_frames(frames) for name, item in self._processors.items()}

    def _clean(self, index: int, row: Row, processors: Mapping[str, Processor]) -> dict[str, np.ndarray]:
        """Un-augmented features by fingerprint, from the cache where they are in it; the media are read once."""
        found = {name: self._cached().get((index, name)) for name in processors}
        arrays = {name: array for name, array in found.items() if array is not None}
        absent = [name for name in processors if name not in arrays]
        media: Any = self._media(index, row) if absent else None
        for name in absent:
            arrays[name] = self._cache.put((index, name), self._extract(row, processors[name], media))
        self._lengths[index] = len(arrays[self._own])
        return {name: arrays[name] for name in processors}

    def _media(self, index: int, row: Row) -> np.ndarray:
        """The row's media; cached only where every epoch needs it anew."""
        key = (index, "media")
        media = self._cached().get(key)
        if media is not None:
            return media
        media = self._reader(row)
        return self._cache.put(key, media) if self._augments_media else media

    def _extract(self, row: Row, processor: Processor, media: np.ndarray) -> np.ndarray:
        with _naming(row):
            return processor.extract(media)

    def _fits(self, arrays: Mapping[str, np.ndarray], labels: list[int]) -> bool:
        frames = output_frames(len(arrays[self._own]), self._subsampling)
        return frames >= ctc_frames_needed(labels)

    def _too_short(self, row: Row, arrays: Mapping[str, np.ndarray], labels: list[int]) -> UserError:
        frames = output_frames(len(arrays[self._own]), self._subsampling)
        return UserError(
            f"utterance '{row['id']}' has {frames} output frames for {len(labels)} labels",
            f"at least {ctc_frames_needed(labels)} (one a label, one more between equal neighbours)",
            fix="leave it out of the training split, or use a model with less subsampling",
        )

    def _cached(self) -> ArrayCache:
        """The cache; a loader worker keeps to its share of the bound."""
        worker = get_worker_info()
        if worker is not None and worker.num_workers != self._shared_by:
            self._shared_by = worker.num_workers
            self._cache.resize(self._cache_bytes // worker.num_workers)
        return self._cache

    def __getstate__(self) -> dict[str, Any]:
        # A worker started afresh gets an empty cache instead of a copy of the parent's.
        return {**self.__dict__, "_cache": ArrayCache(self._cache_bytes), "_shared_by": 1}


@contextmanager
def _naming(row: Row) -> Iterator[None]:
    """Put the utterance's id before what is wrong with it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"utterance '{row['id']}': {error}") from error
