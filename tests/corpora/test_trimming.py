"""Trimming: the samples librosa keeps, and nothing else."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from kd_asr_slr.corpora.media import read_audio
from kd_asr_slr.corpora.trimming import trim_silence


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("below_db", [20.0, 40.0])
def test_it_keeps_what_librosa_keeps(shared_data: Path, rate: int, below_db: float) -> None:
    files = sorted((shared_data / "fsdd" / "recordings").glob("*_theo_[0-3].wav"))
    assert len(files) == 40
    hiss = 1e-6 * np.random.default_rng(0).standard_normal(rate // 3).astype(np.float32)
    for file in files:
        waveform = np.concatenate([hiss, read_audio(file, rate), hiss])
        expected, _ = librosa.effects.trim(
            waveform, top_db=below_db, frame_length=round(0.025 * rate), hop_length=round(0.010 * rate)
        )
        found = trim_silence(waveform, rate, below_db)
        np.testing.assert_array_equal(found, expected)
        assert 0 < len(found) < len(waveform) - rate // 2


def test_a_pause_inside_is_kept_and_silence_around_is_not() -> None:
    tone = np.sin(np.arange(8000) / 3).astype(np.float32)
    hush = np.zeros(16000, np.float32)
    found = trim_silence(np.concatenate([hush, tone, hush, tone, hush]), 16000, 40)
    assert abs(len(found) - (2 * 8000 + 16000)) <= 2 * (200 + 160)  # half a frame and a hop on each side
    assert len(trim_silence(tone, 16000, 40)) == len(tone)


def test_the_shortest_recordings_are_left_whole() -> None:
    for length in (1, 2, 79, 400, 401):
        waveform = np.linspace(-1, 1, length, dtype=np.float32)
        assert len(trim_silence(waveform, 16000, 60)) == length


def test_channels_are_mixed_and_the_rate_is_the_one_wanted(tmp_path: Path) -> None:
    """44.1 kHz stereo with the tone on one channel only: half the amplitude, the same pitch, the same duration."""
    time = np.arange(44100) / 44100
    left = 0.8 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, np.zeros_like(left)], axis=1), 44100, subtype="PCM_16")
    waveform = read_audio(tmp_path / "stereo.wav", 16000)
    assert waveform.shape == (16000,) and waveform.dtype == np.float32
    assert np.abs(waveform[1000:-1000]).max() == pytest.approx(0.4, abs=0.01)
    spectrum = np.abs(np.fft.rfft(waveform))
    assert spectrum.argmax() == 440  # one bin a Hertz
