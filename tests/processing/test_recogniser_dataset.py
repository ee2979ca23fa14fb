"""Dataset and collator: items, labels, cache, workers, epochs, views, batches; and which utterances CTC cannot emit."""

from __future__ import annotations

import itertools
import pickle

import datasets
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.augmentation import build_augmentation
from kd_asr_slr.processing.cache import ArrayCache
from kd_asr_slr.processing.collator import Collator
from kd_asr_slr.processing.dataset import RecogniserDataset
from kd_asr_slr.processing.feasibility import ctc_frames_needed, infeasible_ctc, output_frames
from kd_asr_slr.processing.sign import SignFeatureExtractor, SignProcessor
from kd_asr_slr.processing.speech import SpeechFeatureExtractor, SpeechProcessor
from kd_asr_slr.processing.tokenization import LabelTokenizer

LABELS = LabelTokenizer.from_texts(["A B C"])


def corpus(texts: list[str], column: str = "audio") -> datasets.Dataset:
    return datasets.Dataset.from_list(
        [{"id": f"u{i}", "speaker": f"s/{i % 2}", "text": text, column: str(i)} for i, text in enumerate(texts)]
    )


class Reader:
    """Stands for the corpora's readers: utterance i has 1600 * (i + 1) samples; counts what it reads."""

    def __init__(self) -> None:
        self.reads: list[int] = []

    def __call__(self, row: dict) -> np.ndarray:
        index = int(row["audio"])
        self.reads.append(index)
        return np.random.default_rng(index).standard_normal(1600 * (index + 1)).astype(np.float32)


def speech(**options: object) -> SpeechProcessor:
    return SpeechProcessor(SpeechFeatureExtractor(feature_size=20, **options), LABELS)


def build(texts: list[str], **options: object) -> RecogniserDataset:
    options.setdefault("reader", Reader())
    return RecogniserDataset(corpus(texts), options.pop("processor", speech()), **options)


def test_an_item() -> None:
    dataset = build(["A B", "C"])
    item = dataset[1]
    assert np.array_equal(item["input_features"], speech().extract(Reader()({"audio": "1"})))
    del item["input_features"]
    assert item == {"labels": [3], "id": "u1", "speaker": "s/1", "text": "C", "views": {}}
    assert (len(dataset), dataset.length_of(0), dataset.labels_of(0)) == (2, 11, [1, 2])


def test_labels_outside_the_vocabulary() -> None:
    with pytest.raises(UserError, match="utterance 'u0': 'A X' has labels outside the vocabulary.*'X'"):
        build(["A X"])[0]
    item = build(["A X"], train=False)[0]
    assert (item["labels"], item["text"]) == ([1], "A X")
    with pytest.raises(UserError, match="'u0' has no label"):
        build([""])[0]
    assert build([""], train=False)[0]["labels"] == []


