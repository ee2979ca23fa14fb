"""Augmentations of speech against what can be measured from outside: frequencies, durations, formants, energies."""

from __future__ import annotations

import time
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter

from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.augmentation import build_augmentation, check_for_cache
from kd_asr_slr.processing.augmentation_speech import SPEECH_AUGMENTATIONS, Pitch, Tempo, VocalTractLength
from kd_asr_slr.processing.speech_effects import shift_pitch, stretch, warp_formants, warped_frequencies

RATE = 16000
FORMANTS = (700, 1800, 2900)


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def tone(frequency: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(int(seconds * RATE)) / RATE).astype(np.float32)


def loudest_frequency(waveform: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), 1 << 18))
    return float(spectrum.argmax()) * RATE / (1 << 18)


def vowel(pitch: int = 120) -> np.ndarray:
    """Pulses through three resonances."""
    excitation = 1e-4 * generator().standard_normal(RATE)
    excitation[:: RATE // pitch] += 1
    radius = np.exp(-np.pi * 80 / RATE)
    for formant in FORMANTS:
        excitation = lfilter([1], [1, -2 * radius * np.cos(2 * np.pi * formant / RATE), radius**2], excitation)
    return (excitation / np.abs(excitation).max()).astype(np.float32)


def measured_formants(waveform: np.ndarray) -> np.ndarray:
    """By linear prediction: the sharp resonances, lowest first."""
    roots = np.roots(librosa.lpc(waveform.astype(np.float64), order=8))
    roots = roots[(roots.imag > 0) & (np.abs(roots) > np.exp(-np.pi * 400 / RATE))]
    return np.sort(np.angle(roots)) * RATE / (2 * np.pi)


def measured_pitch(waveform: np.ndarray) -> float:
    return float(np.median(librosa.yin(waveform, fmin=60, fmax=400, sr=RATE)))


@pytest.mark.parametrize("frequency", [110.0, 440.0, 3000.0])
@pytest.mark.parametrize("semitones", [-5.0, -1.3, 0.5, 4.0])
def test_pitch_multiplies_frequencies_and_keeps_length_and_energy(frequency: float, semitones: float) -> None:
    given = tone(frequency)
    shifted = shift_pitch(given, semitones)
    assert loudest_frequency(shifted) == pytest.approx(frequency * 2 ** (semitones / 12), rel=3e-3, abs=0.5)
    assert len(shifted) == len(given)
    assert np.square(shifted).sum() == pytest.approx(np.square(given).sum(), rel=1e-4)


@pytest.mark.parametrize("frequency", [110.0, 440.0, 3000.0])
@pytest.mark.parametrize("factor", [0.7, 0.9, 1.1, 1.5])
def test_tempo_divides_the_duration_and_keeps_frequency_and_level(frequency: float, factor: float) -> None:
    given = tone(frequency)
    stretched = stretch(given, factor)
    assert len(stretched) == round(RATE / factor)
    assert loudest_frequency(stretched) == pytest.approx(frequency, rel=2e-3, abs=0.5)
    assert stretched.std() == pytest.approx(given.std(), rel=0.02)


def test_tempo_moves_events_in_proportion() -> None:
    given = np.zeros(RATE, np.float32)
    given[8000:10000] = tone(300, 0.125)
    loud = np.flatnonzero(np.abs(stretch(given, 0.8)) > 0.1)
    assert loud[0] == pytest.approx(10000, abs=400)
    assert loud[-1] == pytest.approx(12500, abs=400)


def test_a_pitch_shift_is_librosas() -> None:
    """The long-term spectrum of a vowel after both programs, in 40 mel bands."""
    given = vowel()
    ours, theirs = (
        np.log(librosa.feature.melspectrogram(y=shifted, sr=RATE, n_mels=40, fmin=100, fmax=4000).mean(1))
        for shifted in (shift_pitch(given, 3), librosa.effects.pitch_shift(given, sr=RATE, n_steps=3))
    )
    plain = np.log(librosa.feature.melspectrogram(y=given, sr=RATE, n_mels=40, fmin=100, fmax=4000).mean(1))
    assert np.corrcoef(ours, theirs)[0, 1] > 0.95 > np.corrcoef(plain, theirs)[0, 1]
    assert measured_pitch(shift_pitch(given, 3)) == pytest.approx(120 * 2**0.25, rel=0.02)


@pytest.mark.parametrize("factor", [0.9, 0.95, 1.05, 1.1])
def test_vtlp_moves_the_formants_by_its_factor_and_leaves_the_pitch(factor: float) -> None:
    given = vowel()
    assert measured_formants(given) == pytest.approx(FORMANTS, rel=0.015)
    warped = warp_formants(given, factor, 0.6)
    assert measured_formants(warped) == pytest.approx(np.multiply(FORMANTS, factor), rel=0.045)
    assert measured_pitch(warped) == pytest.approx(measured_pitch(given), rel=0.005)
    assert len(warped) == len(given)
    assert np.square(warped).sum() == pytest.approx(np.square(given).sum(), rel=1e-4)


def test_vtlp_of_factor_one_changes_nothing() -> None:
    given = vowel()
    np.testing.assert_allclose(warp_formants(given, 1.0, 0.6), given, atol=1e-5)


def test_the_warp_is_that_of_the_paper() -> None:
    """Hertz by hand: alpha 1.1, F_hi 4,800, Nyquist 8,000; the line runs from (4363.6, 4800) to (8000, 8000)."""
    hertz = np.array([0, 1000, 4800 / 1.1, 6000, 8000])
    expected = [0, 1100, 4800, 8000 - 3200 / (8000 - 4800 / 1.1) * 2000, 8000]
    np.testing.assert_allclose(8000 * warped_frequencies(hertz / 8000, 1.1, 0.6), expected, rtol=1e-9)
    lower = 8000 * warped_frequencies(np.array([1000, 4800, 8000]) / 8000, 0.9, 0.6)
    np.testing.assert_allclose(lower, [900, 4320, 8000], rtol=1e-9)


def test_vtlp_on_real_speech_is_a_warped_filterbank(shared_data: Path) -> None:
    """The mean log-mel spectrum of a spoken digit after our warp is nearer to that of the untouched recording through
    filters warped the other way, as the paper has it, than to its own before."""
    waveform, rate = soundfile.read(sorted((shared_data / "fsdd").rglob("*.wav"))[0], dtype="float32")
    waveform = librosa.resample(waveform, orig_sr=rate, target_sr=RATE)
    spectrum = np.abs(librosa.stft(waveform, n_fft=512)) ** 2  # [257, T]
    filters = librosa.filters.mel(sr=RATE, n_fft=512, n_mels=24, fmax=3800)  # [24, 257]
    grid = np.linspace(0, 1, 257)
    for factor in (0.88, 1.12):
        # A filter at f of the warped speaker listens where f came from.
        sources = np.interp(grid, warped_frequencies(grid, factor, 0.6), grid)
        moved = np.array([np.interp(sources, grid, row) for row in spectrum.T]).T
        warped = np.abs(librosa.stft(warp_formants(waveform, factor, 0.6), n_fft=512)) ** 2
        wanted, plain, found = (np.log(filters @ power.mean(1)) for power in (moved, spectrum, warped))
        wanted, plain, found = (levels - levels.mean() for levels in (wanted, plain, found))
        assert np.abs(found - wanted).mean() < 0.6 * np.abs(plain - wanted).mean()


@pytest.mark.parametrize(
    "effect", [lambda x: stretch(x, 1.1), lambda x: shift_pitch(x, 2), lambda x: warp_formants(x, 1.1, 0.6)]
)
@pytest.mark.parametrize("length", [1, 2, 100, 511, 513, 4001])
def test_very_little_and_silence(effect: object, length: int) -> None:
    for given in (np.zeros(length, np.float32), generator().standard_normal(length).astype(np.float32)):
        changed = effect(given)
        assert changed.dtype == np.float32 and np.isfinite(changed).all()
        assert abs(len(changed) - length) <= round(0.1 * length)
        assert given.any() or not changed.any()


def test_half_a_second_takes_about_a_millisecond() -> None:
    """Measured at 0.3, 0.4 and 0.8 ms on one core; the bound leaves room for a busy machine."""
    given = generator().standard_normal(RATE // 2).astype(np.float32)
    for step in (Tempo(factors=(0.9,)), Pitch(lowest=2, highest=2), VocalTractLength()):
        step(given, generator())
        spent = []
        for _ in range(20):
            start = time.perf_counter()
            step(given, generator())
            spent.append(time.perf_counter() - start)
        assert min(spent) < 4e-3, type(step).__name__


@pytest.mark.parametrize("name", SPEECH_AUGMENTATIONS)
def test_probability_is_the_share_of_utterances(name: str) -> None:
    options = {"probability": 0.3} | ({"factors": [0.9]} if name in ("speed", "tempo") else {})
    augmentation = build_augmentation({name: options}, seed=2)
    given = generator().standard_normal(700).astype(np.float32)
    changed = [not np.array_equal(augmentation.waveform(given, 0, index), given) for index in range(400)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.07)
    assert changed == [not np.array_equal(augmentation.waveform(given, 0, index), given) for index in range(400)]


def test_cached_targets_follow_all_but_the_tempo() -> None:
    check_for_cache(["pitch", "vtlp"])
    with pytest.raises(UserError, match="'tempo' changes the length"):
        check_for_cache(["tempo", "vtlp"])


def test_values_that_cannot_be_used_are_named_all_at_once() -> None:
    options = {
        "pitch": {"lowest": 3, "highest": 2},
        "tempo": {"factors": 0, "probability": 2},
        "vtlp": {"highest": "1.1", "boundary": 1},
    }
    with pytest.raises(UserError, match="5 problems") as caught:
        build_augmentation(options)
    for words in (
        "'pitch': lowest is 3; expected at most highest, 2",
        "'tempo': probability is 2; expected 0 to 1",
        "'tempo': factors is 0; expected 0.25 to 4",
        "'vtlp': highest is '1.1'; expected 0.5 to 2",
        "'vtlp': boundary is 1; expected 0.1 to 0.9",
    ):
        assert words in str(caught.value)
