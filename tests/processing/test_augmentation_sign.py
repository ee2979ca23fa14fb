"""Augmentations of landmarks, by hand and through the features; and how the dataset applies them."""

from __future__ import annotations

import logging

import datasets
import numpy as np
import pytest

from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.augmentation import build_augmentation, check_for_cache
from kd_asr_slr.processing.augmentation_sign import (
    SIGN_AUGMENTATIONS,
    Mirror,
    PartMasking,
    ResampleTime,
    Rotation,
    TemporalMixup,
    Translation,
)
from kd_asr_slr.processing.dataset import RecogniserDataset
from kd_asr_slr.processing.layouts import LAYOUTS, Layout
from kd_asr_slr.processing.sign import SignFeatureExtractor, SignProcessor
from kd_asr_slr.processing.speech import SpeechFeatureExtractor, SpeechProcessor
from kd_asr_slr.processing.tokenization import LabelTokenizer

HOLISTIC, COCO = LAYOUTS["mediapipe_holistic"], LAYOUTS["coco_wholebody"]
LABELS = LabelTokenizer.from_texts(["A B C"])


def points_of(layout: Layout = HOLISTIC, frames: int = 30) -> np.ndarray:
    """Random points with gaps: frames 4 to 8 without a left hand, a point of the face now and then."""
    points = np.random.default_rng(0).uniform(0, 1, (frames, layout.points, 3)).astype(np.float32)
    points[4:9, layout.parts["left_hand"].points, : layout.dimensions] = np.nan
    points[::3, layout.parts["face"].points.start + 7, : layout.dimensions] = np.nan
    return points


def drawn(step: object, points: np.ndarray, seed: int = 0, layout: Layout = HOLISTIC) -> np.ndarray:
    return step(points, np.random.default_rng(seed), layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SIGN_AUGMENTATIONS)
def test_in_every_layout_nothing_missing_is_invented_and_nothing_is_changed_in_place(name: str, layout: str) -> None:
    points = points_of(LAYOUTS[layout])
    points[:, LAYOUTS[layout].parts["face"].points, : LAYOUTS[layout].dimensions] = np.nan  # never seen
    kept = points.copy()
    for seed in range(6):
        augmented = drawn(SIGN_AUGMENTATIONS[name](), points, seed, LAYOUTS[layout])
        assert augmented.dtype == np.float32 and augmented.shape[1:] == points.shape[1:]
        assert np.isnan(augmented[:, LAYOUTS[layout].parts["face"].points, 0]).all()
    assert np.array_equal(points, kept, equal_nan=True)


@pytest.mark.parametrize("name", SIGN_AUGMENTATIONS)
def test_one_frame_and_nobody_in_it(name: str) -> None:
    points = np.full((1, 543, 3), np.nan, np.float32)
    assert all(np.isnan(drawn(SIGN_AUGMENTATIONS[name](), points, seed)).all() for seed in range(10))


def test_resampling_draws_straight_lines_between_frames() -> None:
    frames = np.array([[0.0], [10.0], [4.0]], np.float32)
    double = ResampleTime(lowest=5 / 3, highest=5 / 3)(frames, np.random.default_rng(0))
    assert double[:, 0].tolist() == [0, 5, 10, 7, 4]
    half = ResampleTime(lowest=0.5, highest=0.5)(frames, np.random.default_rng(0))
    assert half[:, 0].tolist() == [0, 4]
    same = ResampleTime(lowest=1, highest=1)(points_of(), np.random.default_rng(0))
    assert np.array_equal(same, points_of(), equal_nan=True)


def test_resampling_takes_the_nearer_frame_beside_a_missing_one() -> None:
    frames = np.array([[0.0], [np.nan], [4.0], [6.0]], np.float32)
    resampled = ResampleTime(lowest=2.5, highest=2.5)(frames, np.random.default_rng(0))[:, 0]  # every third of a frame
    assert resampled[:2].tolist() == [0, 0] and np.isnan(resampled[2:5]).all()
    np.testing.assert_allclose(resampled[5:], [4, 4, 4 + 2 / 3, 4 + 4 / 3, 6], rtol=1e-6)


def test_resampled_lengths_span_the_range() -> None:
    frames = np.zeros((100, 2), np.float32)
    lengths = [len(ResampleTime()(frames, np.random.default_rng(seed))) for seed in range(300)]
    assert min(lengths) in range(50, 54) and max(lengths) in range(147, 151)
    with pytest.raises(UserError, match="resample_time from 1.5 to 0.5"):
        ResampleTime(lowest=1.5, highest=0.5)


