"""Reading one recording or one feature file.

Every reader refuses what would otherwise turn into a silent error later: files that are missing, empty or cut off,
headers that declare another size than the file has, values that are not finite, recordings without any sound.
Pickled objects are never loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kd_asr_slr.corpora.arrays import array_shape, load_array
from kd_asr_slr.corpora.pose_files import SUFFIX as POSE_SUFFIX
from kd_asr_slr.corpora.pose_files import load_pose
from kd_asr_slr.corpora.riff import check_riff
from kd_asr_slr.corpora.schema import SUFFIXES
from kd_asr_slr.errors import UserError

_ENDS = 1 << 16


@dataclass(frozen=True)
class MediaHeader:
    """What a file's header says.

    Attributes:
        length: samples of a recording, frames of a feature file.
        rate: samples a second of a recording; None for features.
        width: values a frame of a feature file; None for a recording.
    """

    length: int
    rate: int | None = None
    width: int | None = None


def read_audio(path: str | Path, sampling_rate: int = 16000) -> np.ndarray:
    """Read a recording: channels mixed, resampled.

    Args:
        path: a .wav, .flac or .ogg file.
        sampling_rate: samples a second wanted.

    Returns:
        float32 [S], in -1 .. 1 for integer files.

    Raises:
        UserError: if the file is missing, empty, cut off, no audio, not finite or silent.

    Example:
        >>> waveform = read_audio("digit.wav", sampling_rate=16000)
    """
    import soundfile

    path = _existing(path)
    declared, _ = _check_audio_header(path)
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)  # [S, channels]
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    if len(samples) != declared:
        raise UserError(f"{path}: the header declares {declared} samples but {len(samples)} can be read", fix=_REPLACE)
    waveform = samples.mean(axis=1, dtype=np.float32)  # [S]
    _check_values(path, waveform, "sample")
    return waveform if rate == sampling_rate else resampled(path, waveform, rate, sampling_rate)


def resampled(what: str | Path, waveform: np.ndarray, rate: float, wanted: int) -> np.ndarray:
    """A waveform at another rate.

    Args:
        what: its name in messages.
        waveform: float32 [S].
        rate: samples a second that it has.
        wanted: samples a second wanted.

    Raises:
        UserError: if it is too short for a single sample.
    """
    import soxr

    found = soxr.resample(waveform, rate, wanted)
    if len(found) == 0:
        raise UserError(f"{what}: {len(waveform)} samples at {rate:g} Hz are too short to resample", fix=_REPLACE)
    return found.astype(np.float32, copy=False)


def read_features(path: str | Path) -> np.ndarray:
    """Read the features of one utterance.

    Args:
        path: a .npy file, or a .npz file with the array under `features` or with one array only; [T, F], or
            landmarks [T, P, C] (points, coordinates), which are flattened to [T, P * C]. Or a .pose file, whose
            missing points become 0.

    Returns:
        float32 [T, F].

    Raises:
        UserError: if the file is missing, empty, cut off, no such array, not finite, or if all its values are equal.

    Example:
        >>> landmarks = read_features("sentence.npy")
    """
    path = _existing(path)
    array = load_pose(path) if path.suffix.lower() == POSE_SUFFIX else load_array(path)
    _check_shape(path, array.shape)
    with np.errstate(over="ignore"):  # an overflow becomes infinite and is reported as such
        features = np.array(array.reshape(len(array), -1), dtype=np.float32, order="C")  # [T, F]
    _check_values(path, features, "frame")
    return features


def read_header(path: str | Path) -> MediaHeader:
    """Read the length (and rate or width) of a file without its values, with every check that needs no values.

    Raises:
        UserError: if the file is missing, empty, cut off, or not what its suffix says.
    """
    path = _existing(path)
    if _kind(path) == "audio":
        length, rate = _check_audio_header(path)
        return MediaHeader(length=length, rate=rate)
    shape = load_pose(path).shape if path.suffix.lower() == POSE_SUFFIX else array_shape(path)
    _check_shape(path, shape)
    return MediaHeader(length=shape[0], width=int(np.prod(shape[1:])))


_REPLACE = "copy the file again from its source, or take its row out of the manifest"


def _kind(path: Path) -> str:
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"{path}: unknown suffix '{path.suffix}'", expected=f"one of {' '.join(SUFFIXES)}")
    return kind


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path}: the file {found}", fix="check the path and the corpus root")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror})", fix="check the file's rights") from error
    if size == 0:
        raise UserError(f"{path}: the file has 0 bytes", fix=_REPLACE)
    return path


def _check_audio_header(path: Path) -> tuple[int, int]:
    """Samples and rate as declared, after a check of the declared sizes against the file's."""
    import soundfile

    if path.suffix.lower() == ".wav":
        check_riff(path)
    try:
        info = soundfile.info(path)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    if info.frames == 0:
        raise UserError(f"{path}: the recording has 0 samples", fix=_REPLACE)
    return info.frames, info.samplerate


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = str(error).rsplit(": ", 1)[-1].rstrip(".")
    return UserError(f"{path}: cannot be read as {path.suffix.lower()[1:]} audio ({reason})", fix=_REPLACE)


def _check_shape(path: Path, shape: tuple[int, ...]) -> None:
    if len(shape) not in (2, 3):
        raise UserError(
            f"{path}: the array has {len(shape)} dimensions, shape {shape}",
            expected="[frames, values] or [frames, points, coordinates]",
        )
    if shape[0] == 0:
        raise UserError(f"{path}: the array has 0 frames, shape {shape}", fix=_REPLACE)
    if 0 in shape:
        raise UserError(f"{path}: the array has no values in a frame, shape {shape}", fix=_REPLACE)


def _check_values(path: Path, values: np.ndarray, unit: str) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        bad = np.argwhere(~finite)
        raise UserError(
            f"{path}: {len(bad)} of {values.size} values are not finite (NaN or infinite), first at {unit} {bad[0][0]}",
            fix="make the file again, or take its row out of the manifest",
        )
    if values.size > 1 and values.min() == values.max():
        raise UserError(
            f"{path}: silent, all {values.size} values are {values.flat[0]:g}",
            fix="record or extract it again, or take its row out of the manifest",
        )


def content_fingerprint(paths: Iterable[str]) -> str:
    """Name files by their content, in their order: size, first and last 64 KiB of each, which copies do not change.

    Args:
        paths: of readable files.

    Returns:
        sha256 in hexadecimal.
    """
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            digest.update(f"{size}:".encode())
            for start in sorted({0, max(0, size - _ENDS)}):
                file.seek(start)
                digest.update(file.read(_ENDS))
    return digest.hexdigest()
