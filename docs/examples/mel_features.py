"""Log-mel features of recordings for an exported NeMo hybrid: numpy alone, neither PyTorch nor kd_asr_slr.

python docs/examples/mel_features.py RUN/student-features.npz ONE.wav [TWO.wav ...]
python docs/examples/recognise_onnx.py RUN/student.onnx ONE.npy [TWO.npy ...]
"""

import sys
import wave
from pathlib import Path

import numpy as np

settings = np.load(sys.argv[1])
window, filters, hop = settings["window"], settings["filters"], int(settings["hop_length"])

for path in map(Path, sys.argv[2:]):
    with wave.open(str(path)) as file:
        found = (file.getframerate(), file.getnchannels(), file.getsampwidth())
        if found != (wanted := (int(settings["sampling_rate"]), 1, 2)):
            sys.exit(f"{path}: rate, channels and bytes a sample are {found}; expected {wanted}")
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768.0
    if settings["normalise_waveform"]:
        samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    count = len(samples) // hop
    samples = np.append(samples[:1], samples[1:] - settings["preemphasis"] * samples[:-1])
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, len(window) // 2), len(window))[::hop][:count]
    features = np.log(np.abs(np.fft.rfft(frames * window)) ** 2 @ filters.T + 2.0**-24)  # [T, F]
    if settings["normalise"]:
        features = (features - features.mean(axis=0)) / (features.std(axis=0, ddof=1) + 1e-5)
    np.save(path.with_suffix(".npy"), features.astype(np.float32))
