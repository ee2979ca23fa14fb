"""Reading recordings and features; every kind of damaged file is refused with one sentence that names it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from datasets import Dataset, DatasetDict

from kd_asr_slr.corpora.media import read_audio, read_features, read_header
from kd_asr_slr.corpora.media_check import check_media
from kd_asr_slr.errors import UserError

RATE = 16000
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE // 4) / RATE)


def corpus_of(paths: list[Path], column: str) -> DatasetDict:
    rows = [
        {"id": str(number), "split": "train", "speaker": "c/s", "text": "X", column: str(path)}
        for number, path in enumerate(paths)
    ]
    return DatasetDict({"train": Dataset.from_list(rows)})


def wav(path: Path, samples: np.ndarray = TONE, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, samples, RATE, subtype=subtype)
    return path


def patched(path: Path, offset: int, value: int) -> Path:
    content = bytearray(path.read_bytes())
    content[offset : offset + 4] = struct.pack("<I", value)
    path.write_bytes(content)
    return path


def test_real_digits_are_doubled_in_length_and_keep_their_spectrum(shared_data: Path) -> None:
    files = sorted((shared_data / "fsdd" / "recordings").glob("*_[0-4].wav"))[::20]
    assert len(files) >= 5
    for file in files:
        original, rate = soundfile.read(file)
        assert rate == 8000
        resampled = read_audio(file, 16000)
        assert resampled.dtype == np.float32 and resampled.ndim == 1
        assert len(resampled) == 2 * len(original)
        assert np.mean(resampled**2) == pytest.approx(np.mean(original**2), rel=0.03)
        low = np.abs(np.fft.rfft(original))
        high = np.abs(np.fft.rfft(resampled)) / 2
        passband = slice(0, int(0.8 * len(low)))  # up to 3.2 kHz, clear of the resampler's edge
        assert np.linalg.norm(high[passband] - low[passband]) < 0.02 * np.linalg.norm(low[passband])
        assert np.linalg.norm(high[len(low) + 50 :]) < 0.01 * np.linalg.norm(high)  # nothing above 4 kHz
        np.testing.assert_array_equal(read_audio(file, 8000), original.astype(np.float32))


def test_every_real_digit_passes(shared_data: Path) -> None:
    files = sorted((shared_data / "fsdd" / "recordings").glob("*.wav"))
    summary = check_media(corpus_of(files, "audio"))
    assert summary.files == len(files) == 2000
    assert summary.seconds == pytest.approx(sum(soundfile.info(file).duration for file in files))


def test_channels_are_mixed_and_flac_and_ogg_are_read(tmp_path: Path) -> None:
    stereo = np.stack([TONE, 0.5 * TONE], axis=1)
    np.testing.assert_allclose(read_audio(wav(tmp_path / "stereo.wav", stereo)), 0.75 * TONE, atol=1e-4)
    for name in ("a.flac", "a.ogg"):
        soundfile.write(tmp_path / name, TONE, RATE)
        assert len(read_audio(tmp_path / name)) == len(TONE)
    np.testing.assert_allclose(read_audio(tmp_path / "a.flac"), TONE, atol=1e-4)


def test_a_wav_with_further_chunks_is_read(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav")
    content = path.read_bytes() + b"LIST" + struct.pack("<I", 4) + b"INFO"
    path.write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:])
    assert len(read_audio(path)) == len(TONE)


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-1000])
    return path


def zero_bytes(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def other_bytes(path: Path) -> Path:
    path.write_bytes(b"this is a text, not a recording" * 10)
    return path


def with_nan(value: float) -> Callable[[Path], Path]:
    return lambda path: wav(path, np.where(np.arange(len(TONE)) == 7, value, TONE), "FLOAT")


BAD_AUDIO: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing.wav": (lambda path: path, "does not exist"),
    "zero_bytes.wav": (zero_bytes, "0 bytes"),
    "no_samples.wav": (lambda path: wav(path, TONE[:0]), "0 samples"),
    "cut.wav": (lambda path: cut(wav(path)), "'data' chunk declares 8000 bytes but 7000 follow"),
    "claims_more.wav": (lambda path: patched(wav(path), 40, 9000), "declares 9000 bytes but 8000 follow"),
    "claims_less.wav": (lambda path: patched(wav(path), 40, 6000), "2000 bytes stand after the end"),
    "claims_nothing.wav": (lambda path: patched(wav(path), 40, 0), "8000 bytes stand after the end"),
    "claims_all.wav": (lambda path: patched(wav(path), 40, 0xFFFFFFFF), "declares 4294967295 bytes"),
    "riff_more.wav": (lambda path: patched(wav(path), 4, 99999), "declares 100007 bytes but the file has 8044"),
    "header_only.wav": (lambda path: path.write_bytes(wav(path).read_bytes()[:20]) and path, "'fmt' chunk declares"),
    "text.wav": (other_bytes, "cannot be read as wav audio"),
    "text.flac": (other_bytes, "cannot be read as flac audio"),
    "nan.wav": (with_nan(np.nan), "1 of 4000 values are not finite (NaN or infinite), first at sample 7"),
    "inf.wav": (with_nan(np.inf), "not finite"),
    "silent.wav": (lambda path: wav(path, np.zeros(4000)), "silent"),
    "constant.wav": (lambda path: wav(path, np.full(4000, 0.25)), "silent, all 4000 values are 0.25"),
    "opposite.wav": (lambda path: wav(path, np.stack([TONE, -TONE], axis=1), "FLOAT"), "silent"),
}


@pytest.mark.parametrize("name", BAD_AUDIO)
def test_damaged_audio(tmp_path: Path, name: str) -> None:
    damage, part = BAD_AUDIO[name]
    path = damage(tmp_path / name)
    with pytest.raises(UserError) as caught:
        read_audio(path)
    assert name in str(caught.value) and part in str(caught.value)


def test_all_damaged_audio_at_once(tmp_path: Path) -> None:
    paths = [damage(tmp_path / name) for name, (damage, _) in BAD_AUDIO.items()]
    corpus = corpus_of([wav(tmp_path / "good.wav"), *paths], "audio")
    with pytest.raises(UserError) as caught:
        check_media(corpus)
    text = str(caught.value)
    assert f"checked {len(paths) + 1} files, {len(paths)} cannot be used" in text
    assert all(name in text for name in BAD_AUDIO) and "good.wav" not in text
    with pytest.raises(UserError, match="and 12 more"):
        check_media(corpus, max_listed=len(paths) - 12)
    with pytest.raises(UserError) as caught:
        check_media(corpus, level="headers")
    assert "cut.wav" in str(caught.value) and "silent.wav" not in str(caught.value)


def test_features_of_both_kinds(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float16)
    np.save(tmp_path / "a.npy", frames)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(frames[:, :, 0].astype(np.float64)))
    np.savez(tmp_path / "key.npz", gloss=np.array(["A"], dtype=object), features=frames[:, :, 0])
    np.savez_compressed(tmp_path / "only.npz", anything=frames)
    read = read_features(tmp_path / "a.npy")
    assert read.dtype == np.float32 and read.shape == (5, 12) and read.flags.writeable
    np.testing.assert_array_equal(read, frames.reshape(5, 12).astype(np.float32))
    np.testing.assert_array_equal(read_features(tmp_path / "fortran.npy"), frames[:, :, 0].astype(np.float32))
    np.testing.assert_array_equal(read_features(tmp_path / "key.npz"), frames[:, :, 0].astype(np.float32))
    np.testing.assert_array_equal(read_features(tmp_path / "only.npz"), read)
    assert read_header(tmp_path / "only.npz").length == 5 and read_header(tmp_path / "only.npz").width == 12


GOOD = np.arange(40.0, dtype=np.float32).reshape(10, 4)


def npy(array: np.ndarray) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        np.save(path, array)
        return path

    return write


def npz(**arrays: np.ndarray) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        np.savez(path, **arrays)
        return path

    return write


def longer(path: Path) -> Path:
    path.write_bytes(npy(GOOD)(path).read_bytes() + b"\0" * 16)
    return path


def shorter(path: Path) -> Path:
    path.write_bytes(npy(GOOD)(path).read_bytes()[:-16])
    return path


def flipped(path: Path) -> Path:
    content = bytearray(npz(features=GOOD)(path).read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)
    return path


OBJECTS = np.array([[{"a": 1}, None]], dtype=object)
BAD_FEATURES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing.npy": (lambda path: path, "does not exist"),
    "zero_bytes.npz": (zero_bytes, "0 bytes"),
    "text.npy": (other_bytes, "not a numpy array"),
    "text.npz": (other_bytes, "cannot be read as .npz"),
    "several.npz": (npz(a=GOOD, b=GOOD), "2 arrays (a, b) and none is called 'features'"),
    "pickled.npy": (npy(OBJECTS), "pickled"),
    "pickled.npz": (npz(features=OBJECTS), "pickled"),
    "texts.npy": (npy(np.array([["a", "b"]])), "<U1"),
    "one_dimension.npy": (npy(GOOD[0]), "1 dimensions"),
    "four_dimensions.npy": (npy(GOOD[None, None]), "4 dimensions"),
    "no_frames.npy": (npy(GOOD[:0]), "0 frames"),
    "no_width.npy": (npy(GOOD[:, :0]), "no values"),
    "nan.npy": (npy(np.where(GOOD == 9.0, np.nan, GOOD)), "first at frame 2"),
    "inf.npz": (npz(features=np.where(GOOD == 9.0, np.inf, GOOD)), "not finite"),
    "overflow.npy": (npy(GOOD.astype(np.float64) * 1e300), "not finite"),
    "silent.npy": (npy(np.ones((10, 4))), "silent"),
    "longer.npy": (longer, "declares 160 bytes of values but the file has 176"),
    "shorter.npy": (shorter, "declares 160 bytes of values but the file has 144"),
    "flipped.npz": (flipped, "flipped.npz"),
}


@pytest.mark.parametrize("name", BAD_FEATURES)
def test_damaged_features(tmp_path: Path, name: str) -> None:
    damage, part = BAD_FEATURES[name]
    path = damage(tmp_path / name)
    with pytest.raises(UserError) as caught:
        read_features(path)
    assert name in str(caught.value) and part in str(caught.value)


def test_all_damaged_features_and_odd_widths_at_once(tmp_path: Path) -> None:
    good = [npy(GOOD)(tmp_path / f"good{number}.npy") for number in range(3)]
    odd = npy(GOOD[:, :3])(tmp_path / "odd.npy")
    bad = [damage(tmp_path / name) for name, (damage, _) in BAD_FEATURES.items()]
    with pytest.raises(UserError) as caught:
        check_media(corpus_of([*good, odd, *bad], "features"), max_listed=100)
    text = str(caught.value)
    assert f"{len(bad) + 1} cannot be used" in text
    assert "odd.npy: 3 values a frame" in text and all(name in text for name in BAD_FEATURES)
    assert "good0.npy" not in text
    assert check_media(corpus_of(good, "features")).width == 4
