"""Publishing a run to a hub on loopback, by huggingface_hub's own client."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from loopback_hub import LOST, LoopbackHub
from saved_models import save

from kd_asr_slr.errors import UserError
from kd_asr_slr.hub import push
from kd_asr_slr.hub.destination import Destination
from kd_asr_slr.hub.push import push_run
from kd_asr_slr.hub.standing import RECORD
from kd_asr_slr.reporting.run_folder import RunFolder

NAME = "owner/student"
SCORE: dict[str, Any] = {
    "split": "test", "decoder": "greedy", "lm": None, "protocol": "words", "wer": 0.25, "substitutions": 1,
    "deletions": 0, "insertions": 0, "reference_tokens": 4, "utterances": 2, "wer_ci95": [0.0, 0.5], "wra": 0.5,
    "by_speaker": {"fsdd/theo": {"wer": 0.25, "wra": 0.5, "reference_tokens": 4}},
}  # fmt: skip
PRIVATE = ("predictions-test.jsonl", "training_data.json", "training_args.bin", "run.json", "notes.py", "clip.wav")


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved student, to be copied."""
    return save("bilstm", tmp_path_factory.mktemp("saved") / "student")


@pytest.fixture
def run(tmp_path: Path, student: Path) -> RunFolder:
    """A finished run with a student, and with much that is nobody's business."""
    folder = RunFolder(tmp_path / "place" / "student")
    folder.path.parent.mkdir()
    folder.claim({
        "corpus": "fsdd", "data_dir": "/home/jane/corpora/fsdd", "teachers": ["fsdd/theo=/home/jane/runs/theo"],
        "hub_token": "hf_secret", "output_dir": str(folder.path), "alpha": 0.7, "hard_losses": ["ctc"],
    }, recipe="distill")  # fmt: skip
    shutil.copytree(student, folder.path, dirs_exist_ok=True)
    folder.write_results(
        model_type="bilstm_ctc", parameters=10, bytes=40, corpus="fsdd", teachers=["/home/jane/runs/theo"], seed=0
    )
    folder.add_scores(dict(SCORE))
    folder.finish()
    for name in PRIVATE:
        if not (folder.path / name).exists():
            (folder.path / name).write_text("SECRET")
    for name in ("checkpoint-10", "epoch-1", "tensorboard", "cache"):
        (folder.path / name).mkdir()
        (folder.path / name / "model.safetensors").write_text("SECRET")
    (folder.path / "training_curves.png").write_bytes(b"PNG")
    return folder


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between attempts; the client's own waits are real."""
    monkeypatch.setattr(push, "WAITS", (0.0, 0.0, 0.0))


def published(hub: LoopbackHub, name: str = NAME) -> dict[str, bytes]:
    return hub.repositories[name].commits[-1].files


def test_one_commit_holds_the_student_and_what_came_out(connected, run, capsys):
    url = push_run(run, Destination(NAME), licence="apache-2.0")
    repository = connected.repositories[NAME]
    files = published(connected)
    assert len(repository.commits) == 2  # the hub's own first one, and ours
    assert repository.private
    assert url == f"{connected.endpoint}/{NAME}/commit/{repository.commits[-1].oid}"
    assert files["model.safetensors"] == (run.path / "model.safetensors").read_bytes()
    assert {"config.json", "processor_config.json", "tokenizer_config.json", "vocab.json", "modeling_bilstm.py"} <= (
        files.keys()
    )
    assert not set(PRIVATE) & files.keys()
    assert not any("/" in name for name in files)
    for name, content in files.items():
        for secret in (b"SECRET", b"hf_secret", b"/home/jane", str(run.path.parent).encode()):
            assert secret not in content, name
    assert json.loads(files["results.json"])["teachers"] == ["theo"]
    assert yaml.safe_load(files["resolved_config.yaml"])["teachers"] == ["fsdd/theo=theo"]
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0] for line in lines if line.startswith("  ") and not line.endswith("no checkpoints")}
    assert listed == files.keys() - {".gitattributes"}
    assert lines[-1] == f"published: {url}"
    record = json.loads((run.path / "published.json").read_text())
    assert record["repository"] == NAME and record["commit"] == repository.commits[-1].oid


