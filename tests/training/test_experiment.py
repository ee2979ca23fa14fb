"""A declared table of runs: what is planned, what is refused, and that the runs happen."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from kd_asr_slr.errors import UserError
from kd_asr_slr.training.experiment import chosen, read_experiment, run_all

RECIPE = """
import sys, pathlib, yaml
options = yaml.safe_load(open(sys.argv[sys.argv.index("--config") + 1]))
folder = pathlib.Path(options["output_dir"])
if options.get("needs") and not pathlib.Path(options["needs"]).is_dir():
    sys.exit(2)
folder.mkdir(parents=True)
(folder / "seed.txt").write_text(str(options["seed"]))
print("done", folder.name)
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes an experiment beside a recipe of its own, and gives the file."""
    (tmp_path / "toy.py").write_text(RECIPE)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "experiment.py")])

    def write(**changes: object) -> Path:
        plan = {
            "runs": str(tmp_path / "runs"),
            "folds": ["ann", "bob"],
            "seeds": [1, 2],
            "common": {"model_options": {"hidden_size": 8}, "held_out_speakers": ["{fold}"]},
            "rows": {
                "teacher": {"recipe": "toy"},
                "student": {"recipe": "toy", "seeds": [2], "options": {"needs": "{runs}/teacher-{fold}-seed1"}},
            },
        }
        path = tmp_path / "table.yaml"
        path.write_text(yaml.safe_dump(plan | changes, sort_keys=False))
        return path

    return write


def test_plan_fills_placeholders_and_keeps_the_order_of_the_file(table, tmp_path: Path) -> None:
    rows = read_experiment(table())
    assert list(rows) == ["teacher", "student"]
    names = [run.folder.name for run in rows["teacher"]]
    assert names == ["teacher-ann-seed1", "teacher-ann-seed2", "teacher-bob-seed1", "teacher-bob-seed2"]
    student = rows["student"][1]
    assert student.options["held_out_speakers"] == ["bob"]
    assert student.options["needs"] == f"{tmp_path}/runs/teacher-bob-seed1"
    assert student.options["seed"] == 2 and student.options["model_options"] == {"hidden_size": 8}


def test_a_list_can_name_the_other_folds(table) -> None:
    named = {"recipe": "toy", "options": {"untranscribed_speakers": ["x", "{others}"], "text": "{others}"}}
    ann, bob, cleo = read_experiment(table(rows={"named": named}, folds=["ann", "bob", "cleo"], seeds=[1]))["named"]
    assert ann.options["untranscribed_speakers"] == ["x", "bob", "cleo"] and ann.options["text"] == "{others}"
    assert bob.options["untranscribed_speakers"] == ["x", "ann", "cleo"]
    assert cleo.options["untranscribed_speakers"] == ["x", "ann", "bob"]


def test_a_run_can_name_the_fold_after_its_own_and_the_rest(table) -> None:
    named = {"recipe": "toy", "options": {"train_speakers": ["{next}"], "untranscribed_speakers": ["{rest}"]}}
    rows = read_experiment(table(rows={"named": named}, folds=["ann", "bob", "cleo", "dan"], seeds=[1]))["named"]
    assert [run.options["train_speakers"] for run in rows] == [["bob"], ["cleo"], ["dan"], ["ann"]]
    assert [run.options["untranscribed_speakers"] for run in rows] == [
        ["cleo", "dan"],
        ["ann", "dan"],
        ["ann", "bob"],
        ["bob", "cleo"],
    ]


def test_runs_happen_row_by_row(table, tmp_path: Path) -> None:
    done = list(run_all(read_experiment(table()), jobs=2))
    assert [succeeded for _, succeeded in done] == [True] * 6
    assert (tmp_path / "runs" / "student-bob-seed2" / "seed.txt").read_text() == "2"
    assert "done student-ann-seed2" in (tmp_path / "runs" / "logs" / "student-ann-seed2.log").read_text()


def test_a_failed_row_is_the_last_one(table, tmp_path: Path) -> None:
    broken = {"recipe": "toy", "options": {"needs": str(tmp_path / "nowhere")}}
    rows = {"broken": broken, "after": {"recipe": "toy"}}
    done = list(run_all(read_experiment(table(rows=rows)), jobs=1))
    assert {run.row for run, _ in done} == {"broken"} and not any(succeeded for _, succeeded in done)
    assert not (tmp_path / "runs" / "after-ann-seed1").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rows": {"x": {"recipe": "nothing"}}}, "there is no recipe 'nothing'"),
        ({"rows": {"x": {"options": {}}}}, "row 'x' names no recipe"),
        ({"rows": {"x": {"recipe": "toy", "option": {}}}}, "unknown key 'option'"),
        ({"seeds": []}, "'seeds' is missing"),
        ({"speakers": ["ann"]}, "unknown key 'speakers'"),
    ],
)
def test_a_table_that_cannot_be_run_is_refused(table, changes: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        read_experiment(table(**changes))


def test_rows_are_chosen_by_name(table) -> None:
    rows = read_experiment(table())
    assert list(chosen(rows, ["student"])) == ["student"]
    with pytest.raises(UserError, match="there is no row pupil; expected one of teacher, student"):
        chosen(rows, ["pupil"])


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_experiment(tmp_path / "absent.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(UserError, match="is no mapping"):
        read_experiment(tmp_path / "list.yaml")
