"""`recipes/recognise.py` and `recipes/stream.py` on trained runs: texts are those that the run was scored by."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from recipe_runs import WORDS, Refuse, done, read_rows, run

from kd_asr_slr.models.auto import build_model
from kd_asr_slr.processing.auto import load_processor
from kd_asr_slr.recognition import Recogniser
from kd_asr_slr.scoring.predictions import read_predictions

pytestmark = pytest.mark.slow


def scored(run_folder: Path, manifest: Path, decoder: str = "") -> dict[Path, str]:
    """File -> hypothesis of the run's test split, by the best path or by a decoder ("-beam")."""
    paths = {row["id"]: manifest.parent / row["path"] for row in read_rows(manifest)}
    return {
        paths[row["id"].rsplit("/", 1)[-1]]: row["hypothesis"]
        for row in read_predictions(run_folder / f"predictions-test{decoder}.jsonl")
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


def test_every_decoder_of_a_hybrid(hybrid_run: Path, speech: Path, tmp_path: Path) -> None:
    """Alone, the recordings have the texts that the run is scored by in batches, and the words lie within them."""
    model = Path(shutil.copytree(hybrid_run, tmp_path / "hybrid"))
    done(run("estimate_lm", run=model, order=2, output=tmp_path / "words.arpa"))
    (tmp_path / "words.txt").write_text("\n".join(WORDS[:3]))
    for options in (
        {"decoder": "attention"},
        {"decoder": "joint", "beam_width": 4},
        {"decoder": "closed", "word_list": tmp_path / "words.txt"},
        {"decoder": "beam", "lm": tmp_path / "words.arpa", "lm_weight": 0.3},
    ):
        done(run("score", run=model, **options))
        expected = scored(model, speech, f"-{options['decoder']}")
        found = recognised(list(expected), model, **options)
        assert [row["text"] for row in found] == list(expected.values())
        assert len({row["text"] for row in found}) > 2
        for row in found:
            check_words(row)


def test_a_search_is_the_one_that_was_tuned(speech_run: Path, speech: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(speech_run, tmp_path / "run"))
    done(run("estimate_lm", run=model, order=2, output=tmp_path / "words.arpa"))
    done(run("score", run=model, lm=tmp_path / "words.arpa", tune=True))
    file = next(iter(scored(model, speech)))
    result = done(run("recognise", file, model=model, decoder="beam"))
    assert "beam search: width 10" in result.err and "tuned on dev (decoding.json)" in result.err
    assert len(result.out.splitlines()) == 2


def test_decoders_that_cannot_be(refuse: Refuse, speech_run: Path, speech: Path) -> None:
    file = next(iter(scored(speech_run, speech)))
    for options, message in (
        ({"decoder": "attention"}, "has no attention decoder"),
        ({"decoder": "closed", "word_list": "nowhere.txt"}, "nowhere.txt"),
        ({"lm": "words.arpa"}, "set --decoder beam"),
        ({"decoder": "best"}, "decoder is 'best'"),
    ):
        refuse("recognise", message, words=(file,), model=speech_run, **options)


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
