"""Every command of README.md and docs/*.md is run as it is typed, or is listed with the reason why not and parsed.

What differs from a reader's terminal:
- the corpora are tiny trees in the layouts that the documents state (`trees`), and no recipe is left out;
- options are appended (`TINY`): one epoch, small networks, no check that an untrained teacher must fail;
- recipes run in this process, without `accelerate launch` or `python` before them, to save the start of 40 programs;
  the first command of README.md, torchrun's and the package's own are run by a shell, launcher and all.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.launch import launch_command_parser
from documents import DOCUMENTS, OTHERS, REPOSITORY, Command, commands_of, programs_of
from recipe_runs import Result, run
from trees import TREES

from kd_asr_slr import command_line

EPOCH = {"num_train_epochs": 1, "use_cpu": "true", "warmup_steps": 1}
TEACHING = {"allow_worse_teacher": "true", "preflight_batches": 0}
RECIPES: dict[str, dict[str, Any]] = {
    "train": EPOCH,
    "adapt_teachers": EPOCH,
    "overfit": {"utterances": 2, "epochs": 2, "use_cpu": "true"},
    "distill": {**EPOCH, **TEACHING},
    "cache_teachers": {"use_cpu": "true"},
}
BILSTM = {"hidden_size": 8, "num_layers": 2, "stride": 2}
HYBRID = {"encoder_layers": 1, "d_model": 16, "encoder_heads": 2, "decoder_layers": 1, "decoder_heads": 2}
MODELS = {
    "phoenix.md": {**BILSTM, "num_layers": 4, "stride": 4},
    "uaspeech.md": {**HYBRID, "decoder_ffn_dim": 16},
    "torgo.md": {**HYBRID, "decoder_ffn_dim": 16},
}
SPEECH = {"speakers": 4, "words": 4, "takes": {"train": 3, "dev": 1, "test": 1}, "seed": 7}
SIGN = {"signers": 2, "sentences": {"train": 8, "dev": 3, "test": 3}, "seed": 7}
# A made tree is not the whole corpus, and two epochs teach nobody: the recipe says so, and ends with 2.
SAYS = {"prepare_data": "problems", "overfit": "0 % WER after 2 epochs"}

COMMANDS = [command for path in DOCUMENTS for command in commands_of(path)]


class Parsed(Exception):
    """A recipe has read its command line."""


def starts_from_a_run(command: Command) -> bool:
    """Whether the command's configuration names a trained model, whose size is settled."""
    configs = [REPOSITORY / word for word in command.words if word.endswith(".yaml")]
    return any("/" in yaml.safe_load(config.read_text()).get("model", "") for config in configs if config.is_file())


def tiny(command: Command) -> list[str]:
    """The options that are appended to a command."""
    options = dict(RECIPES.get(command.recipe, {}))
    if command.recipe in ("train", "distill", "overfit") and not starts_from_a_run(command):
        options["model_options"] = MODELS.get(command.document, BILSTM)
    for mark, corpus in (("demo/speech", SPEECH), ("demo/sign", SIGN)):
        if mark in command.text and "--config" in command.text:
            options["corpus_options"] = corpus
    if "--help" in command.words:
        return []
    words = [(name, json.dumps(value) if isinstance(value, dict) else str(value)) for name, value in options.items()]
    return [word for name, value in words for word in (f"--{name}", value)]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout to type in: recipes, configs, docs and the package are those of this one."""
    folder = tmp_path / "kd_asr_slr"
    folder.mkdir()
    for name in ("recipes", "configs", "docs", "kd_asr_slr", "accelerate_config.yaml"):
        (folder / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def check(command: Command, result: Result) -> None:
    """A command must have done its work, or have said what it had to say of a tiny corpus."""
    written = result.out + result.err
    if result.code == 2 and command.recipe in SAYS:
        assert SAYS[command.recipe] in written, f"{command.text}\n{written}"
        return
    assert result.code == 0, f"{command.text}\n{written}"


def in_shell(command: Command, checkout: Path) -> Result:
    """The command, literally, with its launcher."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["sh", "-c", f"{command.text} {shlex.join(tiny(command))}"],
        cwd=checkout, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("document", sorted({c.document for c in COMMANDS if c.recipe and not c.only_parsed}))
def test_what_the_document_says_works(document: str, checkout: Path) -> None:
    if document in TREES:
        TREES[document](checkout)
    runs = [c for c in COMMANDS if c.document == document and not c.only_parsed]
    commands = [c for c in runs if c.recipe or c.of_the_package]
    for number, command in enumerate(commands):
        literally = "torchrun" in command.text or command.of_the_package or (document == "README.md" and number == 0)
        if literally:
            check(command, in_shell(command, checkout))
        else:
            check(command, run(command.recipe, *command.arguments, *tiny(command)))
    for program in programs_of(document):
        environment = {**os.environ, "HF_HOME": str(checkout.parent / "hf"), "HF_HUB_OFFLINE": "1"}
        python = [sys.executable, "-P", "-c", program]  # -P: not the package that lies in this folder
        done = subprocess.run(python, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{program}\n{done.stderr}"


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.only_parsed], ids=lambda command: command.text[:70])
def test_what_cannot_run_here_is_read_by_its_parser(
    command: Command, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command.words[:2] == ["accelerate", "launch"]:  # its own options, before the recipe
        launch_command_parser().parse_args(command.words[2:])
    parse, parse_args = command_line.parse, argparse.ArgumentParser.parse_args

    def and_stop(function: Any) -> Any:
        def stopping(*args: Any, **kwargs: Any) -> None:
            function(*args, **kwargs)
            raise Parsed

        return stopping

    monkeypatch.setattr(command_line, "parse", and_stop(parse))
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", and_stop(parse_args))
    if command.recipe is None:
        assert shutil.which(command.words[0]), command.text
        return
    with pytest.raises(Parsed):
        run(command.recipe, *command.arguments)


def test_every_command_is_run_or_listed() -> None:
    assert len(COMMANDS) > 40
    strange = [
        command for command in COMMANDS
        if not (command.recipe or command.of_the_package or command.text.startswith(tuple(OTHERS)))
    ]  # fmt: skip
    assert not strange, "neither run nor listed:\n" + "\n".join(f"{c.document}: {c.text}" for c in strange)
    unused = [part for part in OTHERS if not any(c.text.startswith(part) for c in COMMANDS)]
    assert not unused


def test_every_recipe_is_in_the_documents() -> None:
    recipes = {path.stem for path in (REPOSITORY / "recipes").glob("*.py")}
    assert recipes == {command.recipe for command in COMMANDS} - {None}