def test_an_utterance_too_short_for_its_labels() -> None:
    assert build(["A B"], subsampling=5)[0]["labels"] == [1, 2]  # 11 frames -> 2
    with pytest.raises(UserError, match="'u0' has 2 output frames for 2 labels; expected at least 3"):
        build(["A A"], subsampling=5)[0]
    assert build(["A A"], subsampling=lambda frames: -(-frames // 5))[0]["labels"] == [1, 1]  # 11 frames -> 3
    assert build(["A A"], subsampling=5, train=False)[0]["labels"] == [1, 1]


def test_a_reader_or_extractor_error_names_the_utterance() -> None:
    with pytest.raises(UserError, match="utterance 'u0': a waveform of shape"):
        build(["A"], reader=lambda row: np.zeros((3, 3)))[0]


def collapses(path: np.ndarray, labels: tuple[int, ...]) -> bool:
    return tuple(key for key, _ in itertools.groupby(path) if key != 0) == labels


@pytest.mark.parametrize("labels", [(1,), (1, 2), (1, 1), (1, 1, 1), (2, 2, 1), (1, 2, 1, 1)])
def test_fewest_frames_by_trying_every_path(labels: tuple[int, ...]) -> None:
    needed = next(
        frames
        for frames in range(1, 8)
        if any(collapses(path, labels) for path in itertools.product(range(3), repeat=frames))
    )
    assert ctc_frames_needed(labels) == needed
    # torch agrees: finite from there on.
    for frames in (needed - 1, needed):
        loss = torch.nn.functional.ctc_loss(
            torch.zeros(max(frames, 1), 1, 3).log_softmax(-1),
            torch.tensor([labels]),
            torch.tensor([frames]),
            torch.tensor([len(labels)]),
        )
        assert torch.isfinite(loss) == (frames == needed)


def test_infeasible_is_streamed() -> None:
    endless = infeasible_ctc(itertools.repeat(8), itertools.cycle([[1, 2], [1, 1]]), subsampling=4)
    assert [next(endless) for _ in range(2)] == [(1, 2, 3), (3, 2, 3)]
    assert list(infeasible_ctc([3], [[1, 1]])) == []
    assert output_frames(9, 4) == 2 and output_frames(9, lambda frames: -(-frames // 4)) == 3


def test_the_cache_saves_reading_and_stays_within_its_bound() -> None:
    reader = Reader()
    dataset = build(["A", "B", "C"], reader=reader, cache_mb=4 * 20 * (11 + 21) / 2**20)  # room for u0 and u1
    first = [dataset[i]["input_features"].copy() for i in (0, 1, 0, 1)]
    assert reader.reads == [0, 1]
    dataset[2], dataset[0]
    assert reader.reads == [0, 1, 2, 0]
    assert dataset._cache.bytes <= dataset._cache.max_bytes
    assert np.array_equal(dataset[0]["input_features"], first[0])


def test_array_cache_drops_what_was_used_longest_ago() -> None:
    cache = ArrayCache(max_bytes=30)
    for key in "abc":
        cache.put(key, np.zeros(10, np.uint8))
    cache.get("a")
    cache.put("d", np.zeros(10, np.uint8))
    assert [cache.get(key) is not None for key in "abcd"] == [True, False, True, True]
    assert cache.put("e", np.zeros(31, np.uint8)).size == 31 and cache.get("e") is None
    cache.put("d", np.zeros(5, np.uint8))
    assert (cache.bytes, len(cache)) == (25, 3)
    cache.resize(5)
    assert (cache.bytes, len(cache)) == (5, 1)
    view = cache.put("f", np.zeros(1000, np.uint8)[:3])
    assert view.base is None or view.base.nbytes == 3  # not the thousand
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    assert ArrayCache(0).put("a", np.zeros(1)).flags.writeable


def test_augmentation_changes_with_the_epoch_and_not_the_cache() -> None:
    dataset = build(["A", "B"], augmentation=build_augmentation(["spec_augment"], seed=3))
    first = dataset[1]["input_features"].copy()
    assert np.array_equal(dataset[1]["input_features"], first)
    dataset.set_epoch(1)
    assert not np.array_equal(dataset[1]["input_features"], first)
    dataset.set_epoch(0)
    assert np.array_equal(dataset[1]["input_features"], first)
    clean = build(["A", "B"], augmentation=build_augmentation(["spec_augment"]), train=False)[1]["input_features"]
    assert np.array_equal(clean, build(["A", "B"])[1]["input_features"])


def test_waveform_augmentation_reads_once_and_reaches_every_view() -> None:
    reader = Reader()
    view = speech(normalisation="none")
    augmentation = build_augmentation({"gain": {"lowest": 20, "highest": 20}})
    dataset = build(["A", "B"], reader=reader, augmentation=augmentation, views={"teacher": view, "same": speech()})
    items = [dataset[1] for _ in range(3)]
    assert reader.reads == [1]
    assert list(items[0]["views"]) == [view.fingerprint]
    expected = view.extract(Reader()({"audio": "1"}) * np.float32(10))
    np.testing.assert_allclose(items[0]["views"][view.fingerprint]["input_features"], expected, atol=1e-5)


def test_sped_up_too_far_for_the_labels_it_is_left_as_it_is() -> None:
    speed = build_augmentation({"speed": {"factors": [1.25]}})
    assert len(build(["A B"], augmentation=speed, subsampling=5)[0]["input_features"]) == 11  # 9 -> 1 frame is too few
    assert len(build(["A"], augmentation=speed, subsampling=5)[0]["input_features"]) == 9
    with pytest.raises(UserError, match="2 output frames for 3 labels"):
        build(["A B C"], augmentation=speed, subsampling=5)[0]


def test_what_does_not_go_together() -> None:
    with pytest.raises(UserError, match="takes audio of 8000 Hz, the student of 16000 Hz"):
        build(["A"], views={"teacher": speech(sampling_rate=8000)})
    sign = SignProcessor(SignFeatureExtractor(), LABELS)
    with pytest.raises(UserError, match="augmentation of waveforms, but the rows have features"):
        RecogniserDataset(corpus(["A"], "features"), sign, Reader(), build_augmentation(["gain"]))
    with pytest.raises(UserError, match="augmentation of features, but the model takes waveforms"):
        build(["A"], processor=speech(kind="waveform"), augmentation=build_augmentation(["spec_augment"]))


def batches(dataset: RecogniserDataset, **options: object) -> list[dict]:
    return list(DataLoader(dataset, batch_size=2, collate_fn=Collator("input_features"), **options))


def test_loader_workers_give_the_same_batches_and_follow_the_epoch() -> None:
    dataset = build(["A", "B", "C", "A B"], augmentation=build_augmentation(["gaussian_noise", "spec_augment"]))
    loader = DataLoader(
        dataset,
        batch_size=2,
        collate_fn=Collator(),
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        for ours, theirs in zip(batches(dataset), loader, strict=True):
            assert ours["ids"] == theirs["ids"]
            assert torch.equal(ours["input_features"], theirs["input_features"])


def test_a_worker_keeps_to_its_share_of_the_cache(monkeypatch) -> None:
    dataset = build(["A", "B"], cache_mb=1)
    dataset[0]
    assert dataset._cache.max_bytes == 2**20
    monkeypatch.setattr("kd_asr_slr.processing.dataset.get_worker_info", lambda: type("Info", (), {"num_workers": 4}))
    dataset[1]
    assert dataset._cache.max_bytes == 2**18
    copy = pickle.loads(pickle.dumps(dataset))
    assert (len(copy._cache), copy._cache.max_bytes) == (0, 2**20)
    assert np.array_equal(copy[1]["input_features"], dataset[1]["input_features"])


def test_a_batch() -> None:
    view = speech(kind="waveform")
    dataset = build(["A B C", "B"], views={"teacher": view})
    batch = Collator("input_features")([dataset[1], dataset[0]])
    assert batch["input_features"].shape == (2, 21, 20) and batch["input_features"].dtype == torch.float32
    assert batch["attention_mask"].dtype == torch.long
    assert batch["attention_mask"].sum(-1).tolist() == [21, 11]
    assert not batch["input_features"][1, 11:].any()
    assert torch.equal(batch["input_features"][1, :11], torch.tensor(dataset[0]["input_features"]))
    assert batch["labels"].tolist() == [[2, -100, -100], [1, 2, 3]]
    assert (batch["ids"], batch["speakers"]) == (["u1", "u0"], ["s/1", "s/0"])
    teacher = batch["views"][view.fingerprint]
    assert teacher["input_values"].shape == (2, 3200)
    assert teacher["attention_mask"].sum(-1).tolist() == [3200, 1600]


def test_a_batch_without_labels_or_views() -> None:
    batch = Collator("input_features")([build(["X"], train=False)[0]])
    assert batch["labels"].shape == (1, 0)
    assert "views" not in batch


def test_a_batch_of_waveforms() -> None:
    dataset = build(["A", "B"], processor=speech(kind="waveform"))
    batch = Collator("input_values")([dataset[0], dataset[1]])
    assert batch["input_values"].shape == batch["attention_mask"].shape == (2, 3200)
    assert batch["attention_mask"].sum(-1).tolist() == [1600, 3200]