def test_velocities_follow_the_resampled_frames() -> None:
    media = np.repeat(points_of()[:1], 21, axis=0)
    media[:, HOLISTIC.parts["right_hand"].points, 0] += np.linspace(0, 1, 21)[:, None] * np.linspace(0, 1, 21)
    extractor = SignFeatureExtractor(subset="hands", velocity="forward")
    frames = extractor.read_frames(np.nan_to_num(media))
    slow = drawn(ResampleTime(lowest=2, highest=2), frames)  # 42 frames
    speed = extractor.extract_frames(frames)[0, -63:]
    np.testing.assert_allclose(extractor.extract_frames(slow)[0, -63:], speed * 20 / 41, atol=1e-5)


def test_rotation_keeps_distances_and_turns_by_the_angle() -> None:
    points = points_of()
    step = Rotation(degrees=15, probability=1.0)
    angles = []
    for seed in range(60):
        turned = drawn(step, points, seed)
        assert np.array_equal(turned[..., 2], points[..., 2], equal_nan=True)
        assert np.array_equal(np.isnan(turned), np.isnan(points))
        before, after = (array[0, 20, :2] - array[0, 11, :2] for array in (points, turned))
        np.testing.assert_allclose(np.linalg.norm(after), np.linalg.norm(before), rtol=1e-4)
        angles.append(np.rad2deg(np.angle(complex(*after) / complex(*before))))
    assert max(map(abs, angles)) <= 15.01 and min(angles) < -12 and max(angles) > 12
    turned_at_all = [not np.array_equal(drawn(Rotation(), points, seed), points, equal_nan=True) for seed in range(200)]
    assert 70 < sum(turned_at_all) < 130


def test_translation_is_in_shoulder_widths_and_centred_features_do_not_feel_it() -> None:
    points = points_of(COCO)
    points[:, 5, :2], points[:, 6, :2] = [300, 100], [100, 100]
    shifts = []
    for seed in range(100):
        moved = drawn(Translation(share=0.1), points, seed, COCO)
        shift = moved[0, 5, :2] - points[0, 5, :2]
        everywhere = np.where(np.isnan(points[..., :2]), np.nan, shift)
        np.testing.assert_allclose(moved[..., :2] - points[..., :2], everywhere, atol=1e-3)
        assert np.array_equal(moved[..., 2], points[..., 2])  # confidences
        shifts.append(shift)
    assert 18 < np.abs(shifts).max() <= 20.01
    features = {centre: SignFeatureExtractor("coco_wholebody", centre=centre) for centre in ("part", "body", "none")}
    felt = [
        not np.allclose(item.extract_frames(points), item.extract_frames(moved), atol=1e-4)
        for item in features.values()
    ]
    assert felt == [False, False, True]


def test_part_masking_loses_one_stretch_of_a_part() -> None:
    points = np.random.default_rng(1).uniform(0, 1, (40, 133, 3)).astype(np.float32)
    step = PartMasking(probability=1.0, longest=0.25, parts=("left_hand", "face"))
    lengths = set()
    for seed in range(200):
        masked = drawn(step, points, seed, COCO)
        gone = np.isnan(masked[..., 0])
        assert np.array_equal(gone, masked[..., 2] == 0)  # the confidence says so too
        for part in ("left_hand", "face"):
            lost = gone[:, COCO.parts[part].points]
            assert (lost.all(axis=1) == lost.any(axis=1)).all()
            assert np.abs(np.diff(lost[:, 0].astype(int), prepend=0, append=0)).sum() == 2
            lengths.add(int(lost[:, 0].sum()))
        assert not gone[:, COCO.parts["pose"].points].any() and not gone[:, COCO.parts["right_hand"].points].any()
    assert lengths == set(range(1, 11))
    features = SignFeatureExtractor("coco_wholebody", "hands", velocity="both")
    mask = features.streams["temporal"][0]
    assert (features.extract_frames(masked)[:, mask] == ~gone[:, 91]).all()
    often = [np.isnan(drawn(PartMasking(parts=("face",)), points, seed, COCO)).any() for seed in range(400)]
    assert 70 < sum(often) < 130
    with pytest.raises(UserError, match="part_masking names feet"):
        PartMasking(parts=("feet",))


