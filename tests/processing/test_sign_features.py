"""Sign features by hand: gaps, masks, points missing one by one, confidences, streams, kept values, save and load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kd_asr_slr.errors import UserError
from kd_asr_slr.processing import landmarks
from kd_asr_slr.processing.auto import load_processor
from kd_asr_slr.processing.layouts import LAYOUTS
from kd_asr_slr.processing.sign import SignFeatureExtractor, SignProcessor
from kd_asr_slr.processing.tokenization import LabelTokenizer

COCO = LAYOUTS["coco_wholebody"]
LEFT = LAYOUTS["mediapipe_holistic"].parts["left_hand"].points


def frames_of(layout: str, frames: int = 12, seed: int = 0) -> np.ndarray:
    width = next(iter(LAYOUTS[layout].widths))
    return np.random.default_rng(seed).uniform(0.1, 0.9, (frames, width)).astype(np.float32)


def filled_by_hand(points: np.ndarray, max_gap: int) -> np.ndarray:
    """One point and one frame after the other."""
    filled = points.copy()
    for p in range(points.shape[1]):
        known = [t for t in range(len(points)) if np.isfinite(points[t, p]).all()]
        for first, last in zip(known, known[1:], strict=False):
            for t in range(first + 1, last):
                if last - first - 1 <= max_gap:
                    share = (t - first) / (last - first)
                    filled[t, p] = (1 - share) * points[first, p] + share * points[last, p]
    return filled


@pytest.mark.parametrize("max_gap", [0, 1, 2, 5, 40])
def test_gaps_are_filled_as_by_hand(max_gap: int) -> None:
    generator = np.random.default_rng(max_gap)
    points = generator.normal(size=(40, 7, 3))
    points[generator.random((40, 7)) < 0.6] = np.nan
    points[:, 6] = np.nan  # never seen
    filled = landmarks.fill_gaps(points, max_gap)
    np.testing.assert_allclose(filled, filled_by_hand(points, max_gap), rtol=1e-12)
    assert np.isnan(filled).sum() < np.isnan(points).sum() or max_gap == 0


def test_a_short_gap_is_filled_and_marked_and_a_long_one_is_missing() -> None:
    media = frames_of("mediapipe_holistic", 20).reshape(20, 543, 3)
    media[:, :33] = media[0, :33]  # the signer stands still
    media[0, LEFT] = 0  # at the edge: nothing to draw a line from
    media[4:9, LEFT] = 0  # 5 frames
    media[12:18, LEFT] = 0  # 6 frames
    extractor = SignFeatureExtractor(subset="hands", interpolate_gaps=5, velocity="forward")
    features = extractor.extract(media)
    mask = extractor.streams["temporal"][0]  # of the left hand; the right one's follows
    expected = np.ones(20)
    expected[[0, *range(12, 18)]], expected[4:9] = 0, 0.5
    assert np.array_equal(features[:, mask], expected) and (features[:, mask + 1] == 1).all()
    # Centring by the wrist and scaling by a constant keep the line straight.
    hand = features[:, :63]
    for t in range(4, 9):
        np.testing.assert_allclose(hand[t], hand[3] + (hand[9] - hand[3]) * (t - 3) / 6, atol=1e-5)
    assert not hand[[0, *range(12, 18)]].any()
    velocity = features[:, mask + 2 : mask + 2 + 63]
    np.testing.assert_allclose(velocity[3:9], np.repeat((hand[9:10] - hand[3:4]) / 6, 6, axis=0), atol=1e-5)
    assert not velocity[[0, *range(11, 18), 19]].any()
    unfilled = SignFeatureExtractor(subset="hands", velocity="forward").extract(media)
    assert np.array_equal(features[:, 63:126], unfilled[:, 63:126])  # the other hand does not feel it


def coco(frames: int = 6) -> np.ndarray:
    points = np.random.default_rng(3).uniform(20, 200, (frames, 133, 3)).astype(np.float32)
    points[..., 2] = np.random.default_rng(4).uniform(0.5, 1, (frames, 133))
    points[:, 5, :2], points[:, 6, :2] = [140, 100], [60, 100]  # shoulders: 80 apart, middle 100, 100
    return points


def test_coco_wholebody_by_hand() -> None:
    points = coco()
    points[1, 9, 2] = 0  # left wrist of the body, not found
    points[2, 91 + 4, 2] = 0.3  # a fingertip, hardly
    points[3, 112, :] = np.nan  # the right hand's wrist
    extractor = SignFeatureExtractor(
        "coco_wholebody", "points79", confidence=True, min_confidence=0.3, velocity="backward"
    )
    assert extractor.streams == {"pose": (0, 33), "hands": (33, 159), "face": (159, 237), "temporal": (237, 399)}
    features = extractor.extract(points.reshape(6, -1))
    assert features.shape == (6, extractor.feature_size) and np.isfinite(features).all()
    shown = features[:, :237].reshape(6, 79, 3)
    expected = points.copy()
    expected[:, :23, :2] -= 100
    expected[:, 91:112, :2] -= points[:, 91:92, :2]
    expected[:, 112:133, :2] -= points[:, 112:113, :2]
    expected[:, 23:91, :2] -= points[:, 53:54, :2]  # tip of the nose
    expected[..., :2] /= 80
    expected[1, 9, :2] = expected[2, 95, :2] = 0
    expected[3, 112:133, :2] = 0  # without the wrist there is no centre
    face = [23 + index for index in extractor.points["face"]]
    chosen = [*range(11), *range(91, 133), *face]
    np.testing.assert_allclose(shown[..., :2], expected[:, chosen, :2], atol=1e-5)
    np.testing.assert_array_equal(shown[..., 2], np.nan_to_num(points[:, chosen, 2]))
    mask = features[:, 237:241]
    assert mask.tolist() == [[1, 1, 1, 1]] * 3 + [[1, 1, 0, 1]] + [[1, 1, 1, 1]] * 2
    velocity = features[:, 241:].reshape(6, 79, 2)
    for t, place in [(1, 9), (2, 9), (2, 11 + 4), (3, 11 + 4), (3, 32), (4, 32), (0, 50)]:
        assert not velocity[t, place].any()  # one of the two frames is missing
    np.testing.assert_allclose(velocity[5], shown[5, :, :2] - shown[4, :, :2], atol=1e-6)
    with pytest.raises(UserError, match="landmarks of 2 values a point; expected a confidence"):
        extractor.extract(points[..., :2])


def test_without_confidences_zeros_and_nan_are_missing_points() -> None:
    points = coco()[..., :2]
    points[1, 9], points[2, 95] = 0, np.nan
    with_confidence = coco()
    with_confidence[1, 9, 2] = with_confidence[2, 95, 2] = 0
    extractor = SignFeatureExtractor("coco_wholebody", "all", velocity="both", interpolate_gaps=2)
    assert np.array_equal(extractor.extract(points), extractor.extract(with_confidence))


def test_the_same_points_in_another_order_give_the_same_features() -> None:
    """Kaggle's order of the parts, and the 576 points of pose-format, against MediaPipe Holistic."""
    media = frames_of("mediapipe_holistic", 9).reshape(9, 543, 3)
    media[2:4, LEFT] = 0
    options = {"subset": "points79", "velocity": "both", "interpolate_gaps": 1}
    expected = SignFeatureExtractor(**options).extract(media)
    face, pose, left, right = media[:, 75:], media[:, :33], media[:, 33:54], media[:, 54:75]
    kaggle = np.concatenate([face, np.where(left == 0, np.nan, left), pose, right], axis=1)
    assert np.array_equal(SignFeatureExtractor("kaggle_islr", **options).extract(kaggle), expected)
    whole = np.concatenate([pose, face, left, right, pose], axis=1)
    assert np.array_equal(SignFeatureExtractor("mediapipe_576", **options).extract(whole), expected)
    user = np.concatenate([media.reshape(9, -1), frames_of("mediapipe_6516", 9)[:, 1629:]], axis=1)
    assert np.array_equal(SignFeatureExtractor("mediapipe_6516", **options).extract(user), expected)


