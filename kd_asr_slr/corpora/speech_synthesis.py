"""A small source-filter speech synthesiser: phone targets -> tracks -> waveform.

A voiced source (glottal pulses) and an aspiration source (noise) pass through a cascade of formant resonators;
frication noise passes through a resonator of its own. The filters change every 5 ms: the sources are cut into
overlapping windows, each is filtered in the frequency domain, and the results are added up.

Source: D. H. Klatt, "Software for a cascade/parallel formant synthesizer", JASA 67 (1980): resonators (equation 2)
and the cascade; pulse shape: A. E. Rosenberg, JASA 49 (1971), trigonometric model, differentiated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kd_asr_slr.corpora.synthetic import spread

RATE = 16000
HOP = 80  # samples between two filters: 5 ms
_WINDOW, _FFT = 2 * HOP, 512
_NEUTRAL = np.array([500.0, 1500.0, 2500.0])  # formants of a tube of even width
_UPPER, _HIGHEST = np.array([[3500.0, 4500.0]]), 7500.0  # F4 and F5 stay; nothing comes near half the rate
_BANDWIDTHS = np.array([80.0, 100.0, 140.0, 220.0, 300.0])

# One segment: milliseconds, F1, F2, F3 in Hz, then the amplitudes of voice, aspiration and frication, then the
# centre and the bandwidth of the frication noise in Hz. A phone is one segment or, for stops, several.
Segment = tuple[float, ...]
_F1, _VOICE, _ASPIRATION, _FRICATION, _CENTRE, _WIDTH = 0, 3, 4, 5, 6, 7  # columns of a track


def _stop(locus: Segment, burst: Segment, voiced: bool) -> tuple[Segment, ...]:
    closure = (50.0, *locus, 0.08 if voiced else 0.0, 0.0, 0.0, *burst)
    release = (10.0, *locus, 0.1 if voiced else 0.0, 0.0, 0.6 if voiced else 1.0, *burst)
    aspiration = () if voiced else ((30.0, *locus, 0.0, 0.5, 0.15, *burst),)
    return (closure, release, *aspiration)


_LABIAL, _ALVEOLAR, _VELAR = (280.0, 900.0, 2250.0), (300.0, 1750.0, 2650.0), (300.0, 1950.0, 2300.0)
_NO_NOISE = (0.0, 4000.0, 2000.0)
PHONES: dict[str, tuple[Segment, ...]] = {
    "A": ((95.0, 750.0, 1250.0, 2600.0, 1.0, 0.02, *_NO_NOISE),),
    "E": ((90.0, 470.0, 1950.0, 2600.0, 0.9, 0.02, *_NO_NOISE),),
    "I": ((85.0, 290.0, 2250.0, 3000.0, 0.8, 0.02, *_NO_NOISE),),
    "O": ((90.0, 480.0, 920.0, 2450.0, 0.9, 0.02, *_NO_NOISE),),
    "U": ((85.0, 310.0, 820.0, 2300.0, 0.8, 0.02, *_NO_NOISE),),
    "M": ((60.0, 260.0, 1000.0, 2200.0, 0.35, 0.0, *_NO_NOISE),),
    "N": ((60.0, 260.0, 1600.0, 2600.0, 0.35, 0.0, *_NO_NOISE),),
    "L": ((55.0, 340.0, 1150.0, 2700.0, 0.5, 0.0, *_NO_NOISE),),
    "S": ((90.0, 300.0, 1600.0, 2600.0, 0.0, 0.02, 0.9, 6000.0, 1500.0),),
    "F": ((85.0, 300.0, 1000.0, 2300.0, 0.0, 0.05, 0.35, 4200.0, 4000.0),),
    "P": _stop(_LABIAL, (900.0, 900.0), voiced=False),
    "B": _stop(_LABIAL, (900.0, 900.0), voiced=True),
    "T": _stop(_ALVEOLAR, (4200.0, 1800.0), voiced=False),
    "D": _stop(_ALVEOLAR, (4200.0, 1800.0), voiced=True),
    "K": _stop(_VELAR, (1900.0, 700.0), voiced=False),
    "G": _stop(_VELAR, (1900.0, 700.0), voiced=True),
}


@dataclass(frozen=True)
class Voice:
    """A speaker.

    Attributes:
        pitch: mean fundamental frequency in Hz.
        tract: factor on all formants (shorter vocal tract: larger).
        rate: factor on the speed.
        severity: 0 healthy to 1 severely dysarthric.
        accent: factors on the first three formants of each phone.
    """

    pitch: float
    tract: float
    rate: float
    severity: float
    accent: dict[str, np.ndarray]


def make_voice(index: int, severity: float, rng: np.random.Generator) -> Voice:
    """The index-th speaker: pitch and vocal tract go together loosely, everything else is drawn."""
    size = spread(index, 0.35)
    return Voice(
        pitch=95.0 * 2.0 ** (1.2 * size + rng.normal(0.0, 0.08)),
        tract=0.84 + 0.36 * size + rng.normal(0.0, 0.015),
        rate=float(rng.uniform(0.85, 1.2)),
        severity=severity,
        accent={phone: 1.0 + rng.normal(0.0, 0.05, 3) for phone in PHONES},
    )


def synthesise(phones: str, voice: Voice, difficulty: float, rng: np.random.Generator) -> np.ndarray:
    """One take of one word.

    Args:
        phones: letters of `PHONES`, e.g. "MANA".
        voice: who speaks.
        difficulty: 0 to 1: how much a take varies and how loud the background is.
        rng: draws everything that differs between takes.

    Returns:
        float64 [S] at 16 kHz, within -1 .. 1.
    """
    targets, frames = _plan(phones, voice, difficulty, rng)
    track = _smooth(np.repeat(targets, frames, axis=0))  # [N, 8], N steps of 5 ms
    _interrupt_voicing(track, voice.severity, rng)
    clean = _render(track, _pitch_track(len(track), voice, rng), voice, rng)  # [S]
    noise = _background(len(clean), rng)
    speech_level = np.sqrt(np.mean(clean**2)) + 1e-9
    decibels = 30.0 - 22.0 * difficulty - 10.0 * voice.severity + rng.normal(0.0, 2.0)
    mixed = clean / speech_level + noise * 10.0 ** (-decibels / 20.0)
    return mixed * (10.0 ** rng.uniform(-1.0, -0.1) / np.abs(mixed).max())


def _plan(phones: str, voice: Voice, difficulty: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Targets [segments, 8] and lengths [segments] in steps of 5 ms, silence before and after included."""
    severity = voice.severity
    tempo = voice.rate / (1.0 + 0.9 * severity) * np.exp(rng.normal(0.0, 0.06 + 0.12 * difficulty))
    central = min(0.9, 0.65 * severity + rng.uniform(0.0, 0.45 * difficulty))
    segments = [_silence(rng.uniform(30.0, 120.0))]
    for phone in phones:
        if len(segments) > 1 and rng.random() < 0.3 * severity:
            segments.append(_silence(rng.uniform(40.0, 160.0)))
        segments += _spoken(phone, voice, central, tempo, difficulty, rng)
    segments.append(_silence(rng.uniform(30.0, 120.0)))
    plan = np.array(segments)
    return plan[:, 1:], np.maximum(1, np.rint(plan[:, 0] * RATE / 1000.0 / HOP).astype(int))


