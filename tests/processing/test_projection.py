"""Principal components against numpy's SVD and scikit-learn, streamed against everything at once."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.layouts import LAYOUTS
from kd_asr_slr.processing.projection import Projection, fit_projection
from kd_asr_slr.processing.sign import SignFeatureExtractor
from kd_asr_slr.processing.standardisation import RunningCovariance


def utterances(width: int = 12, offset: float = 0.0) -> list[np.ndarray]:
    generator = np.random.default_rng(7)
    mixing = generator.normal(size=(width, width)) * 0.7 ** np.arange(width)
    return [generator.normal(size=(frames, width)) @ mixing.T + offset for frames in (1, 40, 3, 120)]


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_streamed_covariance_is_exact(offset: float) -> None:
    parts = utterances(offset=offset)
    running = RunningCovariance()
    for part in parts:
        running.update(part)
    everything = np.concatenate(parts)
    np.testing.assert_allclose(running.mean, everything.mean(0), rtol=1e-12, atol=1e-12)
    expected = np.cov(everything.T, bias=True)
    np.testing.assert_allclose(running.covariance(), expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max())


def test_streamed_covariance_refuses_another_width_and_nothing() -> None:
    running = RunningCovariance()
    with pytest.raises(UserError, match="no utterance"):
        running.covariance()
    running.update(np.ones((3, 4)))
    with pytest.raises(UserError, match="5 values a frame; expected 4"):
        running.update(np.ones((3, 5)))


def test_components_are_those_of_numpy_and_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    parts = utterances()
    everything = np.concatenate(parts)
    centred = everything - everything.mean(0)
    projection = fit_projection(everything.mean(0), np.cov(everything.T, bias=True), 5, len(everything))
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(np.sum(projection.components * rows[:5], axis=1)), 1, atol=1e-6)
    assert projection.explained == pytest.approx((singular[:5] ** 2).sum() / (singular**2).sum())
    reference = PCA(n_components=5, svd_solver="full").fit(everything)
    expected = reference.transform(everything)
    ours = projection(everything)
    signs = np.sign((ours * expected).sum(axis=0))
    np.testing.assert_allclose(ours * signs, expected, atol=1e-5 * np.abs(expected).max())
    assert projection.explained == pytest.approx(reference.explained_variance_ratio_.sum())
    largest = np.abs(projection.components).argmax(axis=1)
    assert (projection.components[range(5), largest] > 0).all()


def test_a_projection_survives_json_bit_for_bit() -> None:
    everything = np.concatenate(utterances())
    projection = fit_projection(everything.mean(0), np.cov(everything.T), 3, len(everything))
    loaded = Projection.from_dict(json.loads(json.dumps(projection.to_dict())))
    assert loaded.mean.tobytes() == projection.mean.tobytes() and loaded.explained == projection.explained
    assert loaded.components.tobytes() == projection.components.tobytes()
    assert np.array_equal(loaded(everything), projection(everything))


def test_raw_components_are_those_of_standardised_features() -> None:
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    training = [part * 100 ** np.linspace(-1, 1, 12) + 7 for part in utterances()]
    training = [np.concatenate([part, np.full((len(part), 1), 3.0)], axis=1) for part in training]  # never changes
    extractor = SignFeatureExtractor("raw", pca=4).fit(iter(training))
    scaled = StandardScaler().fit_transform(np.concatenate(training))
    expected = PCA(n_components=4, svd_solver="full").fit(scaled).transform(scaled)
    ours = np.concatenate([extractor.extract(part) for part in training])
    signs = np.sign((ours * expected).sum(axis=0))
    np.testing.assert_allclose(ours * signs, expected, atol=1e-4)
    assert extractor.streams == {"features": (0, 4)} and extractor.feature_size == 4


def sign_frames(frames: int, seed: int) -> np.ndarray:
    width = next(iter(LAYOUTS["mediapipe_3318"].widths))
    return np.random.default_rng(seed).uniform(0.1, 0.9, (frames, width)).astype(np.float32)


def test_components_by_stream_leave_the_others_alone() -> None:
    from sklearn.decomposition import PCA

    training = [sign_frames(frames, frames) for frames in (30, 11)]
    options = {"subset": "points79", "velocity": "both"}
    plain = SignFeatureExtractor("mediapipe_3318", **options)
    extractor = SignFeatureExtractor("mediapipe_3318", **options, pca={"face": 6}).fit(iter(training))
    features = np.concatenate([plain.extract(part) for part in training])
    ours = np.concatenate([extractor.extract(part) for part in training])
    (first, last), start = plain.streams["face"], plain.streams["temporal"][0]
    assert extractor.streams["face"] == (first, first + 6)
    assert np.array_equal(ours[:, :first], features[:, :first])
    assert np.array_equal(ours[:, first + 6 :], features[:, start:])
    expected = PCA(n_components=6, svd_solver="full").fit_transform(features[:, first:last].astype(np.float64))
    signs = np.sign((ours[:, first : first + 6] * expected).sum(axis=0))
    np.testing.assert_allclose(ours[:, first : first + 6] * signs, expected, atol=2e-4)


def test_components_of_everything_with_kept_temporal_values() -> None:
    from sklearn.decomposition import PCA

    training = [sign_frames(frames, frames) for frames in (20, 25)]
    kept = SignFeatureExtractor("mediapipe_3318", "hands", temporal="keep").fit(iter(training))
    extractor = SignFeatureExtractor("mediapipe_3318", "hands", temporal="keep", pca=8).fit(iter(training))
    features = np.concatenate([kept.extract(part) for part in training]).astype(np.float64)
    reference = PCA(n_components=8, svd_solver="full").fit(features)
    ours = np.concatenate([extractor.extract(part) for part in training])
    expected = reference.transform(features)
    signs = np.sign((ours * expected).sum(axis=0))
    np.testing.assert_allclose(ours * signs, expected, atol=1e-3)
    assert extractor.streams == {"features": (0, 8)}


def test_fitting_again_forgets_the_first_fit() -> None:
    first, second = utterances()[1], utterances()[3]
    extractor = SignFeatureExtractor("raw", pca=3).fit([first])
    extractor.extract(first)
    expected = SignFeatureExtractor("raw", pca=3).fit([second]).extract(second)
    assert np.array_equal(extractor.fit([second]).extract(second), expected)


def test_too_little_to_fit_on() -> None:
    with pytest.raises(
        UserError, match="13 principal components of 12 values in 164 training frames; expected at most 12"
    ):
        SignFeatureExtractor("raw", pca=13).fit(utterances())
    with pytest.raises(UserError, match="6 principal components of 12 values in 4 training frames; expected at most 4"):
        SignFeatureExtractor("raw", pca=6).fit([utterances()[0], utterances()[2]])
    with pytest.raises(UserError, match="no utterance"):
        SignFeatureExtractor("raw", pca=6).fit([])
    with pytest.raises(UserError, match="'mediapipe_holistic' features without statistics; expected their principal"):
        SignFeatureExtractor(pca=3).extract(np.ones((2, 1629)))
    with pytest.raises(UserError, match="an utterance with 11 values a frame; expected 12"):
        SignFeatureExtractor("raw", pca=2).fit([utterances()[1], utterances(11)[1]])