def test_a_pose_in_metres_has_its_own_size() -> None:
    media = frames_of("mediapipe_576", 5).reshape(5, 576, 3)
    other = media.copy()
    other[:, 543:] *= 3
    extractor = SignFeatureExtractor("mediapipe_576", "all")
    np.testing.assert_allclose(extractor.extract(media), extractor.extract(other), atol=1e-5)
    assert extractor.streams == {"pose": (0, 198), "hands": (198, 324), "face": (324, 1728), "temporal": (1728, 1733)}


def test_frames_of_3318_values_by_hand() -> None:
    media = frames_of("mediapipe_3318", 4)
    extractor = SignFeatureExtractor("mediapipe_3318", "points118")
    features = extractor.extract(media)
    face = media[:, 150:1106].reshape(4, 478, 2)
    scale = np.median(np.linalg.norm(media[:, 22:24] - media[:, 24:26], axis=1))  # points 11 and 12
    expected = (face[:, extractor.points["face"]] - face[:, 1:2]) / scale
    assert extractor.streams == {"hands": (0, 84), "face": (84, 236), "temporal": (236, 239)}
    np.testing.assert_allclose(features[:, 84:236], expected.reshape(4, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["mediapipe_6516", "mediapipe_3318"])
def test_kept_temporal_values_are_standardised_and_come_last(layout: str) -> None:
    training = [frames_of(layout, frames, seed=frames) for frames in (5, 9)]
    extractor = SignFeatureExtractor(layout, temporal="keep")
    with pytest.raises(UserError, match="without statistics"):
        extractor.extract(training[0])
    width = LAYOUTS[layout].temporal
    assert extractor.needs_fitting and extractor.feature_size == SignFeatureExtractor(layout).feature_size + width
    extractor.fit(iter(training))
    features = extractor.extract(training[1])
    everything = np.concatenate(training)[:, -width:].astype(np.float64)
    expected = (training[1][:, -width:] - everything.mean(0)) / everything.std(0)
    np.testing.assert_allclose(features[:, -width:], expected, atol=1e-4)
    assert np.array_equal(features[:, :-width], SignFeatureExtractor(layout).extract(training[1]))
    assert extractor.streams["temporal"] == (features.shape[1] - width - 3, features.shape[1])


@pytest.mark.parametrize("centre", ["body", "none"])
def test_other_centres(centre: str) -> None:
    points = coco()
    points[2, 5, 2] = 0  # a shoulder is missing in one frame
    features = SignFeatureExtractor("coco_wholebody", "hands", centre=centre).extract(points)
    origin = 100 if centre == "body" else 0
    np.testing.assert_allclose(features[:, :84], (points[:, 91:, :2].reshape(6, -1) - origin) / 80, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("velocity", ["none", "both"])
def test_streams_cover_the_columns_in_order(layout: str, velocity: str) -> None:
    for subset in LAYOUTS[layout].subsets:
        extractor = SignFeatureExtractor(layout, subset, velocity=velocity)
        ranges = list(extractor.streams.values())
        assert ranges[0][0] == 0 and ranges[-1][1] == extractor.feature_size
        assert all(before[1] == after[0] for before, after in zip(ranges, ranges[1:], strict=False))
        assert list(extractor.streams) == [
            name for name in ("pose", "hands", "face", "temporal") if name in extractor.streams
        ]
        assert extractor.extract(frames_of(layout, 3)).shape == (3, extractor.feature_size)


def test_streams_hold_what_they_say() -> None:
    media = frames_of("mediapipe_holistic").reshape(-1, 543, 3)
    extractor = SignFeatureExtractor(subset="hands_pose_lips", velocity="forward")
    whole = extractor.extract(media)
    for stream, parts in {"hands": ("left_hand", "right_hand"), "face": ("face",)}.items():
        moved = media.copy()
        for part in parts:
            moved[3, landmarks.PARTS[part]] *= 1.1
        columns = np.flatnonzero((extractor.extract(moved) != whole).any(axis=0))
        first, last = extractor.streams[stream]
        assert set(columns[columns < extractor.streams["temporal"][0]]) <= set(range(first, last)) and len(columns) > 40


def settings() -> dict[str, dict]:
    return {
        "gaps": {"subset": "points118", "interpolate_gaps": 5, "velocity": "both"},
        "coco": {"layout": "coco_wholebody", "subset": "points79", "confidence": True, "min_confidence": 0.2},
        "kept": {"layout": "mediapipe_3318", "temporal": "keep"},
        "components": {"layout": "mediapipe_3318", "temporal": "keep", "velocity": "both", "pca": 9},
        "by_stream": {"subset": "points79", "pca": {"face": 5, "temporal": 2}},
        "raw_components": {"layout": "raw", "pca": 4},
        "body": {"centre": "body"},
    }


@pytest.mark.parametrize("name", settings())
def test_saved_and_loaded_bit_for_bit(name: str, tmp_path: Path) -> None:
    extractor = SignFeatureExtractor(**settings()[name])
    layout = extractor.layout if extractor.points_layout else "coco_wholebody"
    processor = SignProcessor(extractor, LabelTokenizer.from_texts(["A B"])).fit([frames_of(layout, 20)])
    media = frames_of(layout, 8, seed=5)
    expected = processor.extract(media)
    assert expected.shape == (8, extractor.feature_size) and not extractor.needs_fitting
    processor.save_pretrained(tmp_path)
    loaded = load_processor(tmp_path)
    assert np.array_equal(loaded.extract(media), expected)
    assert (loaded.fingerprint, loaded.feature_size) == (processor.fingerprint, processor.feature_size)
    assert loaded.feature_extractor.streams == extractor.streams
    loaded.save_pretrained(tmp_path / "again")
    config = "processor_config.json"
    assert (tmp_path / "again" / config).read_bytes() == (tmp_path / config).read_bytes()


def test_every_setting_that_changes_features_changes_the_fingerprint() -> None:
    fitted = [SignFeatureExtractor(**options) for options in settings().values()]
    prints = {SignFeatureExtractor().fingerprint, *(extractor.fingerprint for extractor in fitted)}
    assert len(prints) == 1 + len(fitted)
    # That of a landmark extractor is what it was before there were other settings.
    assert SignFeatureExtractor().fingerprint == SignFeatureExtractor(interpolate_gaps=0, centre="part").fingerprint
    assert SignFeatureExtractor().decisive == ("layout", "frame_seconds", "points", "dimensions", "velocity")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"layout": "coco_wholebody", "subset": "points118"},
            "unknown subset 'points118' of the layout 'coco_wholebody'",
        ),
        ({"layout": "coco_wholebody", "dimensions": 3}, "dimensions is 3; expected 2"),
        ({"confidence": True}, "'mediapipe_holistic' has no confidence; those with one are .*coco_wholebody"),
        ({"temporal": "keep"}, "has no temporal values to keep; those with some are mediapipe_6516, mediapipe_3318"),
        ({"centre": "hips"}, "unknown centre 'hips'"),
        ({"interpolate_gaps": -1}, "interpolate_gaps is -1"),
        ({"min_confidence": 1.5, "layout": "coco_wholebody"}, "min_confidence is 1.5"),
        ({"pca": {"feet": 3}}, "pca names the stream 'feet'; expected one of pose, hands, temporal"),
        ({"pca": 0}, "pca keeps 0 components"),
        ({"pca": {"hands": 127}}, "pca keeps 127 components of 'hands', which has 126 values"),
        ({"pca": 512}, "pca keeps 512 components of 'features', which has 162 values"),
        ({"layout": "raw", "pca": {"face": 3}}, "pca names the stream 'face'; expected one of features"),
    ],
)
def test_settings_that_do_not_go_together(options: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        SignFeatureExtractor(**options)


def test_raw_features_have_one_stream_once_their_width_is_known() -> None:
    extractor = SignFeatureExtractor("raw")
    with pytest.raises(UserError, match="without statistics"):
        _ = extractor.streams
    assert extractor.fit([frames_of("coco_wholebody")]).streams == {"features": (0, 399)}
