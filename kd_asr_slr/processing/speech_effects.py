"""Signal processing behind the augmentations of speech: time stretching, pitch shifting, warping of the envelope.

All of it is numpy on one waveform [S], about a millisecond for half a second of 16 kHz audio on one core.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

WINDOW = 512  # samples of a frame: 32 ms at 16 kHz
HOP = WINDOW // 2
# WSOLA looks this far to both sides for the place that fits: together a period of 62 Hz at 16 kHz.
TOLERANCE = 128
# Cepstral coefficients of an envelope: formants are below, the pitch of a voice (up to 500 Hz at 16 kHz) is above.
ENVELOPE_SIZE = 32
# A bin's floor against the loudest one, in power (-80 dB), so that silence has a logarithm.
RELATIVE_FLOOR = 1e-8
LARGEST_GAIN = np.log(10.0)  # 20 dB, both ways


def stretch(waveform: np.ndarray, factor: float) -> np.ndarray:
    """Change the tempo and keep the pitch.

    Source: Verhelst & Roelands, "An overlap-add technique based on waveform similarity (WSOLA)" (1993), section 3.

    Args:
        waveform: [S].
        factor: 1.1 is faster and shorter.

    Returns:
        float32, round(S / factor) samples, at least one.
    """
    length = max(1, round(len(waveform) / factor))
    frames = -(-length // HOP) + 1
    # Room for the first frame, which is centred on sample 0, and for the last one's search.
    back = int(frames * HOP * factor) + 2 * WINDOW + 2 * TOLERANCE - len(waveform)
    padded = np.pad(np.asarray(waveform, dtype=np.float32), (HOP + TOLERANCE, max(back, 0)))
    energy = np.concatenate([[0.0], np.cumsum(np.square(padded, dtype=np.float64))])
    output = np.zeros((frames + 1) * HOP, dtype=np.float32)
    start = TOLERANCE
    for frame in range(frames):
        if frame:
            start = _most_similar(padded, energy, start + HOP, round(frame * HOP * factor))
        output[frame * HOP : frame * HOP + WINDOW] += _window() * padded[start : start + WINDOW]
    return output[HOP : HOP + length]


def _most_similar(padded: np.ndarray, energy: np.ndarray, natural: int, first: int) -> int:
    """Of the places from `first` on, that whose next half frame is most like the one at `natural`."""
    likeness = np.correlate(padded[first : first + 2 * TOLERANCE + HOP], padded[natural : natural + HOP], "valid")
    ends = energy[first + HOP : first + HOP + len(likeness)]
    likeness = likeness / np.sqrt(np.maximum(ends - energy[first : first + len(likeness)], 1e-12))
    best = int(likeness.argmax())
    return first + (best if likeness[best] > 0 else TOLERANCE)  # in silence: where it should be


def shift_pitch(waveform: np.ndarray, semitones: float) -> np.ndarray:
    """Raise or lower pitch and formants and keep the length: a stretch, then a resampling that undoes its length.

    Args:
        waveform: [S].
        semitones: 12 doubles every frequency.

    Returns:
        float32 [S], of the same energy.
    """
    import soxr

    ratio = 2.0 ** (semitones / 12)
    shifted = soxr.resample(stretch(waveform, 1 / ratio), ratio, 1.0, quality="MQ")[: len(waveform)]
    shifted = np.pad(shifted, (0, len(waveform) - len(shifted)))
    return with_energy_of(shifted, waveform)


def warp_formants(waveform: np.ndarray, factor: float, boundary: float) -> np.ndarray:
    """Move the spectral envelope along the frequency axis, as a shorter or longer vocal tract does.

    Each short-time spectrum is multiplied by warped envelope / envelope, a smooth real gain, and keeps its phase. So
    the pitch stays, and nothing has to be said about the phases of bins that move.

    Args:
        waveform: [S].
        factor: alpha; 1.1 raises the formants by 10 per cent (a shorter vocal tract).
        boundary: F_hi as a share of half the sampling rate; see `warped_frequencies`.

    Returns:
        float32 [S], of the same energy.
    """
    count = -(-len(waveform) // HOP) + 1
    padded = np.zeros((count + 1) * HOP, dtype=np.float32)
    padded[HOP : HOP + len(waveform)] = waveform
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]  # [N, WINDOW]
    root = np.sqrt(_window())  # for analysis and for synthesis; squared, they add up to 1
    spectra = np.fft.rfft(frames * root)  # [N, WINDOW / 2 + 1]
    power = np.square(spectra.real) + np.square(spectra.imag)
    levels = np.log(power + max(RELATIVE_FLOOR * float(power.max()), 1e-30)) / 2
    cepstra = np.fft.irfft(levels)[:, : ENVELOPE_SIZE + 1]
    gains = cepstra @ _gain_basis(float(factor), float(boundary))  # [N, WINDOW / 2 + 1], log
    changed = np.fft.irfft(spectra * np.exp(np.clip(gains, -LARGEST_GAIN, LARGEST_GAIN))) * root
    halves = changed.reshape(count, 2, HOP)
    output = np.zeros((count + 1, HOP), dtype=np.float64)
    output[:-1] += halves[:, 0]
    output[1:] += halves[:, 1]
    return with_energy_of(output.ravel()[HOP : HOP + len(waveform)], waveform)


def warped_frequencies(frequencies: np.ndarray, factor: float, boundary: float) -> np.ndarray:
    """Where each frequency goes: times the factor up to the boundary, then on a straight line to the highest one.

    f' = f * alpha for f <= F_hi * min(alpha, 1) / alpha, else
    f' = 1 - (1 - F_hi * min(alpha, 1)) / (1 - F_hi * min(alpha, 1) / alpha) * (1 - f)

    Source: Jaitly & Hinton, "Vocal tract length perturbation (VTLP) improves speech recognition" (2013), section 3.

    Args:
        frequencies: shares of half the sampling rate, 0 to 1.
        factor: alpha.
        boundary: F_hi, a share too; the paper has 4,800 Hz of 8,000: 0.6.
    """
    knee = boundary * min(factor, 1.0)
    above = 1 - (1 - knee) / (1 - knee / factor) * (1 - frequencies)
    return np.where(frequencies <= knee / factor, frequencies * factor, above)


def with_energy_of(changed: np.ndarray, original: np.ndarray) -> np.ndarray:
    """A waveform [S] in float32, scaled to the energy of another [S]."""
    changed = np.asarray(changed, dtype=np.float32)
    found = float(np.dot(changed, changed))
    wanted = float(np.sum(np.square(original, dtype=np.float64)))
    return changed * np.float32(np.sqrt(wanted / found)) if found > 0 else changed


def _gain_basis(factor: float, boundary: float) -> np.ndarray:
    """From cepstral coefficients to log(envelope at the frequency that comes here) - log(envelope), per bin."""
    grid = np.linspace(0.0, 1.0, WINDOW // 2 + 1)
    # The warp is monotonic and piecewise linear, so that its inverse is an interpolation of what it does.
    sources = np.interp(grid, warped_frequencies(_fine_grid(), factor, boundary), _fine_grid())
    return _cosines(sources) - _cosines(grid)


def _cosines(frequencies: np.ndarray) -> np.ndarray:
    """[ENVELOPE_SIZE + 1, bins]: a log envelope is the cepstral coefficients times this."""
    orders = np.arange(ENVELOPE_SIZE + 1)
    return 2 * np.cos(np.pi * orders[:, None] * frequencies[None, :])  # order 0 cancels in a difference


@lru_cache(maxsize=1)
def _fine_grid() -> np.ndarray:
    return np.linspace(0.0, 1.0, 8 * WINDOW + 1)


@lru_cache(maxsize=1)
def _window() -> np.ndarray:
    """A periodic Hann window: at half overlap they add up to 1."""
    return np.hanning(WINDOW + 1)[:-1].astype(np.float32)
