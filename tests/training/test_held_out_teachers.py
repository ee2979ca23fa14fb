"""A held-out speaker's own teacher: refused, unless a debug run asks for it; and trimming, heard by everyone alike."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from tiny_runs import parsed

from kd_asr_slr.arguments import DataArguments
from kd_asr_slr.command_line import parse
from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.auto import load_processor
from kd_asr_slr.training.data import load_data, media_fingerprint, media_reader
from kd_asr_slr.training.teaching import build_pool


def build(speech: Path, folder: Path, specialists: list[str], **options: object) -> object:
    held = {"split_policy": "held_out_speaker", "held_out_speakers": ["s02"]}
    run = parsed(data_dir=speech, output_dir=folder, teachers=specialists, **held, **options)
    processor = load_processor(specialists[0].partition("=")[2])
    return build_pool(run.teaching, processor, load_data(run.data), run.data.held_out_speakers)


def test_a_held_out_speaker_teaches_only_when_asked_for(
    speech: Path, specialists: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UserError, match=r"s02, who is held out.*--held_out_as_teacher true"):
        build(speech, tmp_path, specialists)
    with caplog.at_level(logging.WARNING):
        pool = build(speech, tmp_path, specialists, held_out_as_teacher=True)
    assert len(pool.everyone) == 2
    (warning,) = [record.message for record in caplog.records if "held_out_as_teacher" in record.message]
    assert "s02" in warning and "NOT one on an unseen speaker" in warning


def test_trimming_is_part_of_what_is_heard(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(np.arange(4000) / 3)
    path = tmp_path / "ann" / "a.wav"
    path.parent.mkdir()
    soundfile.write(path, np.concatenate([np.zeros(8000), tone, np.zeros(8000)]), 16000)
    processor, row = SimpleNamespace(sampling_rate=16000), {"audio": str(path)}
    assert media_reader(processor)(row).shape == (20000,)
    assert 4000 <= len(media_reader(processor, 40.0)(row)) < 4800
    for name in "bc":
        (path.parent / f"{name}.wav").write_bytes(path.read_bytes())
    (path.parent / "transcripts.tsv").write_text("file\ttext\na.wav\tA\nb.wav\tB\nc.wav\tC\n")
    data = DataArguments(corpus="speaker_folders", data_dir=str(tmp_path))
    corpus = load_data(data)
    whole, trimmed = (
        media_fingerprint(corpus["train"], corpus, DataArguments(trim_silence_db=level)) for level in (None, 40.0)
    )
    assert whole != trimmed and trimmed.startswith(whole)  # targets cached untrimmed are refused


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--trim_silence_db", "-3"], "trim_silence_db is -3.0; expected more than 0"),
        (["--split_policy", "blocks"], "needs --train_blocks NAME"),
        (["--train_blocks", "B1"], "train_blocks is given but not used; set --split_policy blocks"),
        (["--test_share", "1"], "test_share is 1.0; expected more than 0 and less than 1"),
        (["--split_policy", "block"], "split_policy is 'block'; expected one of as_given, held_out_speaker, blocks"),
    ],
)
def test_data_arguments(words: list[str], part: str) -> None:
    with pytest.raises(UserError) as caught:
        parse([DataArguments], ["--corpus", "uaspeech", "--data_dir", "x", *words])
    assert part in str(caught.value)
