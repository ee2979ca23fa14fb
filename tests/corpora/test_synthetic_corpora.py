"""The built-in corpora: the same bytes from a seed, written as a whole or not at all, and physically plausible."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from kd_asr_slr.corpora import synthetic, synthetic_sign, synthetic_speech
from kd_asr_slr.corpora.build import load_corpus
from kd_asr_slr.corpora.gloss_grammar import CLASSES, GLOSSES, draw_sentences
from kd_asr_slr.corpora.media import read_audio, read_features
from kd_asr_slr.corpora.media_check import check_media
from kd_asr_slr.corpora.sign_synthesis import (
    FACE,
    LEFT_HAND,
    POSE,
    RIGHT_HAND,
    gloss_form,
    make_signer,
    render_sentence,
)
from kd_asr_slr.corpora.speech_synthesis import RATE, _resonators, make_voice, synthesise
from kd_asr_slr.errors import UserError

SPEECH = {"speakers": 2, "words": 3, "takes": {"train": 2, "dev": 1, "test": 1}}
SIGN = {"signers": 2, "sentences": {"train": 4, "dev": 2, "test": 2}}
SMALL = [("synthetic_speech", SPEECH), ("synthetic_sign", SIGN)]


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(("corpus", "options"), SMALL)
def test_the_same_bytes_in_another_folder_and_process(tmp_path: Path, corpus: str, options: dict) -> None:
    load_corpus(corpus, options=options, cache_dir=tmp_path / "here")
    program = "import sys; from kd_asr_slr.corpora.build import load_corpus; "
    program += f"load_corpus({corpus!r}, options={options!r}, cache_dir=sys.argv[1])"
    root = Path(synthetic.__file__).parents[2]
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "there")], check=True, env=environment)
    here, there = hashes(tmp_path / "here"), hashes(tmp_path / "there")
    assert here == there and len(here) >= 10
    load_corpus(corpus, options={**options, "seed": 1}, cache_dir=tmp_path / "other")
    media = {value for name, value in hashes(tmp_path / "other").items() if "/media/" in name}
    assert media and media.isdisjoint(here.values())


@pytest.mark.parametrize(("corpus", "options"), SMALL)
def test_every_file_passes_the_check(tmp_path: Path, corpus: str, options: dict) -> None:
    loaded = load_corpus(corpus, options=options, cache_dir=tmp_path)
    assert list(loaded) == ["train", "dev", "test"]
    summary = check_media(loaded)
    assert summary.files == sum(split.num_rows for split in loaded.values())
    assert loaded["train"][0]["speaker"].startswith(f"{corpus}/")
    renamed = load_corpus(corpus, options=options, cache_dir=tmp_path, name="demo")
    assert renamed["train"][0]["speaker"].startswith("demo/")


def test_more_speakers_and_takes_leave_the_others_as_they_were(tmp_path: Path) -> None:
    load_corpus("synthetic_speech", options=SPEECH, cache_dir=tmp_path / "small")
    more = {"speakers": 3, "words": 4, "takes": {"train": 3, "dev": 1, "test": 1}}
    load_corpus("synthetic_speech", options=more, cache_dir=tmp_path / "large")
    small = {Path(name).name: value for name, value in hashes(tmp_path / "small").items() if name.endswith(".wav")}
    large = {Path(name).name: value for name, value in hashes(tmp_path / "large").items() if name.endswith(".wav")}
    assert len(small) == 24 and small.items() <= large.items()


def make_folder(folder: Path, text: str = "x", fail: bool = False) -> Path:
    def write(target: Path) -> None:
        (target / "media" / "a.txt").write_text(text)
        if fail:
            raise KeyboardInterrupt
        (target / "manifest.csv").write_text("id\n")

    return synthetic.finished_folder(folder, {"version": 1, "range": (0.0, 1.0)}, write)


def test_a_finished_folder_is_used_again_and_a_damaged_one_made_anew(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "corpus")
    assert make_folder(folder, text="y") == folder
    assert (folder / "media" / "a.txt").read_text() == "x"
    (folder / "media" / "a.txt").unlink()
    make_folder(folder, text="z")
    assert (folder / "media" / "a.txt").read_text() == "z"
    (folder / "corpus.json").unlink()
    make_folder(folder, text="again")
    assert (folder / "media" / "a.txt").read_text() == "again"
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_an_interrupted_folder_does_not_appear(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_folder(tmp_path / "corpus", fail=True)
    assert list(tmp_path.iterdir()) == []


def test_the_rest_of_a_killed_process_is_ignored(tmp_path: Path) -> None:
    leftover = tmp_path / ".corpus.1.partial" / "media"
    leftover.mkdir(parents=True)
    assert make_folder(tmp_path / "corpus").is_dir()
    assert leftover.is_dir()  # it may still be at work
    os.utime(leftover.parent, (0, 0))
    (tmp_path / "corpus" / "manifest.csv").unlink()
    make_folder(tmp_path / "corpus")
    assert not leftover.exists()


def test_other_peoples_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="something else"):
        make_folder(tmp_path / "corpus")
    assert (tmp_path / "corpus" / "thesis.tex").exists()


def test_two_processes_at_once_leave_one_whole_folder(tmp_path: Path) -> None:
    program = "import sys; from kd_asr_slr.corpora.build import load_corpus; "
    program += f"print(load_corpus('synthetic_speech', options={SPEECH!r}, cache_dir=sys.argv[1])['train'].num_rows)"
    environment = {**os.environ, "PYTHONPATH": str(Path(synthetic.__file__).parents[2])}
    command = [sys.executable, "-c", program, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in running] == [b"12", b"12"]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("corpus", "options", "parts"),
    [
        ("synthetic_speech", {"speekers": 3, "foo": 1}, ["'speekers' (did you mean 'speakers'?)", "'foo'", "known"]),
        ("synthetic_speech", {"speakers": 0, "difficulty": 2}, ["'speakers' is 0", "'difficulty' is 2"]),
        ("synthetic_speech", {"words": 41}, ["from 2 to 40"]),
        ("synthetic_speech", {"takes": {"train": 3}}, ["each of train, dev and test"]),
        ("synthetic_speech", {"takes": {"train": 0, "dev": 1, "test": 1}}, ["not 0 for train"]),
        ("synthetic_speech", {"severity": [0.9, 0.1]}, ["lowest first"]),
        ("synthetic_speech", {"severity": 0.5}, ["two numbers"]),
        ("synthetic_speech", {"seed": "1"}, ["'seed' is '1'"]),
        ("synthetic_speech", {"difficulty": float("nan")}, ["'difficulty' is nan"]),
        ("synthetic_sign", {"signers": True, "frames_per_gloss": 1}, ["'signers' is True", "'frames_per_gloss' is 1"]),
    ],
)
def test_bad_options(tmp_path: Path, corpus: str, options: dict, parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load_corpus(corpus, options=options, cache_dir=tmp_path)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_resonators_are_those_of_scipy() -> None:
    centres, bandwidths = np.array([[700.0, 1200.0, 2600.0]]), np.array([80.0, 100.0, 140.0])
    response = _resonators(centres, bandwidths)[0]
    expected = np.ones(len(response), dtype=complex)
    for centre, bandwidth in zip(centres[0], bandwidths, strict=True):
        radius = np.exp(-np.pi * bandwidth / RATE)
        poles = [1.0, -2.0 * radius * np.cos(2.0 * np.pi * centre / RATE), radius**2]
        expected *= scipy.signal.freqz([sum(poles)], poles, worN=len(response), include_nyquist=True)[1]
    np.testing.assert_allclose(response, expected, rtol=1e-9)


def test_a_vowel_has_its_formants_and_pitch() -> None:
    voice = make_voice(0, 0.0, np.random.default_rng(3))
    take = synthesise("AAA", voice, 0.0, np.random.default_rng(0))
    assert np.abs(take).max() <= 1.0
    middle = take[len(take) // 2 - 1600 : len(take) // 2 + 1600]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(3200), 16000)) ** 2  # 1 Hz a bin
    power = np.convolve(spectrum, np.ones(200) / 200, mode="same")  # wider than the pitch
    first = 400 + np.argmax(power[400:1000])
    assert first == pytest.approx(750.0 * voice.tract * voice.accent["A"][0], rel=0.15)
    autocorrelation = np.correlate(middle, middle, mode="full")[len(middle) - 1 :]
    lag = 60 + np.argmax(autocorrelation[60:250])
    assert RATE / lag == pytest.approx(voice.pitch, rel=0.2)


def test_severity_slows_and_is_in_the_manifest(tmp_path: Path) -> None:
    def seconds(severity: float) -> float:
        options = {**SPEECH, "severity": [severity, severity]}
        corpus = load_corpus("synthetic_speech", options=options, cache_dir=tmp_path)
        assert set(corpus["train"]["severity"]) == {severity}
        return sum(len(read_audio(path)) for path in corpus["train"]["audio"]) / RATE

    assert seconds(0.9) > 1.3 * seconds(0.0)


def test_eight_speakers_spread_over_the_severities() -> None:
    options = synthetic_speech.SpeechOptions()
    voices = [synthetic_speech.make_speaker(index, options)[1] for index in range(8)]
    severities = sorted(voice.severity for voice in voices)
    assert severities[0] < 0.15 and severities[-1] > 0.75 and np.diff(severities).max() < 0.25
    assert len({round(voice.pitch) for voice in voices}) == 8 and len({voice.tract for voice in voices}) == 8


def test_layout_of_a_sentence() -> None:
    signer = make_signer(1, np.random.default_rng(0))
    landmarks = render_sentence(["RAIN", "NORTH", "STRONG"], 40, signer, np.random.default_rng(1), difficulty=0.0)
    assert landmarks.shape == (40, 543, 3) and np.isfinite(landmarks).all()
    shoulders = landmarks[:, POSE][:, 11] - landmarks[:, POSE][:, 12]
    np.testing.assert_allclose(np.linalg.norm(shoulders, axis=-1), signer.shoulders, rtol=0.1)
    assert (shoulders[:, 0] > 0).all()  # the signer's left is at larger x
    nose, face = landmarks[:, POSE][:, 0], landmarks[:, FACE]
    assert (nose[:, 1] < landmarks[:, POSE][:, 11, 1]).all()  # y points down
    assert (np.abs(face.mean(axis=1) - nose)[:, :2] < 0.1).all()
    for hand, wrist in ((LEFT_HAND, 15), (RIGHT_HAND, 16)):
        seen = (landmarks[:, hand] != 0.0).any(axis=(1, 2))
        distance = landmarks[seen][:, hand][:, 0] - landmarks[seen][:, POSE][:, wrist]
        assert seen.any() and np.abs(distance).max() < 0.02
    # the longest finger, straight or bent, is never longer than the hand
    tips = np.linalg.norm(landmarks[:, RIGHT_HAND] - landmarks[:, RIGHT_HAND][:, :1], axis=-1).max()
    assert tips < 1.2 * signer.hand * signer.shoulders


def test_missing_hands_are_zeros_and_grow_with_difficulty() -> None:
    def share(difficulty: float) -> float:
        signer, missing = make_signer(0, np.random.default_rng(0)), []
        for number in range(10):
            rendered = render_sentence(
                ["A", "B", "C"], 60, signer, np.random.default_rng(number), difficulty=difficulty
            )
            right = rendered[:, RIGHT_HAND]
            absent = (right == 0.0).all(axis=(1, 2))
            assert ((right != 0.0).all(axis=(1, 2)) == ~absent).all()  # a hand is there or not, never half
            assert (rendered[:, POSE] != 0.0).all()
            missing.append(absent.mean())
        return float(np.mean(missing))

    assert 0.0 < share(0.1) < share(1.0) < 0.6


def test_any_gloss_and_any_length_can_be_rendered() -> None:
    signer = make_signer(2, np.random.default_rng(0))
    glosses = ["ICH", "WETTER-VORAUS", "__ON__", "loc-NORD", "ÜBER"]
    for frames in (5, 16, 301):
        assert len(render_sentence(glosses, frames, signer, np.random.default_rng(0))) == frames
    free = render_sentence(glosses, None, signer, np.random.default_rng(0), frames_per_gloss=12)
    assert 40 <= len(free) <= 90
    with pytest.raises(ValueError, match="5 glosses do not fit into 4 frames"):
        render_sentence(glosses, 4, signer, np.random.default_rng(0))


def test_hands_move_smoothly_between_glosses() -> None:
    signer = make_signer(0, np.random.default_rng(0))
    wrist = render_sentence(list(GLOSSES[:6]), 72, signer, np.random.default_rng(0), difficulty=0.0)[:, 16, :2]
    assert np.linalg.norm(np.diff(wrist, axis=0), axis=-1).max() < 0.7 * signer.shoulders


def test_no_two_glosses_of_the_corpus_are_signed_alike() -> None:
    assert 20 <= len(GLOSSES) <= 30
    assert len({gloss_form(gloss) for gloss in GLOSSES}) == len(GLOSSES)


def test_a_bigram_learns_the_grammar() -> None:
    sentences = draw_sentences(700, synthetic.item_rng("grammar"))
    assert all(3 <= len(sentence) <= 8 for sentence in sentences)
    assert len({tuple(sentence) for sentence in sentences}) == 700
    train, test = sentences[:600], sentences[600:]
    unigrams = Counter(gloss for sentence in train for gloss in sentence)
    bigrams = Counter(pair for sentence in train for pair in zip(sentence, sentence[1:], strict=False))
    before = Counter(first for first, _ in bigrams.elements())
    pairs = [pair for sentence in test for pair in zip(sentence, sentence[1:], strict=False)]

    def perplexity(probability: list[float]) -> float:
        return float(np.exp(-np.mean(np.log(probability))))

    total = sum(unigrams.values())
    single = [unigrams[gloss] / total for _, gloss in pairs]
    double = [
        0.9 * bigrams[first, second] / max(before[first], 1) + 0.1 * unigrams[second] / total for first, second in pairs
    ]
    assert perplexity(double) < 0.5 * perplexity(single)
    assert set(unigrams) == {gloss for members in CLASSES.values() for gloss in members}


def test_signers_take_turns_and_landmarks_are_read_back(tmp_path: Path) -> None:
    corpus = load_corpus("synthetic_sign", options=SIGN, cache_dir=tmp_path)
    assert Counter(corpus["train"]["signer"]) == {"signer01": 2, "signer02": 2}
    row = corpus["test"][0]
    assert read_features(row["features"]).shape == (row["frames"], 543 * 3)
    options = synthetic_sign.SignOptions(**SIGN)
    sentences = {sentence.id: " ".join(sentence.glosses) for sentence in synthetic_sign.make_sentences(options)}
    assert sentences[row["id"]] == row["text"]
