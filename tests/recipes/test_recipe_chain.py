"""The whole chain through the recipes, on real files: train, cache, distil, score, compare."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from recipe_runs import (
    CORPUS,
    ENTRY,
    FEATURE_OPTIONS,
    LEARNER,
    REPOSITORY,
    SPEAKERS,
    TAKES,
    TRAINING,
    WORDS,
    distillation,
    done,
    read_rows,
    run,
    snapshot,
    tone,
    write_rows,
    write_wav,
)
from safetensors.torch import load_file
from transformers import AutoModelForCTC, AutoProcessor

from kd_asr_slr.models.auto import register_models

TESTED = TAKES["test"] * len(SPEAKERS) * len(WORDS)
TRAINED = TAKES["train"] * len(SPEAKERS) * len(WORDS)
FILES = ("config.json", "model.safetensors", "processor_config.json", "tokenizer_config.json", "vocab.json") + (
    "resolved_config.yaml", "results.json", "predictions-dev.jsonl", "predictions-test.jsonl", "run.json", "README.md",
    "training_curves.png", "training_curves.pdf", "history.json",
)  # fmt: skip


def results_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def predictions_of(folder: Path, name: str = "test") -> list[dict[str, str]]:
    lines = (folder / f"predictions-{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def check_run_folder(folder: Path, recipe: str, corpus: str, teachers: list[str]) -> None:
    """A finished run folder holds everything DESIGN.md names, and its numbers follow from its predictions."""
    for name in FILES:
        assert (folder / name).stat().st_size > 0, name
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    assert not list(folder.rglob("*.tmp")) and not list(folder.glob("projections*"))
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"
    results = results_of(folder)
    assert set(results) - {"aggregation", "training", "vocabulary", "diagnostics"} == {
        "schema", "name", "recipe", "model", "corpus", "teachers", "seed", "scores"
    }  # fmt: skip
    assert (results["schema"], results["name"], results["recipe"]) == (1, folder.name, recipe)
    assert (results["corpus"], results["seed"]) == (corpus, 42)
    weights = load_file(folder / "model.safetensors")
    assert results["model"] == {
        "type": "bilstm_ctc",
        "parameters": sum(value.numel() for value in weights.values()),
        "bytes": (folder / "model.safetensors").stat().st_size,
    }
    assert [teacher["name"] for teacher in results["teachers"]] == teachers
    for entry in results["scores"]:
        check_entry(folder, entry, corpus)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n") and yaml.safe_load(card.split("---")[1])
    assert folder.name in card and f"{100 * results['scores'][-1]['wer']:.2f}" in card
    config = yaml.safe_load((folder / "resolved_config.yaml").read_text(encoding="utf-8"))
    assert config["learning_rate"] == float(TRAINING["learning_rate"])


def check_entry(folder: Path, entry: dict[str, Any], corpus: str) -> None:
    """One entry of `scores`, counted again from the predictions (one word an utterance, so without alignment)."""
    assert set(entry) - {"search"} == ENTRY | {"by_seen"}  # a beam also says with which weights
    assert set(entry["by_seen"]) == {"seen"}
    suffix = "" if entry["decoder"] == "greedy" else f"-{entry['decoder']}"
    rows = predictions_of(folder, entry["split"] + suffix)
    expected = {f"{speaker}-{word}-{entry['split']}{take}" for speaker in SPEAKERS for word in WORDS
                for take in range(TAKES[entry["split"]])}  # fmt: skip
    assert {row["id"] for row in rows} == expected and len(rows) == len(expected) == entry["utterances"]
    assert entry["reference_tokens"] == len(rows)
    errors = {"substitutions": 0, "deletions": 0, "insertions": 0}
    for row in rows:
        assert row["reference"] == row["id"].split("-")[1]
        words = row["hypothesis"].split()
        hit = row["reference"] in words
        errors["deletions"] += not words
        errors["substitutions"] += bool(words) and not hit
        errors["insertions"] += max(0, len(words) - 1)
    assert {name: entry[name] for name in errors} == errors
    assert entry["wer"] == pytest.approx(sum(errors.values()) / len(rows), abs=1e-4)
    assert entry["wra"] == pytest.approx(
        sum(row["hypothesis"] == row["reference"] for row in rows) / len(rows), abs=1e-4
    )
    low, high = entry["wer_ci95"]
    assert low <= entry["wer"] <= high
    assert set(entry["by_speaker"]) == {f"{corpus}/{speaker}" for speaker in SPEAKERS}


def test_a_run_on_wavs(speech: Path, speech_run: Path) -> None:
    check_run_folder(speech_run, "train", CORPUS, [])
    assert [(entry["split"], entry["decoder"]) for entry in results_of(speech_run)["scores"]] == [
        ("dev", "greedy"), ("test", "greedy")
    ]  # fmt: skip
    assert results_of(speech_run)["scores"][0]["wer"] < 0.5  # tones are easy: the rest of these tests needs a teacher


def test_a_run_on_features(features: Path, feature_run: Path) -> None:
    check_run_folder(feature_run, "train", features.parent.name, [])
    assert results_of(feature_run)["scores"][0]["wer"] < 0.5


def test_a_run_is_read_by_transformers_alone(speech_run: Path) -> None:
    register_models()
    model = AutoModelForCTC.from_pretrained(speech_run)
    processor = AutoProcessor.from_pretrained(speech_run)
    assert model.config.vocab_size == len(processor.tokenizer.tokens)
    assert processor.tokenizer.tokens == ["<blank>", *sorted(WORDS)]


def test_a_finished_run_is_left_as_it_is(speech: Path, speech_run: Path) -> None:
    before = snapshot(speech_run)
    result = done(run("train", manifest=speech, output_dir=speech_run, **LEARNER))
    assert "finished; nothing to do" in result.out
    assert snapshot(speech_run) == before


def test_media_are_never_written(speech: Path, speech_run: Path, soft_targets: Path) -> None:
    names = {path.name for path in speech.parent.rglob("*") if path.is_file()}
    assert names == {"manifest.csv"} | {f"{row['id']}.wav" for row in read_rows(speech)}


@pytest.mark.parametrize("place", ["absolute", "relative"])
def test_cache_distil_score_compare(
    place: str, speech: Path, speech_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(speech.parent, tmp_path / "corpus")
    shutil.copytree(speech_run, tmp_path / "runs" / "teacher")
    media = snapshot(tmp_path / "corpus")
    monkeypatch.chdir(tmp_path)
    base = tmp_path if place == "absolute" else Path()
    teacher, student, cache = base / "runs/teacher", base / "runs/student", base / "runs/soft-targets"
    options = distillation(base / "corpus/manifest.csv", teacher, student) | {"teacher_cache": cache}

    first = done(run("cache_teachers", **options))
    said = rf"soft targets of {TRAINED} utterances in 1 shards, [\d.]+ \w+; {TRAINED} utterances made now, \S+ a second"
    assert re.search(said, first.out)
    kept = snapshot(cache)
    assert "; 0 utterances made now" in done(run("cache_teachers", **options)).out
    assert snapshot(cache) == kept
    assert not student.exists()

    result = done(run("distill", **options))
    assert re.search(r"loss_ctc_kd \d", result.out) and "temperature 2.000" in result.out
    assert "valid_frame_ratio" in result.out and "eval_wer" in result.out
    check_run_folder(student, "distill", CORPUS, [str(teacher)])
    assert results_of(student)["aggregation"]["name"] == "route"
    before = snapshot(student)
    assert "nothing to do" in done(run("distill", **options)).out
    assert snapshot(student) == before

    done(run("score", run=student, decoder="beam", beam_width=5))
    again = done(run("score", run=student, decoder="beam", beam_width=5))
    assert re.search(r"^student  test  beam  WER \d+\.\d\d %  WRA", again.out, re.M)
    scores = results_of(student)["scores"]
    assert [(entry["split"], entry["decoder"]) for entry in scores] == [
        ("dev", "greedy"), ("test", "greedy"), ("test", "beam")
    ]  # fmt: skip
    check_run_folder(student, "distill", CORPUS, [str(teacher)])

    table = done(run("compare", teacher, student, output=base / "tables" / "runs.csv"))
    assert all(f"{100 * results_of(folder)['scores'][1]['wer']:.2f}" in table.out for folder in (teacher, student))
    with (base / "tables/runs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["recipe"]) for row in rows] == [("generalist", "train"), ("student", "distill")]
    for row, folder in zip(rows, (teacher, student), strict=True):
        stored = {entry["decoder"]: entry["wer"] for entry in results_of(folder)["scores"] if entry["split"] == "test"}
        shown = {name: row[f"{name}/wer"] for name in ("greedy", "beam")}
        assert {name: float(value) for name, value in shown.items() if value} == stored
    tested = done(run("compare", teacher, student, "--baseline", teacher, output=base / "tables" / "runs.tex")).out
    assert "p (matched pairs)" in tested and r"\toprule" in (base / "tables/runs.tex").read_text()
    overview = done(run("compare", "--overview", student, output=base / "tables" / "all.md"))
    assert overview.out.count("student") == 2
    assert (base / "tables/all.md").read_text(encoding="utf-8").strip() == overview.out.strip()

    assert snapshot(tmp_path / "corpus") == media


def test_distilling_from_features_with_a_live_teacher(features: Path, feature_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "student"
    before = snapshot(features.parent, feature_run)
    options = {
        "teachers": [feature_run],
        "vocabulary": feature_run,
        "output_dir": folder,
        **FEATURE_OPTIONS,
        **TRAINING,
    }
    done(run("distill", manifest=features, temperature_milestones={"1": 1.5}, **options))
    check_run_folder(folder, "distill", features.parent.name, [str(feature_run)])
    assert snapshot(features.parent, feature_run) == before


def test_a_resolved_configuration_is_a_configuration(features: Path, feature_run: Path, tmp_path: Path) -> None:
    """What a run wrote down, given to its recipe again, is that run."""
    result = done(run("train", config=feature_run / "resolved_config.yaml"))
    assert "finished; nothing to do" in result.out
    done(run("train", config=feature_run / "resolved_config.yaml", output_dir=tmp_path / "again"))
    one, other = (load_file(folder / "model.safetensors") for folder in (feature_run, tmp_path / "again"))
    assert all(bool((one[name] == other[name]).all()) for name in one)


def test_another_manifest_is_scored(speech_run: Path, tmp_path: Path) -> None:
    """Another speaker, a word that training never saw, files in another folder; the run's own scores stay."""
    folder = tmp_path / "run"
    shutil.copytree(speech_run, folder)
    rows = [
        {"id": f"cleo-{text}", "text": text, "speaker": "cleo", "split": "eval", "path": f"cleo-{text}.wav"}
        for text in ("ONE", "NINE")
    ]
    for row in rows:
        known = {**row, "text": "ONE", "speaker": "anna"}
        write_wav(tmp_path / "media" / row["path"], tone(known))
    manifest = write_rows(tmp_path / "other.csv", rows)
    own = results_of(folder)["scores"]
    options = {"manifest": manifest, "data_dir": tmp_path / "media", "corpus_name": "other", "split": "eval"}
    done(run("score", run=folder, **options))
    scores = results_of(folder)["scores"]
    assert scores[:-1] == own
    assert (scores[-1]["split"], scores[-1]["utterances"]) == ("eval-of-other", 2)
    assert list(scores[-1]["by_speaker"]) == ["other/cleo"]
    assert [row["reference"] for row in predictions_of(folder, "eval-of-other")] == ["ONE", "NINE"]
    assert scores[-1]["wer"] >= 0.5  # a word outside of the vocabulary cannot be right


