"""Tuning and using beam search weights, and language models of a run, through the recipes themselves."""

from __future__ import annotations

import csv
import json
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kd_asr_slr.arguments import DataArguments, DistillationArguments, ModelArguments
from kd_asr_slr.command_line import resolved
from kd_asr_slr.decoding.pool import Weights
from kd_asr_slr.errors import UserError
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.scoring.alignment import UtteranceCounts
from kd_asr_slr.tool_arguments import ScoreArguments
from kd_asr_slr.training.data import load_data
from kd_asr_slr.training.student import build_processor, build_student
from kd_asr_slr.training.tuning import FILE, Tuned, grid_of, read_decoding, settle

WORDS = ["NORD", "REGEN", "SUED", "WIND"]
SENTENCES = {
    "train": ["REGEN NORD", "REGEN SUED", "WIND NORD", "REGEN NORD WIND"] * 2,
    "dev": ["REGEN NORD", "WIND SUED NORD", "REGEN WIND", "NORD REGEN"],
    "test": ["REGEN SUED", "WIND NORD"],
}
GRID = ["--lm_weights", "0", "0.5", "2", "--word_scores", "-1", "0", "2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A finished run of an untrained network: its outputs are spread widely, so every weight matters."""
    folder = tmp_path_factory.mktemp("tuning")
    rng = np.random.default_rng(0)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "path", "text", "speaker", "split"])
        for split, sentences in SENTENCES.items():
            for number, text in enumerate(sentences):
                np.savez(folder / f"{split}{number}.npz", features=rng.normal(size=(12, 4)).astype(np.float32))
                writer.writerow([f"{split}{number}", f"{split}{number}.npz", text, f"s{number % 2}", split])
    data = DataArguments(manifest=str(folder / "manifest.csv"), normaliser="glosses", media_check="none")
    options = ModelArguments(model_options={"hidden_size": 8, "num_layers": 1})
    processor = build_processor(options, data, load_data(data))
    student = build_student(options, processor, seed=0)
    run = RunFolder(folder / "run")
    run.claim(resolved(data, options, DistillationArguments(output_dir=str(run.path), use_cpu=True)))
    student.save_pretrained(run.path)
    processor.save_pretrained(run.path)
    run.write_results(model_type="bilstm_ctc", parameters=1, bytes=1, corpus="weather", teachers=[], seed=0)
    run.finish()
    return folder


