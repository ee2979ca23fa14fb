"""Processors beside a model: bit-for-bit round trips, fresh processes, Auto classes, processors of transformers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    ParakeetFeatureExtractor,
    ParakeetProcessor,
    ParakeetTokenizer,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)

from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.auto import load_processor
from kd_asr_slr.processing.foreign import ForeignProcessor, wrap_processor
from kd_asr_slr.processing.sign import SignFeatureExtractor, SignProcessor
from kd_asr_slr.processing.speech import SpeechFeatureExtractor, SpeechProcessor
from kd_asr_slr.processing.tokenization import LabelTokenizer

FRESH_PROCESS = """
import sys
import numpy as np
import kd_asr_slr.processing.auto
from transformers import AutoFeatureExtractor, AutoProcessor, AutoTokenizer
for folder in sys.argv[1:]:
    processor = AutoProcessor.from_pretrained(folder)
    media = np.load(folder + "/media.npy")
    assert np.array_equal(processor.extract(media), np.load(folder + "/expected.npy")), folder
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    assert extractor.fingerprint == processor.fingerprint
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.tokens == processor.tokens
    print(type(processor).__name__, processor.fingerprint, tokenizer.fingerprint, tokenizer.encode_labels("B A"))
"""


def labels(**options: object) -> LabelTokenizer:
    return LabelTokenizer.from_texts(["A B", "C"], **options)


def waveform(samples: int = 4000) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)


def frames(width: int = 1629) -> np.ndarray:
    return np.random.default_rng(1).uniform(0.1, 0.9, (9, width)).astype(np.float32)


def processors() -> dict[str, tuple[SpeechProcessor | SignProcessor, np.ndarray]]:
    return {
        "log_mel": (
            SpeechProcessor(SpeechFeatureExtractor(feature_size=40), labels(decoder_specials=True)),
            waveform(),
        ),
        "waveform": (SpeechProcessor(SpeechFeatureExtractor(kind="waveform"), labels(kind="characters")), waveform()),
        "landmarks": (SignProcessor(SignFeatureExtractor(subset="all", velocity="both"), labels()), frames()),
        "raw": (SignProcessor(SignFeatureExtractor(layout="raw"), labels()).fit([frames(7) / 3]), frames(7)),
    }


@pytest.mark.parametrize("name", ["log_mel", "waveform", "landmarks", "raw"])
def test_saved_and_loaded_bit_for_bit(name: str, tmp_path: Path) -> None:
    processor, media = processors()[name]
    processor.save_pretrained(tmp_path)
    for loaded in (load_processor(tmp_path), type(processor).from_pretrained(tmp_path)):
        assert type(loaded) is type(processor)
        assert np.array_equal(loaded.extract(media), processor.extract(media))
        for attribute in ("fingerprint", "tokens", "blank_id", "input_name", "feature_size", "frame_seconds"):
            assert getattr(loaded, attribute) == getattr(processor, attribute), attribute
    loaded.save_pretrained(tmp_path / "again")
    for file in ("processor_config.json", "vocab.json"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / file).read_bytes()


def test_a_fresh_process_reads_them_through_the_auto_classes(tmp_path: Path, repository: Path) -> None:
    expected, folders = [], []
    for name, (processor, media) in processors().items():
        if name == "waveform":
            continue  # its labels are characters
        folder = tmp_path / name
        processor.save_pretrained(folder)
        np.save(folder / "media.npy", media)
        np.save(folder / "expected.npy", processor.extract(media))
        ids = processor.encode_labels("B A")
        expected.append(f"{type(processor).__name__} {processor.fingerprint} {processor.tokenizer.fingerprint} {ids}")
        folders.append(str(folder))
    environment = {**os.environ, "PYTHONPATH": str(repository), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", FRESH_PROCESS, *folders]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == expected


def test_the_auto_classes_also_work_beside_a_model_of_transformers(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "wav2vec2"}))
    processor, _ = processors()["waveform"]
    processor.save_pretrained(tmp_path)
    assert isinstance(AutoTokenizer.from_pretrained(tmp_path), LabelTokenizer)
    assert isinstance(AutoProcessor.from_pretrained(tmp_path), SpeechProcessor)


def test_called_as_processors_of_transformers_are() -> None:
    processor, _ = processors()["log_mel"]
    batch = processor([waveform(), waveform(800)], text=["A", "B C"], sampling_rate=16000, return_tensors="pt")
    assert batch["input_features"].shape == (2, 26, 40)
    assert batch["attention_mask"].sum(-1).tolist() == [26, 6]
    assert batch["labels"] == [[3], [4, 5]]


def wav2vec2(folder: Path, normalise: bool = True) -> Wav2Vec2Processor:
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5, "L": 6}
    path = folder / "wav2vec2_vocab.json"
    path.write_text(json.dumps(vocabulary))
    extractor = Wav2Vec2FeatureExtractor(do_normalize=normalise, return_attention_mask=False)
    return Wav2Vec2Processor(extractor, Wav2Vec2CTCTokenizer(str(path)))


def test_a_wav2vec2_processor_wrapped(tmp_path: Path) -> None:
    own = wav2vec2(tmp_path)
    processor = wrap_processor(own)
    assert (processor.input_name, processor.feature_size, processor.frame_seconds) == ("input_values", 1, 1 / 16000)
    assert (processor.tokens[:5], processor.blank_id) == (["<pad>", "<s>", "</s>", "<unk>", "|"], 0)
    assert processor.encode_labels("ALL A") == [5, 6, 6, 4, 5]
    assert processor.decode_labels([5, 6, 6, 4, 5]) == "ALL A"  # the repeat is no repeat of frames
    with pytest.raises(UserError, match="outside the vocabulary of 7 tokens: 'B'"):
        processor.encode_labels("AB")
    assert processor.encode_labels("AB", unknown="drop") == [5]
    expected = own(waveform(), sampling_rate=16000, return_tensors="np")["input_values"][0]
    assert np.array_equal(processor.extract(waveform()), expected)
    processor.save_pretrained(tmp_path / "saved")
    loaded = load_processor(tmp_path / "saved")
    assert isinstance(loaded, ForeignProcessor)
    assert (loaded.fingerprint, loaded.tokens) == (processor.fingerprint, processor.tokens)
    assert wrap_processor(wav2vec2(tmp_path, normalise=False)).fingerprint != processor.fingerprint
    assert wrap_processor(loaded) is loaded


def fast_tokenizer() -> ParakeetTokenizer:
    backend = Tokenizer(WordLevel({"A": 0, "B": 1, "<unk>": 2, "<pad>": 3}, unk_token="<unk>"))
    backend.pre_tokenizer = Whitespace()
    return ParakeetTokenizer(tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>")


def test_a_parakeet_processor_wrapped() -> None:
    processor = wrap_processor(ParakeetProcessor(ParakeetFeatureExtractor(feature_size=16), fast_tokenizer()))
    assert (processor.input_name, processor.feature_size, processor.frame_seconds) == ("input_features", 16, 0.01)
    assert (processor.tokens, processor.blank_id) == (["A", "B", "<unk>", "<pad>"], 3)
    assert processor.encode_labels("B B A") == [1, 1, 0]
    assert processor.decode_labels([1, 1, 3, 0]) == "B B A"
    assert processor.extract(waveform()).shape == (25, 16)  # valid frames only


def test_features_of_two_stacked_frames() -> None:
    class Pair:
        feature_extractor = SeamlessM4TFeatureExtractor()
        tokenizer = fast_tokenizer()

    processor = wrap_processor(Pair())
    features = processor.extract(waveform(8000))
    assert features.shape[1] == processor.feature_size == 160
    assert len(features) == pytest.approx(0.5 / processor.frame_seconds, abs=1.5)


def test_what_is_no_processor(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a LabelTokenizer; expected a processor"):
        wrap_processor(labels())
    with pytest.raises(UserError, match="no processor in"):
        load_processor(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no processor in"):
        load_processor(tmp_path / "empty")
