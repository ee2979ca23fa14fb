"""Speech: from a waveform to log-mel frames, or to the normalised waveform that self-supervised models take."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from transformers.audio_utils import mel_filter_bank

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.processing.base import RecogniserProcessor, UtteranceExtractor

KINDS = ("log_mel", "waveform")
NORMALISATIONS = ("utterance", "none")
# Added to the deviation (features) and the variance (waveforms, as in Wav2Vec2FeatureExtractor) of an utterance.
DEVIATION_FLOOR = 1e-5
VARIANCE_FLOOR = 1e-7
# Smallest mel power: far below 16-bit quantisation noise, so that digital silence has a logarithm.
POWER_FLOOR = 2.0**-24


class SpeechFeatureExtractor(UtteranceExtractor):
    """Log-mel features of one utterance, or its normalised waveform.

    Args:
        kind: "log_mel" gives input_features [T, F] with T = 1 + S // hop; "waveform" gives input_values [S].
        feature_size: number of mel bands F.
        sampling_rate: in Hz.
        window_seconds: length of the Hann window.
        hop_seconds: time between two frames.
        min_frequency: lower edge of the lowest band, in Hz; the upper edge of the highest is sampling_rate / 2.
        preemphasis: coefficient of x[s] - c * x[s - 1]; 0 for none. Log-mel only.
        normalisation: "utterance" (mean 0, deviation 1 over the utterance; each band by itself) or "none".

    Raises:
        UserError: for settings that no features can be made with.

    Example:
        >>> SpeechFeatureExtractor().extract(np.random.default_rng(0).standard_normal(16000)).shape
        (101, 80)
    """

    def __init__(
        self,
        kind: str = "log_mel",
        feature_size: int = 80,
        sampling_rate: int = 16000,
        window_seconds: float = 0.025,
        hop_seconds: float = 0.010,
        min_frequency: float = 20.0,
        preemphasis: float = 0.97,
        normalisation: str = "utterance",
        padding_value: float = 0.0,
        **kwargs: object,
    ) -> None:
        self.kind = kind
        # As floats whatever a YAML file says: 20 and 20.0 are one setting with one fingerprint.
        self.window_seconds = float(window_seconds)
        self.hop_seconds = float(hop_seconds)
        self.min_frequency = float(min_frequency)
        self.preemphasis = float(preemphasis)
        self.normalisation = normalisation
        size = 1 if kind == "waveform" else feature_size
        super().__init__(feature_size=size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        raise_all(self._problems(), "the speech features")

    def _problems(self) -> list[str]:
        problems = []
        if self.kind not in KINDS:
            problems.append(f"unknown kind '{self.kind}'; expected one of {', '.join(KINDS)}")
        if self.normalisation not in NORMALISATIONS:
            known = ", ".join(NORMALISATIONS)
            problems.append(f"unknown normalisation '{self.normalisation}'; expected one of {known}")
        if self.feature_size < 1:
            problems.append(f"feature_size is {self.feature_size}; expected at least 1")
        if not 0 < self.hop_seconds <= self.window_seconds:
            problems.append(f"hop_seconds is {self.hop_seconds}; expected above 0 and up to window_seconds")
        elif self.hop_seconds * self.sampling_rate < 1:
            problems.append(f"hop_seconds is less than one sample of {self.sampling_rate} Hz")
        if not 0 <= self.min_frequency < self.sampling_rate / 2:
            problems.append(f"min_frequency is {self.min_frequency} Hz; expected below {self.sampling_rate / 2} Hz")
        return problems

    @property
    def decisive(self) -> tuple[str, ...]:  # type: ignore[override]  # an attribute elsewhere
        """Names of the settings that decide the features."""
        if self.kind == "waveform":
            return ("kind", "sampling_rate", "normalisation")
        framing = ("window_seconds", "hop_seconds", "min_frequency", "preemphasis")
        return ("kind", "sampling_rate", "normalisation", "feature_size", *framing)

    @property
    def input_name(self) -> str:  # type: ignore[override]  # an attribute elsewhere
        """ "input_values" for waveforms, else "input_features"."""
        return "input_values" if self.kind == "waveform" else "input_features"

    @property
    def hop_length(self) -> int:
        """Samples between two frames."""
        return round(self.hop_seconds * self.sampling_rate)

    @property
    def frame_seconds(self) -> float:  # type: ignore[override]  # an attribute elsewhere
        """Seconds between two input frames; for waveforms, between two samples."""
        return (1 if self.kind == "waveform" else self.hop_length) / self.sampling_rate

    def extract(self, media: np.ndarray) -> np.ndarray:
        """Features of one utterance.

        Args:
            media: mono waveform [S] at `sampling_rate`, full scale 1.

        Returns:
            float32 [T, F], or [S] for kind "waveform".

        Raises:
            UserError: if the waveform is not mono, empty, or not finite.
        """
        waveform = _checked_waveform(media)
        if self.kind == "waveform":
            return _normalised_waveform(waveform) if self.normalisation == "utterance" else waveform
        features = self._log_mel(torch.from_numpy(waveform))  # [T, F]
        if self.normalisation == "utterance":
            deviation, mean = torch.std_mean(features, dim=0, correction=0)
            features = (features - mean) / (deviation + DEVIATION_FLOOR)
        return features.numpy()

    def _log_mel(self, waveform: torch.Tensor) -> torch.Tensor:
        window_length = round(self.window_seconds * self.sampling_rate)
        fft_length = 1 << (window_length - 1).bit_length()
        if self.preemphasis:
            waveform = torch.cat([waveform[:1], waveform[1:] - self.preemphasis * waveform[:-1]])
        spectrum = torch.stft(
            waveform,
            fft_length,
            hop_length=self.hop_length,
            win_length=window_length,
            window=_window(window_length),
            center=True,
            pad_mode="constant",  # any length can be padded with zeros; a mirror needs half a window
            return_complex=True,
        )  # [fft / 2 + 1, T]
        power = torch.view_as_real(spectrum).square().sum(-1)
        filters = _mel_filters(fft_length // 2 + 1, self.feature_size, self.min_frequency, self.sampling_rate)
        return (power.T @ filters).clamp_min_(POWER_FLOOR).log_()  # [T, F]


class SpeechProcessor(RecogniserProcessor):
    """`SpeechFeatureExtractor` and `LabelTokenizer` in one folder.

    Example:
        >>> tokenizer = LabelTokenizer.from_texts(["ZERO", "ONE"], kind="words")
        >>> SpeechProcessor(SpeechFeatureExtractor(), tokenizer).save_pretrained("run/")
    """


@lru_cache(maxsize=8)
def _window(length: int) -> torch.Tensor:
    return torch.hann_window(length, periodic=False)


@lru_cache(maxsize=8)
def _mel_filters(bins: int, bands: int, min_frequency: float, sampling_rate: int) -> torch.Tensor:
    """Slaney-style triangular filters [fft / 2 + 1, F], each of unit area."""
    filters = mel_filter_bank(bins, bands, min_frequency, sampling_rate / 2, sampling_rate, "slaney", "slaney")
    return torch.from_numpy(np.ascontiguousarray(filters, dtype=np.float32))


def _checked_waveform(media: np.ndarray) -> np.ndarray:
    # A copy: what is given may be a read-only array of a cache.
    waveform = np.array(media, dtype=np.float32)
    if waveform.ndim != 1 or waveform.size == 0:
        raise UserError(f"a waveform of shape {waveform.shape}", "mono samples [S], at least one")
    if not np.isfinite(waveform).all():
        raise UserError("a waveform with NaN or infinite samples", "finite samples")
    return waveform


def _normalised_waveform(waveform: np.ndarray) -> np.ndarray:
    return (waveform - waveform.mean()) / np.sqrt(waveform.var() + VARIANCE_FLOOR)