@pytest.fixture
def recipe(repository: Path, monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """(name, arguments) -> exit code, stdout, stderr of a recipe."""

    def run(name: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(str(repository / "recipes" / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def run(made, recipe) -> Path:
    """The run, not tuned, with a language model beside it."""
    (made / "run" / FILE).unlink(missing_ok=True)
    if not (made / "lm.arpa").exists():
        code, _, errors = recipe("estimate_lm", "--run", made / "run", "--order", 2, "--output", made / "lm.arpa")
        assert code == 0, errors
    return made / "run"


def last_score(run: Path, split: str) -> dict:
    return next(score for score in RunFolder(run).read_results()["scores"][::-1] if score["split"] == split)


def test_tuned_weights_are_used_for_test(run, recipe):
    lm = run.parent / "lm.arpa"
    code, output, errors = recipe("score", "--run", run, "--lm", lm, "--tune", "true", *GRID)
    assert code == 0, errors
    record = json.loads((run / FILE).read_text())
    assert (record["split"], record["lm"], record["beam_width"], record["utterances"]) == ("dev", str(lm), 10, 4)
    assert len(record["table"]) == 9
    best = min(record["table"], key=lambda point: (point["wer"], point["lm_weight"], abs(point["word_score"])))
    assert (record["lm_weight"], record["word_score"], record["wer"]) == tuple(
        best[name] for name in ("lm_weight", "word_score", "wer")
    )
    assert len({point["wer"] for point in record["table"]}) > 2
    dev = last_score(run, "dev")
    assert dev["wer"] == record["wer"]
    assert dev["search"] == {name: record[name] for name in ("beam_width", "lm_weight", "word_score")}
    assert f"chosen (*): lm_weight {record['lm_weight']:g}, word_score {record['word_score']:g}" in output

    code, output, _ = recipe("score", "--run", run, "--decoder", "beam")
    assert code == 0
    assert (
        f"weight {record['lm_weight']:g}, word score {record['word_score']:g}; tuned on dev (decoding.json)" in output
    )
    assert last_score(run, "test")["search"] == dev["search"]
    assert last_score(run, "test")["lm"] == str(lm)


def test_every_point_of_the_table_is_what_scoring_with_it_gives(run, recipe):
    lm = run.parent / "lm.arpa"
    assert recipe("score", "--run", run, "--lm", lm, "--tune", "true", *GRID)[0] == 0
    for point in json.loads((run / FILE).read_text())["table"][::2]:
        weights = ["--lm_weight", point["lm_weight"], "--word_score", point["word_score"]]
        code, output, _ = recipe("score", "--run", run, "--decoder", "beam", "--split", "dev", *weights)
        assert code == 0
        assert "tuned on dev (decoding.json), but lm_weight and word_score as given" in output
        found = last_score(run, "dev")
        assert {name: found[name] for name in ("wer", "substitutions", "deletions", "insertions")} == {
            name: point[name] for name in ("wer", "substitutions", "deletions", "insertions")
        }
    zero = next(point for point in json.loads((run / FILE).read_text())["table"] if tuple(point.values())[:2] == (0, 0))
    assert recipe("score", "--run", run, "--decoder", "beam", "--split", "dev", "--lm", "none")[0] == 0
    assert last_score(run, "dev")["wer"] == zero["wer"]  # weight 0 is no language model
    assert last_score(run, "dev")["lm"] is None


@pytest.mark.slow
def test_nemos_search_scores_a_run(run, recipe):
    lm = str(run.parent / "lm.arpa")
    arguments = ["--run", run, "--decoder", "beam", "--split", "dev", "--lm", lm, "--beam_engine", "nemo"]
    code, output, errors = recipe("score", *arguments)
    assert (code, errors) == (0, "") and "beam  WER" in output
    searches = [score["search"] for score in RunFolder(run).read_results()["scores"] if score["lm"] == lm]
    assert {"beam_width": 10, "lm_weight": 0.5, "word_score": 0.0, "beam_engine": "nemo"} in searches
    lines = (run / "predictions-dev-beam.jsonl").read_text().splitlines()
    assert len(lines) == 4 and {word for line in lines for word in json.loads(line)["hypothesis"].split()} <= set(WORDS)


@pytest.mark.slow
def test_two_processes_give_the_same_table(run, recipe):
    arguments = ["--run", run, "--lm", run.parent / "lm.arpa", "--tune", "true", *GRID]
    assert recipe("score", *arguments, "--decode_processes", 1)[0] == 0
    alone = (run / FILE).read_bytes()
    assert recipe("score", *arguments, "--decode_processes", 2)[0] == 0
    assert (run / FILE).read_bytes() == alone


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "test"], "tuning on split 'test'; expected the split the run was tuned on .'dev'."),
        (["--split", "train"], "tuning on split 'train'"),
        (["--lm_weight", "1"], "lm_weight is what tune chooses; set --lm_weights instead"),
        (["--lm_weights", "-1"], "lm_weights has -1.0; expected 0 or more"),
        (["--manifest", "other.csv"], "tune works on the run's own dev split"),
        (["--decoder", "attention"], "leave out --decoder attention"),
        (["--lm", "none"], "nothing to weigh without a language model"),
        (["--lm", "missing.arpa"], "'missing.arpa' does not exist"),
    ],
)
def test_what_tuning_refuses(run, recipe, arguments, message):
    before = sorted(path.name for path in run.iterdir())
    if "--lm" not in arguments:
        arguments = ["--lm", str(run.parent / "lm.arpa"), *arguments]
    code, output, errors = recipe("score", "--run", run, "--tune", "true", *arguments)
    assert (code, output) == (2, "")
    assert re.search(message, errors), errors
    assert sorted(path.name for path in run.iterdir()) == before


def test_dev_that_is_test_cannot_be_tuned_on(tmp_path):
    data = DataArguments(manifest="m.csv", dev_split="test")
    with pytest.raises(UserError, match="tuning on split 'test'.*apart from its test split"):
        settle(ScoreArguments(run="r", tune=True, lm="lm.arpa"), tmp_path, data)


def test_a_language_model_of_another_vocabulary(run, recipe, tmp_path):
    (tmp_path / "text.txt").write_text("EINS ZWEI\nDREI\n")
    lm = tmp_path / "lm.arpa"
    assert recipe("estimate_lm", "--text", tmp_path / "text.txt", "--order", 2, "--output", lm)[0] == 0
    code, _, errors = recipe("score", "--run", run, "--lm", lm, "--tune", "true")
    assert code == 2
    assert "0 of 4 labels are words of the language model" in errors
    refused = tmp_path / "refused.arpa"  # although the labels would be added to it
    code, _, errors = recipe("estimate_lm", "--run", run, "--text", tmp_path / "text.txt", "--output", refused)
    assert code == 2
    assert "0 of 4 labels" in errors
    assert not refused.exists()


