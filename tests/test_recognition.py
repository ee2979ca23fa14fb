"""`kd_asr_slr.recognise` on known spikes, with times computed by hand; and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import kd_asr_slr
from kd_asr_slr import recognition
from kd_asr_slr.corpora.trimming import heard_part
from kd_asr_slr.errors import UserError
from kd_asr_slr.models.auto import build_model
from kd_asr_slr.outputs import CTCOutput
from kd_asr_slr.processing.auto import load_processor
from kd_asr_slr.processing.sign import SignFeatureExtractor, SignProcessor
from kd_asr_slr.processing.speech import SpeechFeatureExtractor, SpeechProcessor
from kd_asr_slr.processing.tokenization import LabelTokenizer
from kd_asr_slr.recognition import Recogniser, Recognition, Word, recogniser
from kd_asr_slr.recognition.results import Clock, read_text

RATE, STRIDE, HOP = 8000, 4, 0.02  # an output frame every 0.08 s
SIZE = {"hidden_size": 4, "num_layers": 1, "stride": STRIDE}


def saved(folder: Path, processor: SpeechProcessor | SignProcessor) -> Path:
    sizes = {"input_size": processor.feature_size, "vocab_size": len(processor.tokens), "pad_token_id": 0}
    torch.manual_seed(0)
    build_model("bilstm", SIZE, **sizes).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained speech model of characters."""
    extractor = SpeechFeatureExtractor(feature_size=8, sampling_rate=RATE, hop_seconds=HOP)
    tokenizer = LabelTokenizer(token_sequence=["<blank>", "|", "A", "B"], kind="characters")
    return saved(tmp_path_factory.mktemp("speech"), SpeechProcessor(extractor, tokenizer))


def sign_model(folder: Path, frame_seconds: float) -> Path:
    """An untrained sign model of three values a frame."""
    extractor = SignFeatureExtractor("raw", frame_seconds=frame_seconds)
    extractor.fit([np.random.default_rng(0).standard_normal((20, 3))])
    return saved(folder, SignProcessor(extractor, LabelTokenizer.from_texts(["REGEN SONNE"])))


@pytest.fixture(scope="module")
def sign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of unknown frame rate."""
    return sign_model(tmp_path_factory.mktemp("sign"), 1.0)


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(round(seconds * RATE)).astype(np.float32) * 0.1


def spikes(path: list[int], classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every network say this path, whatever it is given; the frames must be as many as its own."""

    def run_ctc(model, batch):
        frames = int(model.output_lengths(batch["attention_mask"].sum(-1))[0])
        assert frames == len(path)
        padded = torch.nn.functional.one_hot(torch.tensor([[*path, 2, 3][: frames + 2]]) % classes, classes)
        return CTCOutput(logits=padded.float(), logit_lengths=torch.tensor([frames]))

    monkeypatch.setattr(recogniser, "run_ctc", run_ctc)


