"""Augmentations: seeds, flags, and what each does, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.augmentation import AUGMENTATIONS, SpecAugment, build_augmentation, check_for_cache
from kd_asr_slr.processing.augmentation_speech import Gain, GaussianNoise, Speed

SAMPLES = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
FRAMES = np.random.default_rng(1).uniform(1, 2, (100, 80)).astype(np.float32)


POINTS = np.random.default_rng(2).uniform(0, 1, (40, 543, 3)).astype(np.float32)
MEDIA = {"waveform": SAMPLES, "features": FRAMES, "landmarks": POINTS}


def media_of(name: str) -> np.ndarray:
    return MEDIA[AUGMENTATIONS[name].domain]


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_length_flag_tells_the_truth(name: str) -> None:
    media = media_of(name)
    step = AUGMENTATIONS[name]()
    lengths = {len(step(media, np.random.default_rng(seed))) for seed in range(20)}
    assert (lengths == {len(media)}) == AUGMENTATIONS[name].keeps_length


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_seeded_by_seed_epoch_and_index(name: str) -> None:
    media = media_of(name)

    def augmented(seed: int, epoch: int, index: int) -> bytes:
        augmentation = build_augmentation([name], seed=seed)
        return getattr(augmentation, AUGMENTATIONS[name].domain)(media, epoch, index).tobytes()

    kept = media.copy()
    assert augmented(1, 2, 3) == augmented(1, 2, 3)
    for place in range(3):  # each of the three counts (some draws of three speeds coincide)
        draws = {augmented(*[value if at == place else 5 for at in range(3)]) for value in range(10)}
        assert len(draws) > 1
    assert np.array_equal(media, kept)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_float32_stays_float32(name: str) -> None:
    for seed in range(5):
        assert AUGMENTATIONS[name]()(media_of(name), np.random.default_rng(seed)).dtype == np.float32


def test_spec_augment_zeroes_whole_bands_within_its_bounds() -> None:
    step = SpecAugment(time_masks=1, time_share=0.1, frequency_masks=1, frequency_width=8)
    widths = set()
    for seed in range(200):
        masked = step(FRAMES, np.random.default_rng(seed)) == 0
        rows, columns = masked.all(axis=1), masked.all(axis=0)
        assert np.array_equal(masked, rows[:, None] | columns[None, :])
        for band in (rows, columns):
            assert abs(np.diff(band.astype(int))).sum() <= 2  # one band
        widths.add((int(rows.sum()), int(columns.sum())))
    assert max(width for width, _ in widths) == 10 and max(width for _, width in widths) == 8


def test_spec_augment_on_very_little() -> None:
    assert SpecAugment()(np.ones((1, 2), np.float32), np.random.default_rng(0)).shape == (1, 2)


def test_noise_has_the_ratio_asked_for() -> None:
    noisy = GaussianNoise(lowest=20, highest=20)(SAMPLES, np.random.default_rng(3))
    ratio = np.mean(SAMPLES**2) / np.mean((noisy - SAMPLES) ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(20, abs=0.2)


def test_gain_is_in_decibels() -> None:
    louder = Gain(lowest=20, highest=20)(SAMPLES, np.random.default_rng(3))
    np.testing.assert_allclose(louder, SAMPLES * 10, rtol=1e-6)


def test_speed_divides_the_length_and_multiplies_the_pitch() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    faster = Speed(factors=(1.25,))(tone, np.random.default_rng(0))
    assert len(faster) == 12800
    assert np.abs(np.fft.rfft(faster)).argmax() * 16000 / len(faster) == pytest.approx(1250, abs=2)


def test_cached_targets_refuse_what_changes_the_length() -> None:
    check_for_cache(["spec_augment", "gaussian_noise", "gain"])
    with pytest.raises(UserError, match="'speed' changes the length"):
        check_for_cache(iter(["gain", "speed"]))
    with pytest.raises(UserError, match=r"(?s)2 problems.*unknown augmentation 'chorus'.*'speed'"):
        check_for_cache(["speed", "chorus"])
    assert build_augmentation(["gain"]).keeps_length and not build_augmentation(["gain", "speed"]).keeps_length


def test_unknown_names_and_options_are_named_all_at_once() -> None:
    with pytest.raises(
        UserError, match=r"(?s)2 problems.*'chorus'.*'gain' has no option 'loudness'; expected one of .*low"
    ):
        build_augmentation({"chorus": None, "gain": {"loudness": 3}})
