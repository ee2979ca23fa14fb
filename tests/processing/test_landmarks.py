"""Landmarks by hand: centres, scale, missing parts, differences, widths."""

from __future__ import annotations

import numpy as np
import pytest

from kd_asr_slr.errors import UserError
from kd_asr_slr.processing import landmarks
from kd_asr_slr.processing.sign import SignFeatureExtractor
from kd_asr_slr.processing.standardisation import RunningStatistics

LEFT = landmarks.PARTS["left_hand"]
POSE = landmarks.PARTS["pose"]
FACE = landmarks.PARTS["face"]


def body(frames: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 0.9, (frames, 543, 3)).astype(np.float32)


def hand_columns(extractor: SignFeatureExtractor) -> tuple[slice, int]:
    """Columns of the left hand's points, and its mask channel, in the subset "hands_pose" x 3 without velocity."""
    assert (extractor.subset, extractor.dimensions, extractor.velocity) == ("hands_pose", 3, "none")
    return slice(33, 96), 159 + 1


def test_layout_and_subsets() -> None:
    assert [part.stop - part.start for part in landmarks.PARTS.values()] == [33, 21, 21, 468]
    sizes = {name: sum(map(len, subset.values())) for name, subset in landmarks.SUBSETS.items()}
    assert sizes == {
        "hands": 42,
        "hands_pose": 53,
        "hands_pose_lips": 73,
        "points79": 79,
        "points118": 118,
        "all": 543,
    }
    for subset in landmarks.SUBSETS.values():
        for name, indices in subset.items():
            size = landmarks.PARTS[name].stop - landmarks.PARTS[name].start
            assert len(set(indices)) == len(indices) and set(indices) <= set(range(size))


def test_centre_and_scale_by_hand() -> None:
    points = np.full((1, 543, 3), 0.5, np.float32)
    points[0, 11], points[0, 12] = (
        [0.6, 0.4, 0.0],
        [0.2, 0.1, 0.2],
    )  # shoulders: 0.5 apart in x, y; middle 0.4, 0.25, 0.1
    points[0, 0] = [0.5, 0.3, 0.2]  # the nose of the pose
    points[0, 33], points[0, 34] = [0.3, 0.3, 0.0], [0.4, 0.2, 0.1]  # wrist and thumb of the left hand
    points[0, 75 + 1], points[0, 75 + 61] = [0.5, 0.5, 0.5], [0.6, 0.7, 0.5]  # tip of the nose, corner of the mouth
    features = SignFeatureExtractor(subset="hands_pose_lips").extract(points)[0]
    np.testing.assert_allclose(features[:3], [0.2, 0.1, 0.2], atol=1e-6)
    np.testing.assert_allclose(features[33:39], [0, 0, 0, 0.2, -0.2, 0.2], atol=1e-6)
    np.testing.assert_allclose(features[159:162], [0.2, 0.4, 0.0], atol=1e-6)
    assert features[219:].tolist() == [1, 1, 1, 1]  # nothing is missing


def test_invariant_to_where_and_how_large_the_signer_is() -> None:
    points = body()
    moved = points * 1.7 + np.array([0.3, -0.2, 0.1], np.float32)
    extractor = SignFeatureExtractor(subset="all", velocity="both")
    np.testing.assert_allclose(extractor.extract(points), extractor.extract(moved), atol=2e-4)


def test_a_missing_hand_is_zero_after_normalisation_and_masked() -> None:
    points = body()
    points[2:4, LEFT] = 0.0
    extractor = SignFeatureExtractor()
    columns, mask = hand_columns(extractor)
    features = extractor.extract(points)
    assert features[:, mask].tolist() == [1, 1, 0, 0, 1, 1]
    assert features[:, [mask - 1, mask + 1]].all()  # pose and right hand are there
    assert not features[2:4, columns].any()
    assert features[[0, 1, 4, 5], columns].any(axis=1).all()
    # The other parts do not feel it.
    whole = extractor.extract(body())
    others = np.r_[0:33, 96:160, 161:162]
    assert np.array_equal(features[:, others], whole[:, others])


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_differences_respect_the_mask(direction: str) -> None:
    values = np.array([[1.0], [3.0], [0.0], [10.0], [14.0]])
    mask = np.array([True, True, False, True, True])
    expected = {"forward": [2, 0, 0, 4, 0], "backward": [0, 2, 0, 0, 4]}[direction]
    assert landmarks.difference(values, mask, direction)[:, 0].tolist() == expected
    assert landmarks.difference(values[:1], mask[:1], direction).tolist() == [[0.0]]


def test_velocity_columns_have_no_spike_where_a_hand_comes_and_goes() -> None:
    points = np.repeat(body(1), 6, axis=0)  # nothing moves
    points[2:4, LEFT] = 0.0
    extractor = SignFeatureExtractor(velocity="both")
    features = extractor.extract(points)
    assert features.shape[1] == extractor.feature_size == 159 * 3 + 3
    assert not features[:, 162:].any()