def test_times_of_speech(speech: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spikes([0, 2, 2, 0, 3, 1, 0, 2], 4, monkeypatch)  # 0.6 s: 31 input frames, 8 output frames
    found = kd_asr_slr.recognise(noise(0.6), model=speech, sampling_rate=RATE)
    first = Word("AB", 0.08, 0.4, (0.08, 0.4))
    last = Word("A", 0.56, 0.6, (0.56, 0.6))  # the last frame reaches to 0.64 s
    assert found == Recognition("AB A", (first, last), "seconds", 0.6)


def test_times_of_sign_are_frames_and_seconds_where_the_rate_is_known(
    sign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spikes([1, 0, 2], 3, monkeypatch)
    frames = np.random.default_rng(1).standard_normal((10, 3))
    words = [Word("REGEN", 0, 4, None), Word("SONNE", 8, 10, None)]
    assert kd_asr_slr.recognise(frames, model=sign) == Recognition("REGEN SONNE", tuple(words), "frames", 10)
    at_25 = kd_asr_slr.recognise(frames, model=sign, sampling_rate=25)
    assert [word.seconds for word in at_25.words] == [(0.0, 0.16), (0.32, 0.4)]
    known = sign_model(tmp_path, 0.05)
    assert [word.seconds for word in kd_asr_slr.recognise(frames, model=known).words] == [(0.0, 0.2), (0.4, 0.5)]


def test_nothing_said_is_no_word(speech: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spikes([0, 1, 0, 1, 0, 0, 0, 0], 4, monkeypatch)
    found = Recogniser(speech)(noise(0.6), RATE)
    assert (found.text, found.words) == ("", ())


def test_times_are_those_of_the_whole_recording_where_a_run_trims(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waveform = np.r_[np.zeros(RATE), noise(0.6), np.zeros(RATE)].astype(np.float32)
    for file in speech.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "resolved_config.yaml").write_text("trim_silence_db: 40.0\n")
    heard = heard_part(waveform, RATE, 40.0)
    assert 0 < RATE - heard.start <= 0.02 * RATE  # up to half a window before the first sample
    frames = ((heard.stop - heard.start) // round(HOP * RATE) + 1 + STRIDE - 1) // STRIDE
    spikes([2] + [0] * (frames - 1), 4, monkeypatch)
    found = Recogniser(tmp_path)(waveform, RATE)
    assert found.words[0].start == pytest.approx(heard.start / RATE, abs=1e-4)
    assert found.words[0].end == pytest.approx(heard.start / RATE + 0.08, abs=1e-4)
    assert found.duration == 2.6


def test_files_and_arrays_are_one(speech: Path, sign: Path, tmp_path: Path) -> None:
    """Real outputs of untrained networks, whose weights are made to say something."""
    recogniser = Recogniser(speech)
    recogniser.model.head.weight.data *= 50
    waveform = noise(1.0)
    for suffix in ("flac", "ogg", "wav"):
        soundfile.write(tmp_path / f"a.{suffix}", waveform, RATE)
    stored, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    found = recogniser(tmp_path / "a.wav")
    assert found == recogniser(stored, RATE) == recogniser(tmp_path / "a.flac") and found.words
    assert recogniser(tmp_path / "a.ogg").duration == 1.0
    assert " ".join(word.text for word in found.words) == found.text
    assert recogniser(np.repeat(stored, 2), 2 * RATE).duration == 1.0  # resampled
    signs = Recogniser(sign)
    signs.model.head.weight.data *= 50
    frames = np.random.default_rng(2).standard_normal((30, 3)).astype(np.float32)
    np.save(tmp_path / "b.npy", frames)
    np.savez(tmp_path / "b.npz", features=frames)
    assert signs(tmp_path / "b.npy") == signs(tmp_path / "b.npz") == signs(frames)
    assert signs(frames).words


@pytest.mark.parametrize(
    ("media", "rate", "parts"),
    [
        ("nowhere.wav", None, "nowhere.wav: the file does not exist"),
        ("speech.txt", None, "unknown suffix '.txt'"),
        ("frames.npy", None, "frames.npy is frame features and"),
        (np.zeros((5, 3)), None, "the array is frame features and"),
        (noise(0.5), None, "a waveform without its sampling rate"),
        (noise(0.5), -1, "the sampling rate is -1"),
        ("tone.wav", RATE, "beside a file that has its own"),
        (np.zeros(0, dtype=np.float32), RATE, "empty|samples|shape"),
        (np.full(4000, np.nan, dtype=np.float32), RATE, "NaN|finite"),
    ],
)
def test_what_a_speech_model_cannot_take(
    media: str | np.ndarray, rate: float | None, parts: str, speech: Path, tmp_path: Path
) -> None:
    (tmp_path / "speech.txt").write_text("hello")
    np.save(tmp_path / "frames.npy", np.random.default_rng(0).standard_normal((5, 3)))
    soundfile.write(tmp_path / "tone.wav", noise(0.5), RATE)
    given = tmp_path / media if isinstance(media, str) else media
    with pytest.raises(UserError, match=parts):
        kd_asr_slr.recognise(given, model=speech, sampling_rate=rate)


def test_what_else_is_refused(speech: Path, sign: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "tone.wav", noise(0.5), RATE)
    with pytest.raises(UserError, match="tone.wav is audio and .* takes frame features"):
        kd_asr_slr.recognise(tmp_path / "tone.wav", model=sign)
    with pytest.raises(UserError, match=r"\(3, 2\)|2 values|width"):
        kd_asr_slr.recognise(np.ones((3, 2)), model=sign)
    with pytest.raises(UserError, match="there is no model folder"):
        kd_asr_slr.recognise(tmp_path / "tone.wav", model=tmp_path / "nowhere")
    with pytest.raises(UserError, match="has no config.json"):
        kd_asr_slr.recognise(tmp_path / "tone.wav", model=tmp_path)
    with pytest.raises(UserError, match=r"2 problems\n.*a.wav.*does not exist.*\n.*b.npz.*does not exist"):
        Recogniser(speech).check([tmp_path / "a.wav", tmp_path / "tone.wav", tmp_path / "b.npz"])


def test_a_recording_too_short_for_an_output_frame(speech: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recognise = Recogniser(speech)
    monkeypatch.setattr(recogniser, "lengths_after", lambda model, lengths: lengths // 1000)
    with pytest.raises(UserError, match="the array: 80 samples are too short for"):
        recognise(noise(0.01), RATE)


def test_the_name_is_there_and_no_other() -> None:
    assert kd_asr_slr.recognise is recognition.recognise
    with pytest.raises(AttributeError, match="has no attribute 'recognize'"):
        _ = kd_asr_slr.recognize


def test_words_of_any_text_lie_where_ctc_would_say_them(speech: Path) -> None:
    """By hand: of three frames the first says A best, the last B; with fewer frames than labels nothing has a time."""
    processor = load_processor(str(speech))
    log_probs = np.log(np.array([[0.1, 0.1, 0.7, 0.1], [0.6, 0.2, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7]]))
    clock = Clock("seconds", 0.08, 0.0, 0.24, 0.24, 1.0)
    found = read_text("AB", log_probs, processor, clock)
    assert found == Recognition("AB", (Word("AB", 0.0, 0.24, (0.0, 0.24)),), "seconds", 0.24)
    assert read_text("A B", log_probs, processor, clock).words == (
        Word("A", 0.0, 0.08, (0.0, 0.08)), Word("B", 0.16, 0.24, (0.16, 0.24)),
    )  # fmt: skip
    assert read_text("ABAB", log_probs, processor, clock).words == ()
    assert read_text("", log_probs, processor, clock) == Recognition("", (), "seconds", 0.24)


def test_a_setting_that_no_decoder_has_is_refused(speech: Path) -> None:
    with pytest.raises(UserError, match="a decoder has no setting beam; expected some of decoder, lm"):
        Recogniser(speech, beam=10)