def _silence(milliseconds: float) -> np.ndarray:
    return np.array([milliseconds, *_NEUTRAL, 0.0, 0.0, 0.0, 4000.0, 2000.0])


def _spoken(
    phone: str, voice: Voice, central: float, tempo: float, difficulty: float, rng: np.random.Generator
) -> list[np.ndarray]:
    """The segments of one phone in one take: own formants, centralised, of another length and loudness each time."""
    spoken = []
    formant_noise = 1.0 + rng.normal(0.0, 0.02 + 0.06 * difficulty + 0.03 * voice.severity, 3)
    imprecise = voice.severity * rng.uniform(0.2, 1.0)
    for segment in PHONES[phone]:
        out = np.array(segment)
        out[0] *= np.exp(rng.normal(0.0, 0.1 + 0.15 * difficulty)) / tempo
        out[1:4] = (out[1:4] + central * (_NEUTRAL - out[1:4])) * voice.accent[phone] * formant_noise * voice.tract
        out[4:7] *= np.exp(rng.normal(0.0, 0.1 + 0.3 * difficulty, 3))
        out[6] *= 1.0 - 0.6 * imprecise  # weak bursts and fricatives
        out[5] += 0.12 * imprecise  # air escapes through closures, vowels are breathy
        out[7:9] *= voice.tract**0.5
        spoken.append(out)
    return spoken


