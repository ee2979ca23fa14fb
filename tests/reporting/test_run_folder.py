"""The run folder's contract: who may write there, what survives a kill, what is refused and with which words."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml

from kd_asr_slr.errors import UserError
from kd_asr_slr.reporting import run_folder
from kd_asr_slr.reporting.run_folder import RunFolder

VOLATILE = {"output_dir", "dataloader_num_workers"}
DESIGN_KEYS = ["schema", "name", "recipe", "model", "corpus", "teachers", "seed", "scores"]


def test_new_then_resume_then_finished(tmp_path, config):
    run = RunFolder(tmp_path / "a" / "student")
    assert run.claim(config, VOLATILE, recipe="distill") == "new"
    record = json.loads((run.path / "run.json").read_text())
    assert record == {**record, "schema": 1, "name": "student", "recipe": "distill", "status": "running"}
    assert len(record["config_sha256"]) == 64
    assert run.claim(config, VOLATILE, recipe="distill") == "resume"
    run.finish()
    assert run.claim(config, VOLATILE, recipe="distill") == "finished"
    assert run.record() == {**record, "status": "finished"}


def test_status_answers_as_claim_does_and_writes_nothing(tmp_path, config):
    run = RunFolder(tmp_path / "student")
    assert run.status(config, VOLATILE, recipe="distill") == "new"
    assert not run.path.exists()
    run.claim(config, VOLATILE, recipe="distill")
    before = {file.name: file.read_bytes() for file in run.path.iterdir()}
    assert run.status({**config, "output_dir": "b"}, VOLATILE, recipe="distill") == "resume"
    assert run.status({**config, "alpha": 0.1}, VOLATILE, recipe="distill", overwrite=True) == "new"
    with pytest.raises(UserError, match="belongs to another run"):
        run.status({**config, "alpha": 0.1}, VOLATILE, recipe="distill")
    assert {file.name: file.read_bytes() for file in run.path.iterdir()} == before
    run.finish()
    assert run.status(config, VOLATILE, recipe="distill") == "finished"


def test_an_empty_folder_is_new(tmp_path, config):
    assert RunFolder(tmp_path).claim(config) == "new"


def test_resolved_config_comes_back_as_it_went_in(tmp_path, config):
    config |= {"milestones": {30: 3.5}, "path": Path("a/b"), "width": np.float64(0.5), "sizes": (1, 2)}
    run = RunFolder(tmp_path)
    run.claim(config)
    expected = {**config, "path": "a/b", "width": 0.5, "sizes": [1, 2]}
    assert yaml.safe_load((tmp_path / "resolved_config.yaml").read_text()) == expected
    assert run.config()["learning_rate"] == 1e-05  # a float, not the string "1e-05"


def test_the_access_token_is_not_written(tmp_path, config):
    RunFolder(tmp_path).claim({**config, "hub_token": "hf_secret", "training": {"push_to_hub_token": "hf_secret"}})
    assert all("hf_secret" not in file.read_text() for file in tmp_path.iterdir())


def test_volatile_keys_and_the_order_of_keys_do_not_matter(tmp_path, config):
    run = RunFolder(tmp_path)
    run.claim({**config, "loader": {"dataloader_num_workers": 2}}, VOLATILE)
    changed = dict(reversed({**config, "output_dir": "elsewhere", "loader": {"dataloader_num_workers": 0}}.items()))
    assert run.claim(changed, VOLATILE) == "resume"
    assert run.config()["output_dir"] == "elsewhere"


def test_a_key_that_became_volatile_later_does_not_lock_the_run_out(tmp_path, config):
    run = RunFolder(tmp_path)
    run.claim(config)
    assert run.claim({**config, "output_dir": "elsewhere"}, VOLATILE) == "resume"


def test_another_config_is_refused_with_both_values(tmp_path, config):
    run = RunFolder(tmp_path / "student")
    run.claim(config, VOLATILE, recipe="distill")
    other = {**config, "alpha": 0.5, "temperature_milestones": {"30": 3.5, "70": 2.0}, "extra": True}
    with pytest.raises(UserError) as error:
        run.claim(other, VOLATILE, recipe="distill")
    message = str(error.value)
    assert "belongs to another run (student)" in message
    assert "alpha is 0.7 there and 0.5 here" in message
    assert "temperature_milestones.70 is 3.0 there and 2.0 here" in message
    assert "extra is absent there and true here" in message
    assert "choose another --output_dir, or pass --overwrite_output_dir true" in message
    assert run.config()["alpha"] == 0.7


def test_only_the_first_few_differences_are_listed(tmp_path):
    run = RunFolder(tmp_path)
    run.claim({f"key{number}": 0 for number in range(9)})
    with pytest.raises(UserError, match=r"key4 is 0 there and 1 here; 4 more"):
        run.claim({f"key{number}": 1 for number in range(9)})


def test_the_same_config_under_another_recipe_is_another_run(tmp_path, config):
    run = RunFolder(tmp_path)
    run.claim(config, recipe="train")
    with pytest.raises(UserError, match='recipe is "train" there and "distill" here'):
        run.claim(config, recipe="distill")


def test_a_finished_run_of_another_config_is_refused(tmp_path, config):
    run = RunFolder(tmp_path)
    run.claim(config)
    run.finish()
    with pytest.raises(UserError, match="belongs to another run"):
        run.claim({**config, "alpha": 0.1})


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_is_refused_and_untouched(tmp_path, config, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"is no run folder \(thesis.tex\).*choose another --output_dir"):
        RunFolder(tmp_path).claim(config, overwrite=overwrite)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_as_output_dir_is_refused(tmp_path, config):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="is a file; expected a folder as --output_dir"):
            RunFolder(path).claim(config)


def test_overwrite_deletes_what_a_run_wrote_and_nothing_else(make_run, config, tmp_path):
    run = make_run()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "data.txt").write_text("kept")
    (run.path / "checkpoint-5").symlink_to(outside)
    (run.path / "checkpoint-10").mkdir()
    (run.path / "checkpoint-10" / "trainer_state.json").write_text("{}")
    for name in ("model.safetensors", "predictions-test.jsonl", "notes.md", "checkpoint-notes.txt"):
        (run.path / name).write_text("x")
    assert run.claim({**config, "alpha": 0.1}, overwrite=True) == "new"
    names = sorted(file.name for file in run.path.iterdir())
    assert names == ["checkpoint-notes.txt", "notes.md", "resolved_config.yaml", "run.json"]
    assert (outside / "data.txt").read_text() == "kept"
    assert run.record()["status"] == "running"


def test_a_kill_during_overwrite_does_not_resume_from_the_old_run(make_run, config, monkeypatch):
    run = make_run()
    (run.path / "checkpoint-10").mkdir()
    (run.path / "checkpoint-10" / "trainer_state.json").write_text("{}")

    def killed(entry):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_folder.ownership, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            run.claim(config, recipe="distill", overwrite=True)
    assert run.last_checkpoint() is not None
    assert run.claim(config, recipe="distill") == "new"
    assert run.last_checkpoint() is None


KILLED_WRITE = """
import os, signal, sys
from kd_asr_slr.reporting import run_folder
run = run_folder.RunFolder(sys.argv[1])
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)  # half-way through the next file
{write}
"""


def killed(path: Path, write: str, repository: Path) -> None:
    command = [sys.executable, "-c", KILLED_WRITE.format(write=write), str(path)]
    assert subprocess.run(command, cwd=repository, check=False).returncode == -signal.SIGKILL


def test_a_kill_while_claiming_leaves_a_folder_that_can_be_claimed(tmp_path, config, repository):
    killed(tmp_path, "run.claim({'a': 1})", repository)
    leftover = [file.name for file in tmp_path.iterdir()]
    assert len(leftover) == 1
    assert leftover[0].startswith(".run.json.")
    assert RunFolder(tmp_path).claim(config) == "new"


def test_a_kill_between_run_json_and_the_config_resumes(tmp_path, config):
    run = RunFolder(tmp_path)
    run.claim(config)
    (tmp_path / "resolved_config.yaml").unlink()
    assert run.claim(config) == "resume"
    assert run.config() == config
    (tmp_path / "resolved_config.yaml").unlink()
    with pytest.raises(UserError, match="its resolved_config.yaml is missing"):
        run.claim({**config, "alpha": 0.1})


def test_a_kill_while_scoring_leaves_the_old_results(make_run, score, repository):
    run = make_run()
    before = (run.path / "results.json").read_bytes()
    killed(run.path, "run.add_scores({**run.read_results()['scores'][0], 'split': 'test'})", repository)
    assert any(file.name.startswith(".results.json.") and file.suffix == ".tmp" for file in run.path.iterdir())
    assert (run.path / "results.json").read_bytes() == before
    run.add_scores({**score, "split": "test"})  # the dead process's lock does not hold the next one up
    assert [entry["split"] for entry in run.read_results()["scores"]] == ["dev", "test"]


def test_last_checkpoint_is_the_highest_complete_one(tmp_path):
    run = RunFolder(tmp_path)
    assert run.last_checkpoint() is None
    for number, content in ((9, "{}"), (10, '{"log_history": []}'), (30, '{"log_hist'), (100, None)):
        (tmp_path / f"checkpoint-{number}").mkdir()
        if content is not None:
            (tmp_path / f"checkpoint-{number}" / "trainer_state.json").write_text(content)
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-best" / "trainer_state.json").write_text("{}")
    assert run.last_checkpoint() == tmp_path / "checkpoint-10"  # not 9, which sorts later as a string


def test_results_have_the_agreed_form(make_run, score):
    results = json.loads((make_run().path / "results.json").read_text())
    assert list(results) == DESIGN_KEYS
    assert results["model"] == {"type": "bilstm_ctc", "parameters": 1_234_567, "bytes": 4_940_000}
    assert (results["schema"], results["name"], results["recipe"], results["seed"]) == (1, "student", "distill", 7)
    assert results["scores"] == [score]


def test_scores_replace_their_like_and_keep_the_others(make_run, score):
    run = make_run(scores=[score, {**score, "lm": "4gram.arpa", "decoder": "beam"}, {**score, "protocol": "raw"}])
    run.add_scores({**score, "wra": np.float32(0.5)})
    scores = run.read_results()["scores"]
    assert [(entry["decoder"], entry["lm"], entry["protocol"], entry["wra"]) for entry in scores] == [
        ("greedy", None, "official-sclite", 0.5),
        ("beam", "4gram.arpa", "official-sclite", 0.1296),
        ("greedy", None, "raw", 0.1296),
    ]


def test_scorers_at_the_same_time_lose_nothing(make_run, score):
    run = make_run(scores=[])
    splits = [f"split{number}" for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda split: RunFolder(run.path).add_scores({**score, "split": split}), splits))
    assert sorted(entry["split"] for entry in run.read_results()["scores"]) == splits


def test_a_wrong_score_is_refused_and_nothing_is_written(make_run, score):
    run = make_run()
    before = (run.path / "results.json").read_bytes()
    with pytest.raises(UserError, match=r"score.split is ''(.|\n)*score.wer is nan"):
        run.add_scores({**score, "wer": float("nan"), "split": ""})
    assert (run.path / "results.json").read_bytes() == before


def test_scores_of_a_folder_without_results_are_refused(tmp_path, config, score):
    with pytest.raises(UserError, match="there is no folder"):
        RunFolder(tmp_path / "nowhere").add_scores(score)
    run = RunFolder(tmp_path / "running")
    run.claim(config)
    with pytest.raises(UserError, match="has no results.json.*that run is unfinished; start its command again"):
        run.add_scores(score)
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="has no results.json; expected the results of a finished run"):
        RunFolder(tmp_path / "other").read_results()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{broken", "is not valid JSON \\(line 1, column 2"),
        ("[]", "the file holds a list; expected an object"),
        ('{"schema": 2}', "schema is 2; expected 1"),
        ("\udcff", "is not UTF-8 text"),
    ],
)
def test_damaged_results_are_refused(make_run, content, message):
    run = make_run()
    (run.path / "results.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=message):
        run.read_results()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "run.json is not valid JSON"),
        ('{"schema": 9}', "has schema 9; expected schema 1"),
        ('{"schema": 1, "name": "a"}', "3 problems"),
        ('{"schema": 1, "name": "a", "recipe": "b", "config_sha256": "c", "status": "done"}', "status is 'done'"),
    ],
)
def test_a_damaged_run_json_is_refused_even_with_overwrite(tmp_path, config, content, message):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=message):
        RunFolder(tmp_path).claim(config, overwrite=True)


def test_a_damaged_config_is_refused(make_run):
    run = make_run()
    (run.path / "resolved_config.yaml").write_text("a: [1")
    with pytest.raises(UserError, match="is not valid YAML"):
        run.config()
    (run.path / "resolved_config.yaml").write_text("- 1")
    with pytest.raises(UserError, match="holds a list; expected keys and values"):
        run.config()


ROWS = [
    {"id": "u1", "speaker": "fsdd/theo", "reference": "NULL", "hypothesis": ""},
    {"id": "u2", "speaker": "fsdd/theo", "reference": "ÜBER\u2028ALLES", "hypothesis": "ÜBER", "seconds": 0.5},
]


def test_predictions_come_back_in_order(tmp_path):
    run = RunFolder(tmp_path)
    assert run.write_predictions("test", ROWS).name == "predictions-test.jsonl"
    assert run.write_predictions("test", ROWS[:1], decoder="beam").name == "predictions-test-beam.jsonl"
    assert run.read_predictions("test") == ROWS
    assert run.read_predictions("test", "beam") == ROWS[:1]


def test_wrong_predictions_are_refused_all_at_once(tmp_path):
    run = RunFolder(tmp_path)
    rows = [*ROWS, {**ROWS[0]}, {"id": "u3", "speaker": None, "reference": "A"}]
    with pytest.raises(UserError) as error:
        run.write_predictions("test", rows)
    assert "1 ids are there more than once: u1" in str(error.value)
    assert "row 4: 'hypothesis' is None; expected a string" in str(error.value)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="cannot be part of a file's name"):
        run.write_predictions("../test", ROWS)


def test_missing_or_damaged_predictions_are_refused(tmp_path):
    run = RunFolder(tmp_path)
    with pytest.raises(UserError, match="has no predictions-test.jsonl.*score split 'test'"):
        run.read_predictions("test")
    (tmp_path / "predictions-test.jsonl").write_text(json.dumps(ROWS[0]) + '\n{"id"')
    with pytest.raises(UserError, match="line 2 of .* is no JSON"):
        run.read_predictions("test")


def test_the_room_needs_neither_torch_nor_matplotlib_to_be_imported(repository):
    modules = ", ".join(f"kd_asr_slr.reporting.{name}" for name in ("run_folder", "tables", "curves", "model_card"))
    code = f"import sys, {modules}; print(sorted({{'torch', 'matplotlib', 'transformers'}} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], cwd=repository, check=True, capture_output=True, text=True)
    assert output.stdout.strip() == "[]"
