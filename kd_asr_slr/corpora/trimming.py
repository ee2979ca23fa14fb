"""Silence before and after what is said: cut off on request, by energy."""

from __future__ import annotations

import numpy as np

FRAME_SECONDS = 0.025
HOP_SECONDS = 0.010
_SMALLEST = 1e-10  # power below which everything counts as equally silent


def trim_silence(waveform: np.ndarray, sampling_rate: int, below_db: float) -> np.ndarray:
    """Cut off the beginning and the end of a recording where nothing is heard.

    A frame (25 ms, every 10 ms, centred) is heard where its power lies less than `below_db` under that of the loudest
    frame. What lies between the first and the last of them is kept whole, pauses included.

    Args:
        waveform: [S].
        sampling_rate: samples a second.
        below_db: more than 0; 40 is careful, 20 cuts weak consonants.

    Returns:
        A part of the waveform, never empty.

    Source: the rule of librosa.effects.trim.

    Example:
        >>> trim_silence(np.r_[np.zeros(16000), np.ones(8000), np.zeros(16000)], 16000, 40).shape
        (8320,)
    """
    return waveform[heard_part(waveform, sampling_rate, below_db)]


def heard_part(waveform: np.ndarray, sampling_rate: int, below_db: float) -> slice:
    """The samples that `trim_silence` keeps; see there."""
    frame, hop = round(FRAME_SECONDS * sampling_rate), round(HOP_SECONDS * sampling_rate)
    heard = np.flatnonzero(_decibels(waveform, frame, hop) > -below_db)
    if not heard.size:
        return slice(0, len(waveform))
    return slice(int(heard[0]) * hop, min((int(heard[-1]) + 1) * hop, len(waveform)))


def _decibels(waveform: np.ndarray, frame: int, hop: int) -> np.ndarray:
    """Power of every centred frame, in dB under the loudest one; zeros stand before and after the recording."""
    padded = np.pad(np.square(waveform, dtype=np.float64), frame // 2)
    if len(padded) < frame:
        return np.zeros(1)
    powers = np.lib.stride_tricks.sliding_window_view(padded, frame)[::hop].mean(axis=1)
    powers = np.maximum(powers, _SMALLEST)
    return 10 * np.log10(powers / powers.max())