def test_the_card_on_the_hub_says_how_to_load_it_from_there(connected, run):
    push_run(run, Destination(NAME), licence="apache-2.0")
    card = ModelCard(published(connected)["README.md"].decode())
    assert card.data.license == "apache-2.0"
    assert [result.metric_value for result in card.data.eval_results if result.metric_type == "wer"] == [25.0]
    for part in (
        f'AutoModelForCTC.from_pretrained("{NAME}", trust_remote_code=True)',
        f'pipeline("automatic-speech-recognition", model="{NAME}", trust_remote_code=True)',
        "(`pip install torch transformers`)",
        "![Losses, WER and learning rate over the epochs](training_curves.png)",
        "- Teachers: `theo`.",
        "`words|ref:words|hyp:words|costs:unit|case:kept|repeats:kept|empty:none`",
        "| fsdd/theo | 25.00 |",
        "The weights: `apache-2.0`.",
        "hinton2015",
    ):
        assert part in card.text, part
    assert "FOLDER" not in card.text


def test_a_name_alone_is_the_tokens_own(connected, run):
    push_run(run, Destination("student", private=False))
    assert not connected.repositories[NAME].private


def test_predictions_go_up_where_they_are_asked_for(connected, run):
    push_run(run, Destination(NAME), predictions=True)
    assert published(connected)["predictions-test.jsonl"] == b"SECRET"


def test_a_dry_run_lists_and_asks_nobody(run, hub, capsys):
    assert push_run(run, Destination(NAME), dry_run=True) is None
    assert not hub.requests and not (run.path / "published.json").exists()
    out = capsys.readouterr().out
    assert "model.safetensors" in out and "a dry run: nothing was sent" in out
    assert "predictions" not in out


def test_a_repository_that_exists_is_refused_unless_it_is_to_be_updated(connected, run):
    connected.put(NAME, {"config.json": b"{}", "own.txt": b"mine"})
    with pytest.raises(UserError, match=r"the repository owner/student exists and holds a model"):
        push_run(run, Destination(NAME))
    assert published(connected)["config.json"] == b"{}"
    push_run(run, Destination(NAME, update=True))
    assert published(connected)["config.json"] == (run.path / "config.json").read_bytes()
    assert published(connected)["own.txt"] == b"mine"
    assert not connected.repositories[NAME].private  # as it was


def test_a_second_push_leaves_what_it_lists_and_nothing_of_the_first(connected, run, capsys):
    (run.path / "model-00002-of-00002.safetensors").write_bytes(b"the second half")
    push_run(run, Destination(NAME), predictions=True)
    assert {"model-00002-of-00002.safetensors", "predictions-test.jsonl"} <= published(connected).keys()
    (run.path / "model-00002-of-00002.safetensors").unlink()
    (run.path / "decoding.json").write_text("{}")
    capsys.readouterr()
    push_run(run, Destination(NAME, update=True))
    shown = "".join(capsys.readouterr())
    listed = set(re.findall(r"^  (\S+) +[\d.]+ k?M?B$", shown, re.MULTILINE))
    assert published(connected).keys() - {".gitattributes"} == listed
    assert "no longer has: model-00002-of-00002.safetensors, predictions-test.jsonl" in shown
    assert len(connected.repositories[NAME].commits) == 3  # deleted in the same commit


def test_what_others_have_added_or_changed_is_left_or_announced(connected, run, capsys):
    push_run(run, Destination(NAME), predictions=True)
    mine = {"own.txt": b"mine", "predictions-test.jsonl": b"mine too", "README.md": b"my words"}
    connected.repositories[NAME].add("by hand", published(connected) | mine)
    capsys.readouterr()
    push_run(run, Destination(NAME, update=True))
    files, shown = published(connected), "".join(capsys.readouterr())
    assert files["own.txt"] == b"mine" and files["predictions-test.jsonl"] == b"mine too"
    assert files["README.md"] != b"my words"
    assert "left as they are, not made by a push or changed since: own.txt, predictions-test.jsonl" in shown
    assert "replaced, though changed on the hub since the last push: README.md" in shown and "deleted" not in shown