def test_settling(run, recipe, tmp_path):
    """What is given wins, then what was tuned, then the defaults; another model or a changed one is not passed over."""
    data, given = DataArguments(manifest="m.csv"), ScoreArguments(run=str(run), decoder="beam")
    settled, sentence = settle(given, run, data)
    assert (settled.split, settled.lm, settled.beam_width, settled.lm_weight) == ("test", None, 10, 0.5)
    assert sentence == "beam search: width 10, no language model"

    lm = tmp_path / "lm.arpa"
    lm.write_bytes((run.parent / "lm.arpa").read_bytes())
    assert recipe("score", "--run", run, "--lm", lm, "--tune", "true", "--lm_weights", 2, "--word_scores", 3)[0] == 0
    settled, _ = settle(given, run, data)
    assert (settled.lm, settled.lm_weight, settled.word_score) == (str(lm), 2.0, 3.0)
    copied, _ = settle(ScoreArguments(run="r", decoder="beam", lm=str(run.parent / "lm.arpa")), run, data)
    assert (copied.lm, copied.lm_weight) == (str(run.parent / "lm.arpa"), 2.0)  # the same by content
    greedy, sentence = settle(ScoreArguments(run="r"), run, data)
    assert (greedy.lm, sentence) == (None, "")

    (tmp_path / "other.arpa").write_text("another")
    other, sentence = settle(ScoreArguments(run="r", decoder="beam", lm=str(tmp_path / "other.arpa")), run, data)
    assert (other.lm_weight, other.word_score) == (0.5, 0.0)
    assert f"decoding.json was tuned for {lm} and is not used" in sentence
    lm.write_text("changed")
    with pytest.raises(UserError, match="lm.arpa' that decoding.json was tuned for has changed since"):
        settle(given, run, data)
    lm.unlink()
    with pytest.raises(UserError, match="does not exist.*--lm FILE, tune again"):
        settle(given, run, data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "has schema 'list'; expected schema 1"),
        ('{"schema": 2}', "has schema 2"),
        ('{"schema": 1, "split": "dev", "lm": 3}', "lm is 3; expected str(.|\n)*lm_weight is None; expected float"),
    ],
)
def test_a_broken_file(tmp_path, content, message):
    assert read_decoding(tmp_path) is None
    (tmp_path / FILE).write_text(content)
    with pytest.raises(UserError, match=message):
        read_decoding(tmp_path)


def test_table_and_edges():
    grid = grid_of(ScoreArguments(run="r", lm_weights=[0.5, 0.0, 0.5, 1.0], word_scores=[0.0, 1.0]))
    assert len(grid) == 6
    counts = {point: UtteranceCounts(number + 1, 0, 0, 99 - number) for number, point in enumerate(grid)}
    tuned = Tuned(grid[0], [], counts)
    assert tuned.table().splitlines() == [
        "WER %                weight 0   weight 0.5     weight 1",
        "word score 0            1.00*        3.00         5.00 ",
        "word score 1            2.00         4.00         6.00 ",
    ]
    assert tuned.edges() == ["the best word_score, 0, is at the edge of those tried; try more with --word_scores"]
    assert "lm_weight, 1, is at the edge" in Tuned(Weights(1.0, 0.0), [], counts).edges()[0]


def test_language_model_of_a_run(run, recipe, tmp_path):
    lm = tmp_path / "new" / "lm.arpa"
    code, output, _ = recipe("estimate_lm", "--run", run, "--output", lm)
    assert code == 0
    assert f"{lm}: 8 sentences, 18 words, 4 different" in output
    assert "labels: all 4 labels of the run are in the text" in output
    assert "over 4 sentences (9 known words + 4 sentence ends)" in output
    (tmp_path / "text.txt").write_text(" REGEN   NORD\n\nHAGEL\n")
    (tmp_path / "dev.txt").write_text("REGEN HAGEL\nEIS\n")
    arguments = ["--text", tmp_path / "text.txt", "--dev_text", tmp_path / "dev.txt", "--order", 2, "--output", lm]
    code, output, _ = recipe("estimate_lm", "--run", run, *arguments)
    assert code == 0
    assert "2 sentences, 3 words, 3 different" in output
    assert "2 of 4 labels are words of the language model" in output
    assert "(2 known words + 2 sentence ends)" in output
    assert all(word in lm.read_text() for word in WORDS)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read"), (b"", "has no words"), (b"\xff\xfe A", "cannot be read")]
)
def test_text_that_cannot_be_used(recipe, tmp_path, content, message):
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    code, _, errors = recipe("estimate_lm", "--text", tmp_path / "text.txt", "--output", tmp_path / "lm.arpa")
    assert code == 2
    assert message in errors
    assert not (tmp_path / "lm.arpa").exists()


def test_every_missing_argument_is_named(recipe):
    code, _, errors = recipe("estimate_lm", "--order", 1)
    assert code == 2
    for problem in ("no sentences are given", "no file to write", "order is 1; expected 2 or more"):
        assert problem in errors
