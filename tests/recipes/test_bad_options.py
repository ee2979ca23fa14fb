"""Options and teachers that cannot be used: one clear message, exit code 2, nothing half-written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from recipe_runs import (
    CORPUS,
    Refuse,
    change_rows,
)

# -- options of the run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"soft_losses": ["ctc_kdd"]}, ["soft_losses names 'ctc_kdd'", "expected one of ctc_kd"]),
        ({"hard_losses": ["ctc_kd"]}, ["hard_losses names 'ctc_kd'", "expected one of ctc"]),
        ({"frame_selection": "some"}, ["frame_selection is 'some'", "symmetric"]),
        ({"aggregation": "rout"}, ["aggregation", "'rout'", "route"]),
        ({"augmentation": ["noise"]}, ["unknown augmentation 'noise'", "gaussian_noise"]),
        ({"augmentation": ["gain"], "augmentation_options": {"gain": {"loud": 1}}}, ["'gain' has no option 'loud'"]),
        ({"augmentation_options": {"gain": {}}}, ["augmentation_options has gain", "--augmentation"]),
        ({"feature_options": {"mels": 40}}, ["unknown option 'mels'", "feature_size"]),
        ({"feature_options": {"feature_size": 16, "hop_seconds": 0.02, "kind": "cepstrum"}}, ["'cepstrum'", "log_mel"]),
        ({"features": "mfcc"}, ["'mfcc'", "log_mel"]),
        ({"model_options": {"hiden_size": 8}}, ["no option 'hiden_size', did you mean 'hidden_size'"]),
        ({"model_options": {"hidden_size": "wide"}}, ["option 'hidden_size' is 'wide' (str); expected int"]),
        ({"model_options": {"hidden_size": 0}}, ["hidden_size is 0"]),
        ({"model_options": {"stride": 3}}, ["stride is 3"]),
        ({"model": "bilstmm"}, ["there is no model 'bilstmm' (did you mean 'bilstm'?)"]),
        (
            {"model": "runs/none/such", "model_options": None},
            ["there is no model 'runs/none/such'", "train that run first"],
        ),
        ({"model": "none/such", "model_options": None}, ["no processor in 'none/such': no such folder"]),
        ({"normaliser": "word"}, ["unknown text normaliser 'word'", "words"]),
        ({"alpha": 0, "beta": 0, "gamma": 0}, ["none of alpha, beta and gamma is above 0"]),
        ({"alpha": "nan"}, ["alpha is nan"]),
        ({"temperature": 0}, ["temperature"]),
        ({"temperature_milestones": {"one": 2}}, ["one"]),
        ({"gamma": 1, "feature_losses": ["hidden"]}, ["layer_map is empty"]),
        ({"gamma": 1, "feature_losses": ["hidden"], "layer_map": {"9": 0}}, ["layer 9"]),
        ({"gamma": 1, "feature_losses": ["hidden"], "layer_map": {"0": 9}}, ["layer 9"]),
        ({"soft_losses": ["decoder_kd"]}, ["'decoder_kd' needs decoder_log"]),
        ({"hard_losses": ["cross_entropy"]}, ["cross_entropy", "end of sequence"]),
        ({"expected_processes": 2}, ["expects 2 processes and 1 is running", "torchrun --nproc_per_node 2"]),
        ({"corpus": "timit", "data_dir": "x"}, ["unknown corpus 'timit'"]),
        ({"train_speakers": ["carla"]}, ["unknown speaker 'carla'", "anna"]),
        ({"split_policy": "held_out_speaker", "held_out_speakers": ["berd"]}, ["unknown speaker 'berd'", "bert"]),
        ({"split_policy": "held_out_speaker", "held_out_speakers": ["anna", "bert"]}, ["leaves no utterance"]),
    ],
    ids=lambda value: "-".join(f"{key}" for key in value) if isinstance(value, dict) else "",
)
def test_options_that_cannot_be_used(distil: Refuse, options: dict[str, Any], parts: list[str]) -> None:
    distil(*parts, **options)


def test_every_problem_of_the_options_at_once(distil: Refuse, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("alpha: 0.5\nalpha: 0.6\nlearning_rat: 1\n", encoding="utf-8")
    distil(
        "5 problems", "already set on line 1", "did you mean 'learning_rate'", "invalid int value",
        "media_check is 'all'", "cache_shard_size is 0",
        config=tmp_path / "config.yaml", seed="one", media_check="all", cache_shard_size=0,
    )  # fmt: skip


# -- teachers ------------------------------------------------------------------------------------------------------


def test_no_teachers(distil: Refuse) -> None:
    distil("no teachers are given", "--teachers FOLDER", teachers=None)
    distil("no teachers are given", "--teachers FOLDER", teachers=None, recipe="cache_teachers")


def test_teachers_that_are_not_there_or_no_runs(distil: Refuse, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    here = [tmp_path / "nowhere", tmp_path / "empty", "runs/none/such"]
    parts = [
        "3 problems",
        f"there is no folder {here[0]}; train this teacher first",
        f"{here[1]} holds no trained model",
    ]
    distil(*parts, "there is no folder runs/none/such", teachers=here)
    distil(*parts, recipe="cache_teachers", teachers=here, teacher_cache=tmp_path / "cache")


def test_a_speaker_bound_to_nobody(distil: Refuse, speech_run: Path) -> None:
    distil("unknown speaker 'carla'", f"{CORPUS}/anna", teachers=[f"carla={speech_run}"])
    distil(f"no teacher is bound to {CORPUS}/bert", "--unknown_speaker", teachers=[f"anna={speech_run}"])
    two = [f"anna={speech_run}", f"anna={speech_run}"]
    distil(f"speaker '{CORPUS}/anna' is bound to two teachers", teachers=two)


def test_a_held_out_speaker_is_nobodys_teacher(distil: Refuse, speech_run: Path) -> None:
    distil(
        f"a teacher is bound to {CORPUS}/bert, who is held out", "held_out_speakers",
        teachers=[f"anna={speech_run}", f"bert={speech_run}"],
        split_policy="held_out_speaker", held_out_speakers=["bert"],
    )  # fmt: skip


def test_a_teacher_with_damaged_weights(distil: Refuse, broken: Path) -> None:
    weights = broken / "model.safetensors"
    content = weights.read_bytes()
    for damage in (content[: len(content) // 2], b"\xff" * 64, b""):
        weights.write_bytes(damage)
        distil("the weights of", "damaged", str(broken), teachers=[broken])


def test_a_teacher_with_pickled_weights(distil: Refuse, broken: Path) -> None:
    (broken / "model.safetensors").unlink()
    torch.save({"a": torch.zeros(1)}, broken / "pytorch_model.bin")
    distil("pytorch_model.bin, a pickle, which can run code", "expected model.safetensors", teachers=[broken])


def test_a_teacher_without_or_with_broken_parts(distil: Refuse, broken: Path) -> None:
    kept = {name: (broken / name).read_bytes() for name in ("processor_config.json", "vocab.json", "config.json")}
    for name, content in kept.items():
        (broken / name).write_bytes(content[: len(content) // 2])
        distil(str(broken), teachers=[broken])
        (broken / name).unlink()
        distil(str(broken), teachers=[broken])
        (broken / name).write_bytes(content)


def test_a_teacher_with_weights_that_are_not_finite(distil: Refuse, broken: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(broken / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    distil("have NaN or infinity", teachers=[broken])


def test_a_word_more_in_the_students_vocabulary(distil: Refuse, tmp_path: Path) -> None:
    (tmp_path / "others.txt").write_text("ONE\nTWO\nTEN\nSIX\nZOO\n", encoding="utf-8")
    distil("vocabularies differ", "'ZOO'", "--vocabulary", vocabulary=tmp_path / "others.txt")


def test_vocabularies_of_one_size_that_differ_in_one_word(
    distil: Refuse, speech: Path, speech_run: Path, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(speech.parent, corpus)

    def rename(rows: list[dict[str, str]]) -> None:
        for row in rows:
            row["text"] = row["text"].replace("TEN", "TOO")

    change_rows(corpus / "manifest.csv", rename)
    distil(
        "vocabularies differ",
        "token 3 is 'TEN' in the teachers' list and 'TOO' in the student's",
        manifest=corpus / "manifest.csv",
        vocabulary=None,
    )


def test_a_teacher_of_another_kind_of_input(distil: Refuse, feature_run: Path) -> None:
    distil(f"teacher {feature_run} takes features and the student audio of 16000 Hz", teachers=[feature_run])


def test_teachers_worse_than_the_baseline(distil: Refuse, speech_run: Path, broken: Path) -> None:
    results = json.loads((broken / "results.json").read_text())
    dev = results["scores"][0]
    dev |= {"substitutions": 8, "deletions": 0, "insertions": 0, "wer": 1.0, "wer_ci95": [1.0, 1.0], "wra": 0.0}
    (broken / "results.json").write_text(json.dumps(results))
    parts = [f"teacher {broken} has 100.00 % WER on dev", "--allow_worse_teacher true", "self-distillation"]
    distil(*parts, teachers=[broken], baseline_run=speech_run)


def test_a_baseline_that_is_no_run(distil: Refuse, tmp_path: Path) -> None:
    distil(f"{tmp_path}/nowhere", "baseline", baseline_run=tmp_path / "nowhere")
