"""Speaker teachers from one generalist: one run each, taken up again, named at once, scored on everyone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_runs import assemble, do_run, largest_difference, parsed, weights

from kd_asr_slr.errors import UserError
from kd_asr_slr.files import write_json
from kd_asr_slr.scoring.alignment import count_errors
from kd_asr_slr.training.adaptation import adapt_teachers
from kd_asr_slr.training.bindings import bindings_of, folder_name, write_index
from kd_asr_slr.training.cross_scores import cross_scores, cross_table
from kd_asr_slr.training.data import load_data

START = {"model_options": None, "feature_options": None, "num_train_epochs": 1, "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def adapted(speech: Path, generalist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapted")
    run = parsed(data_dir=speech, output_dir=folder, model=str(generalist), **START)
    assert list(adapt_teachers(run.data, run.model, run.training)) == ["synthetic_speech/s01", "synthetic_speech/s02"]
    return folder


def test_each_teacher_is_the_run_that_train_would_make(
    adapted: Path, speech: Path, generalist: Path, tmp_path: Path
) -> None:
    do_run(data_dir=speech, output_dir=tmp_path / "s02", model=str(generalist), train_speakers=["s02"], **START)
    assert largest_difference(weights(adapted / "s02"), weights(tmp_path / "s02")) == 0.0
    assert largest_difference(weights(adapted / "s02"), weights(generalist)) > 0.0


def test_finished_teachers_are_kept(adapted: Path, speech: Path, generalist: Path) -> None:
    before = (adapted / "s01" / "model.safetensors").stat().st_mtime_ns
    (adapted / "s02" / "run.json").unlink()
    for file in (adapted / "s02").iterdir():  # as if it had never been started
        if file.is_file():
            file.unlink()
    run = parsed(data_dir=speech, output_dir=adapted, model=str(generalist), overwrite_output_dir=False, **START)
    with pytest.raises(UserError, match="s02"):  # foreign files are not touched
        adapt_teachers(run.data, run.model, run.training)
    import shutil

    shutil.rmtree(adapted / "s02")
    adapt_teachers(run.data, run.model, run.training)
    assert (adapted / "s01" / "model.safetensors").stat().st_mtime_ns == before
    assert (adapted / "s02" / "results.json").is_file()


def test_the_folder_stands_for_all_its_teachers(adapted: Path, speech: Path, tmp_path: Path) -> None:
    expected = [(f"synthetic_speech/{name}", str(adapted / name)) for name in ("s01", "s02")]
    assert bindings_of([str(adapted)]) == expected
    run = assemble(data_dir=speech, output_dir=tmp_path, teachers=[str(adapted)], vocabulary=str(adapted / "s01"))
    assert [sorted(teacher.speakers) for teacher in run.teachers.teachers] == [[who] for who, _ in expected]


def test_who_scores_what_against_a_count_by_hand(adapted: Path, speech: Path, generalist: Path) -> None:
    data = parsed(data_dir=speech, output_dir=adapted / "unused").data
    corpus = load_data(data)
    teachers = {"generalist": generalist, "s01": adapted / "s01"}
    scores = cross_scores(teachers, corpus, data, batch=4)
    rows = [json.loads(line) for line in (adapted / "s01" / "predictions-test.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["speaker"].endswith("s02")]
    errors = [count_errors(row["reference"].split(), row["hypothesis"].split()) for row in rows]
    wer = sum(count.errors for count in errors) / sum(count.reference_tokens for count in errors)
    assert scores["test"]["s01"]["synthetic_speech/s02"]["wer"] == pytest.approx(wer)
    assert set(scores["dev"]["generalist"]) == {"synthetic_speech/s01", "synthetic_speech/s02"}


def test_the_table_names_own_speakers_and_the_oracle() -> None:
    def rates(**errors: float) -> dict:
        return {f"c/{who}": {"wer": error, "wra": 1 - error} for who, error in errors.items()}

    scores = {
        "dev": {"all": rates(a=0.2, b=0.2), "a": rates(a=0.1, b=0.4), "b": rates(a=0.5, b=0.05)},
        "test": {"all": rates(x=0.3), "a": rates(x=0.5), "b": rates(x=0.4)},
    }
    lines = cross_table(scores, {"a": "c/a", "b": "c/b"}).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["teacher", "c/a, dev", "c/b, dev", "c/x, test (held out)"]
    assert cells[3] == ["a", "**10.00 (90.00)**", "40.00 (60.00)", "50.00 (50.00)"]
    assert lines[-1] == "Best foreign teacher of c/x (an oracle: chosen on the test): b, 40.00 % WER."


def test_what_is_no_generalist_or_no_index_is_refused(speech: Path, tmp_path: Path) -> None:
    run = parsed(data_dir=speech, output_dir=tmp_path / "out")
    with pytest.raises(UserError, match="'bilstm' is no trained run"):
        adapt_teachers(run.data, run.model, run.training)
    assert not (tmp_path / "out").exists()
    write_json(tmp_path / "adaptation.json", {"schema": 9})
    with pytest.raises(UserError, match="names no teachers"):
        bindings_of([str(tmp_path)])


def test_names_of_folders(tmp_path: Path) -> None:
    assert folder_name("torgo/F03") == "F03" and folder_name("mine/a b/../c") == "a_b_.._c"
    write_index(tmp_path, "runs/generalist", {"c/a": "a"})
    assert bindings_of([str(tmp_path), "b=x", "y"]) == [("c/a", f"{tmp_path}/a"), ("b", "x"), (None, "y")]