@pytest.mark.parametrize("record", [b"{", b"[]", b'{"files": 1}', b'{"files": {"own.txt": "mine"}}'])
def test_a_broken_record_of_the_first_push_deletes_nothing(connected, run, record):
    connected.put(NAME, {"own.txt": b"mine", RECORD: record})
    push_run(run, Destination(NAME, update=True))
    assert published(connected)["own.txt"] == b"mine"


def test_an_empty_repository_is_taken(connected, run):
    connected.put(NAME, {".gitattributes": b""})
    push_run(run, Destination(NAME))
    assert "model.safetensors" in published(connected)


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("hf_wrong", r"the hub refuses the token \(401: Invalid user token.*\).*type hf auth login"),
        ("hf_reader", r"the token may not write to owner/student \(403: You don't have the rights"),
        ("", "there is no token for the hub. To fix it: type hf auth login"),
    ],
)
def test_a_refused_token_is_one_sentence(connected, run, monkeypatch, token, message):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError, match=message):
        push_run(run, Destination(NAME))
    assert not connected.repositories


def test_names_and_licences_that_cannot_be(connected, run):
    with pytest.raises(UserError, match="'a/b/c' is no name of a repository"):
        push_run(run, Destination("a/b/c"))
    with pytest.raises(UserError, match=r'the hub refuses the card.*"license" must be one of'):
        push_run(run, Destination(NAME), licence="my own")
    assert published(connected).keys() == {".gitattributes"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/preupload/", 503),
        ("POST", "/objects/batch", 502),
        ("PUT", "/lfs/", 500),
        ("POST", "/lfs-verify/", 503),
        ("POST", "/commit/", 500),
        ("POST", "/commit/", 429),
        ("POST", "/api/validate-yaml", 503),
    ],
)
def test_a_server_error_in_the_middle_is_tried_again(connected, run, method, path, status):
    connected.fail(method, path, status)
    push_run(run, Destination(NAME))
    assert published(connected)["model.safetensors"] == (run.path / "model.safetensors").read_bytes()
    assert len(connected.repositories[NAME].commits) == 2
    assert connected.calls("PUT", "/lfs/") <= 3  # each large file once, and the one that failed


def test_nothing_is_half_published_when_the_server_goes_on_failing(connected, run):
    connected.fail("POST", "/commit/", 500, times=100)
    with pytest.raises(UserError, match="the hub answers 500 and goes on doing so; nothing of owner/student was publ"):
        push_run(run, Destination(NAME))
    assert published(connected).keys() == {".gitattributes"}
    assert not (run.path / "published.json").exists()
    assert connected.calls("POST", "/commit/") == 4
    connected.failures.clear()
    push_run(run, Destination(NAME))  # the empty repository of the first try is taken
    assert "model.safetensors" in published(connected)


def test_a_commit_whose_answer_got_lost_is_not_made_twice(connected, run):
    connected.fail("POST", "/commit/", LOST)
    url = push_run(run, Destination(NAME))
    assert len(connected.repositories[NAME].commits) == 2
    assert url.endswith(connected.repositories[NAME].commits[-1].oid)


def test_no_connection_is_one_sentence(run, connected):
    connected.close()
    with pytest.raises(UserError, match="the hub cannot be reached"):
        push_run(run, Destination(NAME))


def test_a_hub_that_is_switched_off_is_one_sentence(run, connected, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="switched off"):
        push_run(run, Destination(NAME))


@pytest.mark.parametrize(
    ("missing", "message"),
    [("results.json", "has no results.json"), ("model.safetensors", "has no model.safetensors; expected a run folder")],
)
def test_a_folder_without_results_or_student_is_refused_before_the_hub_is_asked(run, hub, missing, message):
    (run.path / missing).unlink()
    with pytest.raises(UserError, match=message):
        push_run(run, Destination(NAME), dry_run=True)
    assert not hub.requests