def test_a_mirror_by_hand() -> None:
    points = points_of(COCO)
    mirrored = drawn(Mirror(probability=1.0), points, 0, COCO)
    assert np.array_equal(mirrored[:, 91:112, 1:], points[:, 112:133, 1:], equal_nan=True)
    assert np.isnan(mirrored[4:9, 112:133, 0]).all() and np.isfinite(mirrored[:, 91:112]).all()
    assert np.array_equal(mirrored[:, 5, 1:], points[:, 6, 1:])  # shoulders
    sums = (mirrored[..., 0] + points[:, COCO.mirror, 0])[np.isfinite(points[:, COCO.mirror, 0])]
    assert np.ptp(sums) < 1e-5  # about one axis
    twice = drawn(Mirror(probability=1.0), mirrored, 0, COCO)
    np.testing.assert_allclose(twice, points, atol=1e-5)
    often = [not np.array_equal(drawn(Mirror(), points, seed, COCO), points, equal_nan=True) for seed in range(200)]
    assert 70 < sum(often) < 130


def test_mirrored_features_are_those_of_the_other_hand_with_x_turned() -> None:
    media = np.nan_to_num(points_of())
    extractor = SignFeatureExtractor(subset="hands", velocity="both")
    frames = extractor.read_frames(media)
    plain = extractor.extract_frames(frames)
    mirrored = extractor.extract_frames(drawn(Mirror(probability=1.0), frames))
    start = extractor.streams["temporal"][0]
    left, right = (plain[:, first : first + 63].reshape(-1, 21, 3) for first in (0, 63))
    np.testing.assert_allclose(mirrored[:, :63].reshape(-1, 21, 3), right * [-1, 1, 1], atol=1e-4)
    np.testing.assert_allclose(mirrored[:, 63:126].reshape(-1, 21, 3), left * [-1, 1, 1], atol=1e-4)
    assert np.array_equal(mirrored[:, start : start + 2], plain[:, [start + 1, start]])


def test_mixup_is_a_mixture_with_neighbours_only() -> None:
    frames = np.eye(30)  # each frame has a column of its own, so a mixture shows its parts
    weights, distances = [], set()
    for seed in range(300):
        mixed = TemporalMixup(share=0.2, reach=2)(frames, np.random.default_rng(seed))
        np.testing.assert_allclose(mixed.sum(axis=1), 1)
        others = mixed - np.diag(np.diag(mixed))
        rows, partners = np.nonzero(others)
        assert len(set(rows)) == len(rows) > 0 and np.ptp(others[rows, partners]) < 1e-12  # one partner, one weight
        distances |= set(partners - rows)
        weights.append(others.max())
    assert distances == {-2, -1, 1, 2} and 0 < min(weights) < 0.01 and 0.19 < max(weights) <= 0.2
    missing = np.array([[1.0], [np.nan], [3.0]])
    mixed = TemporalMixup(reach=1)(missing, np.random.default_rng(2))
    assert np.isnan(mixed).ravel().tolist() == [False, True, False]
    for options in ({"share": 0.7}, {"share": 0}, {"reach": 0}):
        with pytest.raises(UserError, match="temporal_mixup"):
            TemporalMixup(**options)


def test_cached_targets_refuse_resampling_only() -> None:
    check_for_cache([name for name in SIGN_AUGMENTATIONS if name != "resample_time"])
    with pytest.raises(UserError, match="'resample_time' changes the length"):
        check_for_cache(SIGN_AUGMENTATIONS)


class Reader:
    """Utterance i has 10 * (i + 1) frames; counts what it reads."""

    def __init__(self, layout: str = "mediapipe_holistic") -> None:
        self.width = next(iter(LAYOUTS[layout].widths))
        self.reads = 0

    def __call__(self, row: dict) -> np.ndarray:
        self.reads += 1
        index = int(row["features"])
        return np.random.default_rng(index).uniform(0.1, 0.9, (10 * (index + 1), self.width)).astype(np.float32)


def sign(**options: object) -> SignProcessor:
    return SignProcessor(SignFeatureExtractor(**options), LABELS)


def dataset(texts: list[str], augmentation: dict | None, processor: SignProcessor | None = None, **options: object):
    rows = [{"id": f"u{i}", "speaker": "s/1", "text": text, "features": str(i)} for i, text in enumerate(texts)]
    built = None if augmentation is None else build_augmentation(augmentation, seed=3)
    reader = options.pop("reader", Reader())
    return RecogniserDataset(datasets.Dataset.from_list(rows), processor or sign(), reader, built, **options)


