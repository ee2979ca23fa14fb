"""Augmentations of waveforms [S]: what student and teachers hear alike. Samples are meant at 16 kHz."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from kd_asr_slr.processing.speech_effects import shift_pitch, stretch, warp_formants


@dataclass(frozen=True)
class WaveformAugmentation(ABC):
    """Base of those on waveforms.

    Args:
        probability: share of the utterances that it is applied to.
    """

    domain: ClassVar[str] = "waveform"
    keeps_length: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (-120.0, 120.0)  # of `lowest` and `highest`, or of `factors`
    probability: float = field(default=1.0, kw_only=True)

    def __call__(self, waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Change the waveform [S], or leave it as it is."""
        # No draw where it always applies: then it changes an utterance as it did before there was a choice.
        if self.probability < 1 and generator.random() >= self.probability:
            return waveform
        return self._changed(waveform, generator)

    @abstractmethod
    def _changed(self, waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """What becomes of a waveform [S]; never the given array, changed."""

    def problems(self) -> list[str]:
        """Sentences about options that cannot be used."""
        problems = [] if _within(self.probability, 0, 1) else [f"probability is {self.probability!r}; expected 0 to 1"]
        problems += [
            f"{name} is {value!r}; expected {' to '.join(f'{bound:g}' for bound in self.bounds)}"
            for name, value in self._drawn()
            if not _within(value, *self.bounds)
        ]
        ends = dict(self._drawn())
        if not problems and "lowest" in ends and ends["lowest"] > ends["highest"]:
            problems.append(f"lowest is {ends['lowest']}; expected at most highest, {ends['highest']}")
        return problems

    def _drawn(self) -> list[tuple[str, Any]]:
        """The ends of a range, or the values one is drawn of."""
        if hasattr(self, "lowest"):
            return [(name, getattr(self, name)) for name in ("lowest", "highest")]
        factors = getattr(self, "factors")  # noqa: B009
        listed = isinstance(factors, (list, tuple)) and len(factors) > 0
        return [("factors", value) for value in (factors if listed else [factors])]


@dataclass(frozen=True)
class GaussianNoise(WaveformAugmentation):
    """Add white noise at a random signal-to-noise ratio.

    Args:
        lowest, highest: range of the ratio, in dB.
    """

    lowest: float = 10.0
    highest: float = 40.0

    def _changed(self, waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        ratio = 10.0 ** (generator.uniform(self.lowest, self.highest) / 10)
        power = float(np.mean(np.square(waveform, dtype=np.float64)))
        noise = generator.standard_normal(len(waveform), dtype=np.float32)
        return (waveform + np.float32(np.sqrt(power / ratio)) * noise).astype(np.float32, copy=False)


@dataclass(frozen=True)
class Gain(WaveformAugmentation):
    """Change the level.

    Args:
        lowest, highest: range of the gain, in dB.
    """

    lowest: float = -6.0
    highest: float = 6.0

    def _changed(self, waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return waveform * np.float32(10.0 ** (generator.uniform(self.lowest, self.highest) / 20))


@dataclass(frozen=True)
class PlaybackAugmentation(WaveformAugmentation):
    """Base of those that play an utterance by one of several factors, which changes its length.

    Args:
        factors: one is drawn for each utterance; 1.1 is faster and shorter.
    """

    keeps_length: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.25, 4.0)
    factors: Sequence[float] = (0.9, 1.0, 1.1)

    def _changed(self, waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        factor = float(self.factors[generator.integers(len(self.factors))])
        return waveform if factor == 1.0 else self._played(waveform, factor)

    @abstractmethod
    def _played(self, waveform: np.ndarray, factor: float) -> np.ndarray:
        """The waveform [S], about S / factor samples long."""


@dataclass(frozen=True)
class Speed(PlaybackAugmentation):
    """Play faster or slower by resampling, which changes pitch and length.

    Source: Ko et al., "Audio augmentation for speech recognition" (2015), section 3.
    """

    def _played(self, waveform: np.ndarray, factor: float) -> np.ndarray:
        import soxr

        return soxr.resample(np.asarray(waveform, dtype=np.float32), factor, 1.0)


@dataclass(frozen=True)
class Tempo(PlaybackAugmentation):
    """Speak faster or slower at the same pitch, which changes the length.

    Source: Ko et al., "Audio augmentation for speech recognition" (2015), section 3; by WSOLA, see `stretch`.
    """

    def _played(self, waveform: np.ndarray, factor: float) -> np.ndarray:
        return stretch(waveform, factor)


@dataclass(frozen=True)
class Pitch(WaveformAugmentation):
    """Raise or lower pitch and formants together; length and energy stay.

    Args:
        lowest, highest: range of the shift, in semitones.
    """

    bounds: ClassVar[tuple[float, float]] = (-12.0, 12.0)
    lowest: float = -2.0
    highest: float = 2.0

    def _changed(self, waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return shift_pitch(waveform, generator.uniform(self.lowest, self.highest))


@dataclass(frozen=True)
class VocalTractLength(WaveformAugmentation):
    """Vocal-tract-length perturbation: move the formants as a shorter or longer vocal tract does; length, energy and
    pitch stay.

    The paper warps the mel filters of one front end. Here the waveform itself is changed, by the same curve on its
    short-time envelope (see `warp_formants`), so that student and teachers, each with its own features, hear the same
    speaker.

    Source: Jaitly & Hinton, "Vocal tract length perturbation (VTLP) improves speech recognition" (2013), section 3.

    Args:
        lowest, highest: range of the factor; 1.1 raises the formants by 10 per cent.
        boundary: below this share of half the sampling rate the warp is linear (the paper's 4,800 of 8,000 Hz).
    """

    bounds: ClassVar[tuple[float, float]] = (0.5, 2.0)
    lowest: float = 0.9
    highest: float = 1.1
    boundary: float = 0.6

    def problems(self) -> list[str]:
        """Sentences about options that cannot be used."""
        fine = _within(self.boundary, 0.1, 0.9)
        return super().problems() + ([] if fine else [f"boundary is {self.boundary!r}; expected 0.1 to 0.9"])

    def _changed(self, waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return warp_formants(waveform, generator.uniform(self.lowest, self.highest), self.boundary)


SPEECH_AUGMENTATIONS: dict[str, type[WaveformAugmentation]] = {
    "gaussian_noise": GaussianNoise,
    "gain": Gain,
    "speed": Speed,
    "tempo": Tempo,
    "pitch": Pitch,
    "vtlp": VocalTractLength,
}


def _within(value: object, lowest: float, highest: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and lowest <= value <= highest