def test_overwriting_starts_again_and_keeps_what_is_not_its_own(features: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = {"manifest": features, "output_dir": folder, **FEATURE_OPTIONS, **TRAINING}
    done(run("train", **options))
    (folder / "notes.txt").write_text("mine")
    done(run("train", overwrite_output_dir=True, **{**options, "num_train_epochs": 1}))
    assert (folder / "notes.txt").read_text() == "mine"
    assert len(list(folder.glob("checkpoint-*"))) == 1
    assert len(list((folder / "tensorboard").iterdir())) == 1


def test_a_configuration_file_and_the_command_line(features: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        f"manifest: {features}\noutput_dir: {tmp_path}/not-here\nlearning_rate: 1e-3\nuse_cpu: true\n"
        "num_train_epochs: 1\nper_device_train_batch_size: 8\n"
        "model_options: {hidden_size: 8, num_layers: 1, dropout: 0}\n",
        encoding="utf-8",
    )
    done(run("train", config=config, output_dir=tmp_path / "here"))
    assert not (tmp_path / "not-here").exists()
    written = yaml.safe_load((tmp_path / "here" / "resolved_config.yaml").read_text(encoding="utf-8"))
    assert (written["learning_rate"], written["model_options"]["dropout"]) == (1e-3, 0)


def test_speaker_teachers_and_a_held_out_speaker(speech: Path, speech_run: Path, tmp_path: Path) -> None:
    """One speaker's teacher adapted from the generalist, the other speaker held out of everything but the test."""
    held = {"split_policy": "held_out_speaker", "held_out_speakers": ["bert"]}
    teacher = tmp_path / "anna"
    done(
        run("train", manifest=speech, model=speech_run, train_speakers=["anna"], output_dir=teacher, **held, **TRAINING)
    )
    options = distillation(speech, teacher, tmp_path / "student") | {"teachers": [f"anna={teacher}"]}
    done(run("distill", **options, **held))
    (score,) = [entry for entry in results_of(tmp_path / "student")["scores"] if entry["split"] == "test"]
    assert list(score["by_speaker"]) == [f"{CORPUS}/bert"]
    assert score["utterances"] == sum(TAKES.values()) * len(WORDS)
    assert results_of(tmp_path / "student")["teachers"][0]["speakers"] == [f"{CORPUS}/anna"]


def test_the_documented_program_prints_a_table(speech_run: Path) -> None:
    line = [sys.executable, "recipes/compare.py", str(speech_run), "--split", "dev"]
    result = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True)
    assert "generalist" in result.stdout and "split dev" in result.stdout
