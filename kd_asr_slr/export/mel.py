"""The log-mel front end of a NeMo hybrid in numpy, so that what is exported needs no torch to be fed.

An ONNX file cannot hold it: torch.stft is complex, which ONNX's operators are not. The window and the filters are those
of the model, stored beside the exported network. `docs/examples/mel_features.py` does the same without this package.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from kd_asr_slr.errors import UserError

LOG_GUARD = 2.0**-24  # added before the logarithm, as NeMo does
DEVIATION_GUARD = 1e-5  # added to the standard deviation, as NeMo does


@dataclass(frozen=True, eq=False)
class MelFrontEnd:
    """Waveforms to log-mel features, as NeMo's `AudioToMelSpectrogramPreprocessor` makes them at evaluation.

    Attributes:
        sampling_rate: Hz.
        hop_length: samples from one frame to the next.
        preemphasis: coefficient of the filter x[t] - c x[t-1]; 0 for none.
        normalise: whether each band of an utterance is brought to mean 0 and deviation 1.
        window: [n_fft], its ends padded with zeros.
        filters: [F, n_fft / 2 + 1], the mel bands.

    Example:
        >>> features = front_end_of(model)(np.zeros(16000))  # [100, F] at 100 frames a second
    """

    sampling_rate: int
    hop_length: int
    preemphasis: float
    normalise: bool
    window: np.ndarray
    filters: np.ndarray

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        """Features [T, F], float32, of a waveform [S], full scale 1; T = S / hop_length, rounded down.

        Raises:
            UserError: where it is shorter than one hop.
        """
        count, half = len(waveform) // self.hop_length, len(self.window) // 2
        if not count:
            raise UserError(f"a waveform has {len(waveform)} samples", expected=f"{self.hop_length} or more")
        samples = np.asarray(waveform, np.float64)
        samples = np.append(samples[:1], samples[1:] - self.preemphasis * samples[:-1])
        frames = sliding_window_view(np.pad(samples, half), len(self.window))[:: self.hop_length][:count]
        power = np.abs(np.fft.rfft(frames * self.window)) ** 2
        features = np.log(power @ self.filters.T + LOG_GUARD)
        if self.normalise:
            spread = features.std(axis=0, ddof=1) if count > 1 else 0.0
            features = (features - features.mean(axis=0)) / (spread + DEVIATION_GUARD)
        return features.astype(np.float32)

    def of_batch(self, inputs: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Waveforms [B, S] and their mask to features [B, T, F] and theirs; zeros behind what is valid."""
        parts = [self(row[:length]) for row, length in zip(inputs, mask.sum(-1), strict=True)]
        features = np.zeros((len(parts), max(map(len, parts)), len(self.filters)), np.float32)
        valid = np.zeros(features.shape[:2], np.int64)
        for row, part in enumerate(parts):
            features[row, : len(part)], valid[row, : len(part)] = part, 1
        return features, valid

    def save(self, path: str | Path, normalise_waveform: bool) -> Path:
        """Write every attribute into an .npz file, under its name.

        Args:
            path: the file.
            normalise_waveform: whether the processor brings a recording to mean 0 and variance 1 before; it is written
                beside them, so that the file says all that is done to a recording.
        """
        with Path(path).open("wb") as file:
            np.savez(file, normalise_waveform=normalise_waveform, **asdict(self))
        return Path(path)


def front_end_of(model: Any) -> MelFrontEnd:
    """The front end of a `NemoHybridForASR`.

    Args:
        model: its configuration and the buffers of its preprocessor are read.
    """
    config, featurizer = model.config, model.preprocessor.featurizer
    window = featurizer.window.double().numpy()
    left = (config.n_fft - len(window)) // 2  # torch.stft puts a shorter window into the middle
    return MelFrontEnd(
        sampling_rate=config.sampling_rate,
        hop_length=config.hop_length,
        preemphasis=config.preemphasis or 0.0,
        normalise=config.normalisation == "per_feature",
        window=np.pad(window, (left, config.n_fft - len(window) - left)),
        filters=featurizer.fb[0].double().numpy(),
    )