EVERYTHING = {"resample_time": None, "rotation": None, "part_masking": None, "mirror": None, "temporal_mixup": None}


def test_items_are_augmented_anew_each_epoch_and_the_same_when_repeated() -> None:
    reader = Reader()
    items = dataset(["A", "B C"], EVERYTHING, reader=reader)
    first = items[1]["input_features"]
    assert np.array_equal(items[1]["input_features"], first)
    items.set_epoch(1)
    other = items[1]["input_features"]
    assert other.shape != first.shape or not np.array_equal(other, first)
    assert reader.reads == 1 and items.length_of(1) == 20  # un-augmented
    assert np.array_equal(dataset(["A", "B C"], EVERYTHING)[1]["input_features"], first)
    clean = dataset(["A", "B C"], EVERYTHING, train=False)[1]["input_features"]
    assert np.array_equal(clean, sign().extract(Reader()({"features": "1"})))


def test_the_augmentation_is_applied_before_the_features() -> None:
    items = dataset(["A"], {"mirror": {"probability": 1.0}})
    extractor = sign().feature_extractor
    frames = extractor.read_frames(Reader()({"features": "0"}))
    expected = extractor.extract_frames(drawn(Mirror(probability=1.0), frames))
    assert np.array_equal(items[0]["input_features"], expected)


def test_a_teacher_with_other_features_sees_the_same_landmarks() -> None:
    view = sign(subset="hands", dimensions=2)
    items = dataset(["A", "B"], EVERYTHING, views={"teacher": view})
    for epoch in range(4):
        items.set_epoch(epoch)
        item = items[1]
        seen = item["views"][view.fingerprint]["input_features"]
        hands = item["input_features"][:, 33:159].reshape(len(seen), 42, 3)
        assert np.array_equal(seen[:, :84].reshape(-1, 42, 2), hands[..., :2])


def test_too_short_for_its_labels_after_resampling_is_taken_as_it_is() -> None:
    faster = {"resample_time": {"lowest": 0.5, "highest": 0.5}}
    assert len(dataset(["A B C"], faster, subsampling=2)[0]["input_features"]) == 10
    assert len(dataset(["A"], faster, subsampling=2)[0]["input_features"]) == 5


def test_raw_features_take_what_knows_nothing_of_points() -> None:
    raw = sign(layout="raw").fit([Reader()({"features": "2"})])
    items = dataset(["A", "B"], {"resample_time": {"lowest": 0.5, "highest": 0.5}, "temporal_mixup": None}, raw)
    assert items[1]["input_features"].shape == (10, 1629) and items[1]["input_features"].dtype == np.float32
    with pytest.raises(UserError, match="moves, masks or mirrors points, but the features are 'raw'"):
        dataset(["A"], {"mirror": None}, raw)


def test_kept_temporal_values_take_what_knows_nothing_of_points() -> None:
    reader = Reader("mediapipe_3318")
    kept = sign(layout="mediapipe_3318", temporal="keep").fit([reader({"features": "2"})])
    items = dataset(["A", "B"], {"resample_time": {"lowest": 0.5, "highest": 0.5}}, kept, reader=reader)
    assert items[1]["input_features"].shape == (10, kept.feature_size)
    with pytest.raises(UserError, match="but the features are 'temporal: keep'"):
        dataset(["A"], {"rotation": None}, kept, reader=reader)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(UserError, match="'teacher' does not read 'mediapipe_holistic' landmarks as the student does"):
        dataset(["A"], {"mirror": None}, views={"teacher": sign(layout="kaggle_islr")})
    audio = datasets.Dataset.from_list([{"id": "u", "speaker": "s/1", "text": "A", "audio": "a.wav"}])
    speech = SpeechProcessor(SpeechFeatureExtractor(feature_size=20), LABELS)
    with pytest.raises(UserError, match="augmentation of landmarks, but the rows have audio"):
        RecogniserDataset(audio, speech, Reader(), build_augmentation(["mirror"]))


def test_a_translation_without_effect_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        dataset(["A"], {"translation": None}, sign(centre="none"))
        assert not caplog.messages
        dataset(["A"], {"translation": None})
    assert ["translation changes nothing" in message for message in caplog.messages] == [True]


def test_a_broken_file_is_named_with_its_utterance() -> None:
    items = dataset(["A"], {"mirror": None}, reader=Reader("coco_wholebody"))
    with pytest.raises(UserError, match="utterance 'u0': 399 values a frame .*set the layout to 'coco_wholebody'"):
        items[0]
