"""`recipes/recognise.py` and `recipes/stream.py` on trained runs: texts are those that the run was scored by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from recipe_runs import Refuse, done, read_rows, run

from kd_asr_slr.models.auto import build_model
from kd_asr_slr.processing.auto import load_processor
from kd_asr_slr.recognition import Recogniser
from kd_asr_slr.scoring.predictions import read_predictions

pytestmark = pytest.mark.slow


def scored(run_folder: Path, manifest: Path) -> dict[Path, str]:
    """File -> hypothesis of the run's test split."""
    paths = {row["id"]: manifest.parent / row["path"] for row in read_rows(manifest)}
    return {
        paths[row["id"].rsplit("/", 1)[-1]]: row["hypothesis"]
        for row in read_predictions(run_folder / "predictions-test.jsonl")
    }


def recognised(files: list[Path], model: Path, **options: object) -> list[dict]:
    shown = done(run("recognise", *files, "--json", model=model, **options)).out
    return [json.loads(line) for line in shown.splitlines()]


def check_words(found: dict) -> None:
    assert " ".join(word["text"] for word in found["words"]) == found["text"]
    edges = [edge for word in found["words"] for edge in (word["start"], word["end"])]
    assert edges == sorted(edges) and all(0 <= edge <= found["duration"] for edge in edges)


def test_speech(speech_run: Path, speech: Path) -> None:
    expected = scored(speech_run, speech)
    found = recognised(list(expected), speech_run)
    assert [row["text"] for row in found] == list(expected.values())
    assert len({row["text"] for row in found}) > 2
    assert {(row["unit"], row["duration"]) for row in found} == {("seconds", 0.3)}
    for row in found:
        check_words(row)
        assert all(word["seconds"] == [word["start"], word["end"]] for word in row["words"])


def test_sign(feature_run: Path, features: Path) -> None:
    expected = scored(feature_run, features)
    found = recognised(list(expected), feature_run, frame_rate=25)
    assert [row["text"] for row in found] == list(expected.values())
    assert {(row["unit"], row["duration"]) for row in found} == {("frames", 12)}
    assert any(row["text"] for row in found)
    for row in found:
        check_words(row)
        assert all(word["seconds"][0] == pytest.approx(word["start"] / 25) for word in row["words"])


def test_what_is_printed(speech_run: Path, speech: Path) -> None:
    path, text = next((path, text) for path, text in scored(speech_run, speech).items() if text)
    lines = done(run("recognise", path, model=speech_run)).out.splitlines()
    assert lines[0] == f"{path}: {text}"
    assert len(lines) == 1 + len(text.split()) and lines[1].endswith(f" s  {text.split()[0]}")


def test_what_is_refused(refuse: Refuse, speech_run: Path, speech: Path, features: Path, tmp_path: Path) -> None:
    wav, npz = (manifest.parent / read_rows(manifest)[0]["path"] for manifest in (speech, features))
    refuse("recognise", "2 problems", "gone.wav", "takes recordings", words=(tmp_path / "gone.wav", wav, npz),
           model=speech_run)  # fmt: skip
    refuse("recognise", "there is no model folder", words=(wav,), model=tmp_path / "nowhere")
    refuse("recognise", "beside a file that has its own", words=(wav,), model=speech_run, frame_rate=25)
    assert run("recognise", wav).code == 2


def streamed(path: Path, model: Path, **options: object) -> tuple[str, list[str], str]:
    """The first line, the partial texts and the final one."""
    first, *partial, final = done(run("stream", path, model=model, **options)).out.splitlines()
    return first, [line.split(maxsplit=2)[2] for line in partial], final.removeprefix("final: ")


def test_a_window_over_the_whole_file(speech_run: Path, speech: Path, feature_run: Path, features: Path) -> None:
    for folder, manifest in ((speech_run, speech), (feature_run, features)):
        for path, text in list(scored(folder, manifest).items())[:4]:
            first, partial, final = streamed(path, folder, chunk=100, left=0, right=0)
            assert "windows" in first and final == text
            assert partial == []  # nothing is known before its end


def test_a_network_that_reads_ahead_only(feature_run: Path, features: Path, tmp_path: Path) -> None:
    processor = load_processor(feature_run)
    torch.manual_seed(1)
    sizes = {"input_size": processor.feature_size, "vocab_size": len(processor.tokens), "pad_token_id": 0}
    model = build_model("bilstm", {"hidden_size": 8, "num_layers": 1, "stride": 2, "bidirectional": False}, **sizes)
    model.head.weight.data *= 30  # an untrained network is sure of nothing
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    whole, several = Recogniser(tmp_path), 0
    for path in list(scored(feature_run, features))[:4]:
        first, partial, final = streamed(path, tmp_path, chunk=1)
        assert "ends at the text of the whole file" in first
        assert final == whole(path).text
        assert all(final.startswith(text) for text in partial)
        several += len(partial) > 1
    assert several


def test_what_stream_refuses(refuse: Refuse, speech_run: Path, features: Path, tmp_path: Path) -> None:
    npz = features.parent / read_rows(features)[0]["path"]
    refuse("stream", "takes recordings", words=(npz,), model=speech_run)
    refuse("stream", "does not exist", words=(tmp_path / "gone.wav",), model=speech_run)
    assert run("stream", npz, model=speech_run, chunk=0).code == 2