def test_scale_without_pose_is_one_and_without_shoulders_the_torso() -> None:
    pose = np.zeros((2, 33, 3), np.float32)
    assert landmarks.body_scale(pose, np.array([False, False])) == 1.0
    pose[:, [11, 12]] = [0.5, 0.2, 0.0]  # seen from the side: no width
    pose[:, [23, 24]] = [0.5, 0.6, 0.0]
    assert landmarks.body_scale(pose, np.array([True, True])) == pytest.approx(0.4)


def test_scale_ignores_frames_without_pose() -> None:
    points = body()
    expected = landmarks.body_scale(points[1:, POSE], np.ones(5, bool))
    points[0, POSE] = 0.0
    masks = landmarks.part_masks(points)
    assert landmarks.body_scale(points[:, POSE], masks["pose"]) == expected


def test_two_dimensions_are_x_and_y() -> None:
    points = body()
    flat = SignFeatureExtractor(subset="hands", dimensions=2).extract(points)
    full = SignFeatureExtractor(subset="hands", dimensions=3).extract(points)
    assert flat.shape[1] == 42 * 2 + 2
    assert np.array_equal(flat[:, :84].reshape(6, 42, 2), full[:, :126].reshape(6, 42, 3)[..., :2])


def test_flat_and_pointwise_frames_are_the_same() -> None:
    extractor = SignFeatureExtractor()
    assert np.array_equal(extractor.extract(body()), extractor.extract(body().reshape(6, -1)))


def test_a_wrong_width_names_the_layout_it_looks_like() -> None:
    with pytest.raises(
        UserError, match=r"1662 values a frame \(looks like .*visibility.*expected 1629 = 543 points x 3"
    ):
        SignFeatureExtractor().extract(np.ones((4, 1662)))
    with pytest.raises(UserError, match="^77 values a frame; expected"):
        SignFeatureExtractor().extract(np.ones((4, 77)))
    for empty in (np.zeros((0, 1629)), np.zeros(1629), np.zeros((0, 543, 3))):
        with pytest.raises(UserError):
            SignFeatureExtractor().extract(empty)
    broken = body()
    broken[3, 7, 1] = np.nan
    with pytest.raises(UserError, match="in 1 of 6 frames, first in frame 3"):
        SignFeatureExtractor().extract(broken)


def test_raw_is_standardised_with_what_fit_saw() -> None:
    generator = np.random.default_rng(1)
    training = [generator.normal([1e4, -3.0, 5.0], [1e-1, 2.0, 0.0], (frames, 3)) for frames in (7, 1, 30)]
    extractor = SignFeatureExtractor(layout="raw")
    assert extractor.needs_fitting
    with pytest.raises(UserError, match="without statistics"):
        extractor.extract(training[0])
    extractor.fit(iter(training))
    assert (extractor.needs_fitting, extractor.feature_size) == (False, 3)
    everything = np.concatenate(training)
    deviation = everything.std(0)
    deviation[2] = 1.0  # never changes: zero once centred
    np.testing.assert_allclose(
        extractor.extract(training[2]), (training[2] - everything.mean(0)) / deviation, rtol=1e-5, atol=1e-5
    )
    with pytest.raises(UserError, match="1629 values a frame .looks like MediaPipe Holistic.*expected 3"):
        extractor.extract(np.ones((2, 1629)))


def test_running_statistics_equal_those_of_everything_at_once() -> None:
    generator = np.random.default_rng(2)
    parts = [generator.normal(1e6, 1.0, (frames, 4)) for frames in (1, 50, 3, 200)]
    statistics = RunningStatistics()
    for part in parts:
        statistics.update(part)
    everything = np.concatenate(parts)
    np.testing.assert_allclose(statistics.mean, everything.mean(0), rtol=1e-12)
    np.testing.assert_allclose(statistics.deviation(), everything.std(0), rtol=1e-7)
    with pytest.raises(UserError, match="5 values a frame; expected 4"):
        statistics.update(np.ones((2, 5)))
    with pytest.raises(UserError, match="no utterance"):
        RunningStatistics().deviation()


def test_fingerprint_follows_settings_and_statistics() -> None:
    base = SignFeatureExtractor()
    assert base.fingerprint == SignFeatureExtractor(subset="hands_pose").fingerprint
    changes = [{"subset": "all"}, {"dimensions": 2}, {"velocity": "both"}, {"layout": "raw"}, {"frame_seconds": 0.04}]
    assert len({SignFeatureExtractor(**change).fingerprint for change in changes} | {base.fingerprint}) == 6
    assert SignFeatureExtractor(frame_seconds=1).fingerprint == base.fingerprint
    data = body().reshape(6, -1)[:, :5]
    first, same, other = (SignFeatureExtractor(layout="raw").fit([x]) for x in (data, data, data + 1e-3))
    assert first.fingerprint == same.fingerprint != other.fingerprint


def test_bad_settings_are_named_all_at_once() -> None:
    with pytest.raises(UserError, match=r"(?s)4 problems.*'openpose'.*'feet'.*dimensions is 4.*'sideways'"):
        SignFeatureExtractor(layout="openpose", subset="feet", dimensions=4, velocity="sideways")
