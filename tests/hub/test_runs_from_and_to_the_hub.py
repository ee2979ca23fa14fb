"""From the hub and to it: runs that are published when they end, teachers by name and commit, a stranger's download."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from loopback_hub import LoopbackHub, environment_of
from safetensors.torch import load_file
from saved_models import media_of, save

from kd_asr_slr.errors import UserError
from kd_asr_slr.models.auto import load_model
from kd_asr_slr.processing.auto import load_processor

RUN = {
    "corpus": "synthetic_speech", "model": "bilstm", "report_to": "none", "use_cpu": "true", "disable_tqdm": "true",
    "corpus_options": {
        "speakers": 2, "words": 3, "takes": {"train": 2, "dev": 1, "test": 1}, "difficulty": 0.1,
        "severity": [0.0, 0.2], "seed": 3,
    },
    "model_options": {"hidden_size": 8, "num_layers": 1, "stride": 4}, "num_train_epochs": 1,
    "feature_options": {"feature_size": 16, "hop_seconds": 0.02},
}  # fmt: skip


def recipe(repository: Path, name: str, **options: object) -> int:
    """Run a recipe in this process; its exit code."""
    words = [str(repository / "recipes" / f"{name}.py")]
    for key, value in options.items():
        words += [f"--{key}", json.dumps(value) if isinstance(value, dict) else str(value)]
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", words[0])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        try:
            module.run_recipe(module.main)
        except SystemExit as ended:
            return int(ended.code or 0)
    return 0


def put(hub: LoopbackHub, name: str, folder: Path, private: bool = False) -> str:
    return hub.put(name, {file.name: file.read_bytes() for file in folder.iterdir()}, private)


@pytest.mark.slow
def test_a_run_is_published_at_its_end_and_teaches_by_name_and_commit(connected, repository, tmp_path, as_a_stranger):
    push = {"push_to_hub": "true", "hub_model_id": "owner/teacher"}
    assert recipe(repository, "train", output_dir=tmp_path / "teacher", **RUN, **push, data_dir=tmp_path / "data") == 0
    taught = connected.repositories["owner/teacher"]
    assert taught.private and len(taught.commits) == 2  # no checkpoint was ever published
    commit = taught.commits[-1].oid
    connected.put("owner/teacher", {"config.json": b"{}"})  # a later commit that the pinned one is not touched by
    assert (
        recipe(
            repository, "distill", output_dir=tmp_path / "student", data_dir=tmp_path / "data",
            teachers=f"owner/teacher@{commit}", **RUN, push_to_hub="true", hub_private_repo="false",
            preflight_batches=0,
        )
        == 0
    )  # fmt: skip
    student = connected.repositories["owner/student"]
    assert not student.private
    card = ModelCard(student.commits[-1].files["README.md"].decode())
    link = f"[`owner/teacher`](https://huggingface.co/owner/teacher/tree/{commit}) (commit {commit[:8]})"
    assert f"- Teachers: {link}." in card.text, card.text
    results = json.loads((tmp_path / "student" / "results.json").read_text())
    assert results["teachers"][0]["revision"] == commit

    waveforms = media_of("bilstm")
    wanted = {"owner/student": {"media": waveforms, "audio": True, "resaved": None}}
    found = as_a_stranger(wanted, **environment_of(connected, tmp_path))["owner/student"]
    model, processor = load_model(str(tmp_path / "student")), load_processor(tmp_path / "student")
    with torch.no_grad():
        ours = model(**processor(waveforms, return_tensors="pt")).logits
    assert torch.equal(found["logits"], ours)
    assert found["pipeline"] == found["texts"] == processor.batch_decode(ours.argmax(-1))


def test_a_run_that_may_not_be_published_is_refused_before_it_trains(connected, repository, tmp_path, capsys):
    connected.put("owner/taken", {"config.json": b"{}"})
    push = {"push_to_hub": "true", "hub_model_id": "owner/taken"}
    code = recipe(repository, "train", output_dir=tmp_path / "run", data_dir=tmp_path / "data", **RUN, **push)
    assert code == 2
    assert "the repository owner/taken exists and holds a model" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_pinned_revision_is_what_is_read(connected, tmp_path):
    first = save("bilstm", tmp_path / "run")
    commit = put(connected, "owner/model", first)
    weights = load_file(first / "model.safetensors")
    moved = {name: value + 1 for name, value in weights.items()}
    torch_state = load_model(str(first)).state_dict()
    from safetensors.torch import save_file

    save_file(moved, first / "model.safetensors", metadata={"format": "pt"})
    put(connected, "owner/model", first)
    pinned = load_model(f"owner/model@{commit}").state_dict()
    assert all(torch.equal(pinned[name], value) for name, value in torch_state.items())
    assert all(torch.equal(load_model("owner/model", revision=commit).state_dict()[n], pinned[n]) for n in pinned)
    latest = load_model("owner/model").state_dict()
    assert not torch.equal(latest["head.weight"], pinned["head.weight"])
    assert load_processor(f"owner/model@{commit}").tokens == load_processor(first).tokens


@pytest.mark.parametrize(
    ("place", "revision", "message"),
    [
        ("owner/model@main", "v2", r"owner/model@main is asked for at revision v2; expected one revision"),
        ("owner/model@", None, r"'owner/model@' is no name with a revision; expected OWNER/NAME@REVISION"),
        ("owner/model@nowhere", None, r"the model owner/model cannot be read: "),
        ("owner/nothing", None, r"the model owner/nothing cannot be read: "),
    ],
)
def test_names_that_lead_nowhere(connected, tmp_path, place, revision, message):
    put(connected, "owner/model", save("bilstm", tmp_path / "run"))
    with pytest.raises(UserError, match=message):
        load_model(place, revision=revision)


def test_pickled_weights_on_the_hub_are_refused(connected, tmp_path):
    folder = save("bilstm", tmp_path / "run")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    put(connected, "owner/pickled", folder)
    with pytest.raises(UserError, match=r"owner/pickled has its weights as pytorch_model\.bin, a pickle, which"):
        load_model("owner/pickled")


def test_code_of_others_is_never_run(connected, tmp_path, monkeypatch):
    """A model of an unknown type with code beside it: refused at once, without a question at the terminal."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    code = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\nclass Config: pass\n"
    (folder / "configuration_foreign.py").write_text(code)
    settings = {"model_type": "foreign", "auto_map": {"AutoConfig": "configuration_foreign.Config"}}
    (folder / "config.json").write_text(json.dumps(settings))
    put(connected, "owner/foreign", folder)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    with pytest.raises(UserError, match="the model owner/foreign cannot be read"):
        load_model("owner/foreign")
    with pytest.raises(UserError, match="owner/foreign"):
        load_processor("owner/foreign")
    assert not (tmp_path / "ran").exists()