def _smooth(track: np.ndarray) -> np.ndarray:
    """Coarticulation: formants glide within about 70 ms, amplitudes within about 20 ms."""
    smooth = track.copy()
    for columns, width in ((slice(_F1, _VOICE), 11), (slice(_VOICE, _CENTRE), 5)):
        kernel = np.hanning(width + 2)[1:-1]
        padded = np.pad(track[:, columns], ((width // 2, width // 2), (0, 0)), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=0)  # [N, columns, width]
        smooth[:, columns] = windows @ (kernel / kernel.sum())
    return smooth


def _interrupt_voicing(track: np.ndarray, severity: float, rng: np.random.Generator) -> None:
    """Stretches in which the voice breaks away and leaves breath."""
    for _ in range(rng.poisson(1.6 * severity)):
        start = rng.integers(len(track))
        stretch = slice(start, start + rng.integers(6, 24))
        track[stretch, _ASPIRATION] += 0.25 * track[stretch, _VOICE]
        track[stretch, _VOICE] *= 0.1


def _pitch_track(steps: int, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Fundamental frequency in Hz of each step: a fall, a take's own level, and tremor in dysarthria."""
    time = np.linspace(0.0, 1.0, steps)
    fall = 1.0 + rng.uniform(0.0, 0.25) * (0.5 - time)
    tremor = 1.0 + 0.06 * voice.severity * np.sin(2.0 * np.pi * (rng.uniform(3.0, 7.0) * steps * HOP / RATE * time))
    return voice.pitch * np.exp(rng.normal(0.0, 0.06)) * fall * tremor


def _render(track: np.ndarray, pitch: np.ndarray, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Sources through filters, window by window."""
    samples = len(track) * HOP
    steps = np.arange(samples) / HOP
    amplitudes = [
        np.interp(steps, np.arange(len(track)), track[:, column]) for column in (_VOICE, _ASPIRATION, _FRICATION)
    ]
    phase = np.cumsum(np.interp(steps, np.arange(len(track)), pitch)) / RATE
    pulses = _glottal(phase % 1.0)
    noise = rng.normal(0.0, 0.3, (2, samples))
    spectra = _spectra(amplitudes[0] * pulses + amplitudes[1] * noise[0])  # [N, bins], of the source in the throat
    widen = 1.0 + 0.8 * voice.severity
    spectra *= _resonators(np.minimum(track[:, _F1:_VOICE], _HIGHEST), widen * _BANDWIDTHS[:3])
    spectra *= _resonators(np.minimum(_UPPER * voice.tract, _HIGHEST), widen * _BANDWIDTHS[3:])
    hissing = np.flatnonzero(track[:, _FRICATION] > 0.0)
    mouth = _spectra(amplitudes[2] * noise[1])[hissing]
    spectra[hissing] += mouth * _resonators(track[hissing, _CENTRE, None], track[hissing, _WIDTH, None], unit_peak=True)
    pieces = np.fft.irfft(spectra, _FFT)  # [N, FFT]
    out = np.zeros(samples + _FFT)
    for part in range(0, _FFT, HOP):  # all windows at once, one hop-long part after another
        width = min(HOP, _FFT - part)
        block = np.zeros((len(track), HOP))
        block[:, :width] = pieces[:, part : part + width]
        out[part : part + samples] += block.ravel()
    return out[:samples]


def _glottal(phase: np.ndarray) -> np.ndarray:
    """Derivative of the flow through the glottis at phases 0 .. 1: opening 40 %, closing 16 % of a period."""
    opening, closing = 0.4, 0.16
    rising = 0.5 * np.sin(np.pi * phase / opening)
    falling = -(opening / closing) * 0.5 * np.sin(0.5 * np.pi * (phase - opening) / closing)
    return np.where(phase < opening, rising, np.where(phase < opening + closing, falling, 0.0))


def _spectra(source: np.ndarray) -> np.ndarray:
    """Windows of 10 ms every 5 ms, which add up to the source, as spectra [N, bins]."""
    window = np.hanning(_WINDOW + 1)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(source, (0, HOP)), _WINDOW)[::HOP]
    return np.fft.rfft(frames * window, _FFT)


_Z = np.exp(-2j * np.pi * np.arange(_FFT // 2 + 1) / _FFT)  # z to the power -1, for every bin


def _resonators(centres: np.ndarray, bandwidths: np.ndarray, unit_peak: bool = False) -> np.ndarray:
    """Response [N, bins] of second-order resonators in cascade, with gain 1 at 0 Hz or about 1 at the peak."""
    radius = np.exp(-np.pi * np.broadcast_to(bandwidths, centres.shape) / RATE)
    linear = 2.0 * radius * np.cos(2.0 * np.pi * centres / RATE)
    gains = (1.0 - radius) if unit_peak else (1.0 - linear + radius**2)
    denominator = np.ones((len(centres), len(_Z)), dtype=complex)
    for b, c in zip(linear.T[..., None], radius.T[..., None] ** 2, strict=True):  # each [N, 1]
        denominator *= 1.0 - _Z * (b - c * _Z)
    return gains.prod(axis=1, keepdims=True) / denominator


def _background(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of level 1 whose spectrum falls by a slope that differs between takes."""
    spectrum = np.fft.rfft(rng.normal(size=samples))
    frequency = np.maximum(np.fft.rfftfreq(samples, 1.0 / RATE), 50.0)
    noise = np.fft.irfft(spectrum * frequency ** -rng.uniform(0.2, 1.0), samples)
    return noise / np.sqrt(np.mean(noise**2))
