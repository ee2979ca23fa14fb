"""Runs so small that one takes a second or two: the real arguments, corpus, student, teachers and trainer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file

from kd_asr_slr.arguments import DataArguments, DistillationArguments, ModelArguments, TeacherArguments
from kd_asr_slr.command_line import parse, resolved
from kd_asr_slr.training import session
from kd_asr_slr.training.building import build_trainer
from kd_asr_slr.training.caching import cache_teachers
from kd_asr_slr.training.data import load_data
from kd_asr_slr.training.preflight import preflight
from kd_asr_slr.training.student import build_processor, build_student
from kd_asr_slr.training.teaching import build_pool, build_teachers

REPOSITORY = Path(__file__).resolve().parents[2]
CLASSES = [DataArguments, ModelArguments, TeacherArguments, DistillationArguments]
SPEAKERS, WORDS, TAKES = 2, 4, {"train": 3, "dev": 2, "test": 1}
TRAINED = SPEAKERS * WORDS * TAKES["train"]  # 24 utterances

CORPUS = {"speakers": SPEAKERS, "words": WORDS, "takes": TAKES, "difficulty": 0.1, "severity": [0.0, 0.2], "seed": 3}
OPTIONS: dict[str, Any] = {
    "corpus": "synthetic_speech",
    "corpus_options": CORPUS,
    "model": "bilstm",
    "model_options": {"hidden_size": 8, "num_layers": 1, "stride": 4, "dropout": 0.0},
    "feature_options": {"feature_size": 16, "hop_seconds": 0.02},
    "num_train_epochs": 1,
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 16,
    "learning_rate": 1e-2,
    "lr_scheduler_type": "constant",
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
}
# One step of plain gradient descent a run, so that weights are gradients.
GRADIENT_DESCENT = {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0}


def command(**options: Any) -> list[str]:
    """Options as a command line; None leaves one out."""
    words: list[str] = []
    for name, value in {**OPTIONS, **options}.items():
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        words += [f"--{name}", *(_word(item) for item in values)]
    return words


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, dict) else str(value)


def parsed(**options: Any) -> SimpleNamespace:
    """The argument dataclasses of a run, through the real parser."""
    teaching = bool({"teachers", "teacher_cache", "generalist"} & {name for name in options if options[name]})
    classes = CLASSES if teaching else [item for item in CLASSES if item is not TeacherArguments]
    found = parse(classes, command(**options))
    names = {DataArguments: "data", ModelArguments: "model", TeacherArguments: "teaching"}
    arguments = SimpleNamespace(teaching=None)
    for item in found:
        setattr(arguments, names.get(type(item), "training"), item)
    if not teaching:
        arguments.training.alpha, arguments.training.beta, arguments.training.gamma = 0.0, 1.0, 0.0
    return arguments


def assemble(**options: Any) -> SimpleNamespace:
    """Everything a recipe builds before it trains: arguments, corpus, processor, student, teachers, trainer."""
    run = parsed(**options)
    session.announce(run.training)
    run.corpus = load_data(run.data)
    run.processor = build_processor(run.model, run.data, run.corpus)
    run.student = build_student(run.model, run.processor, seed=run.training.seed)
    run.teachers = build_teachers(run.teaching, run.processor, run.corpus, run.data) if run.teaching else None
    parts = (run.student, run.processor, run.corpus, run.data, run.training, run.teachers, run.teaching)
    run.trainer = build_trainer(*parts)
    return run


def check(run: SimpleNamespace) -> None:
    """The preflight of an assembled run."""
    preflight(run.trainer, run.processor, run.corpus, run.data, run.teaching)


def do_run(change: Callable[[SimpleNamespace], None] | None = None, **options: Any) -> SimpleNamespace | None:
    """A whole run as the recipes do it, from open folder to finished results; `change` may reach into it first.

    Returns None where the folder holds the finished run already.
    """
    arguments = parsed(**options)
    recipe = "distill" if arguments.teaching else "train"
    parts = [arguments.data, arguments.model, arguments.teaching, arguments.training]
    config = resolved(*(part for part in parts if part is not None))
    with session.open_run(arguments.training, recipe, config) as opened:
        if opened.finished:
            return None
        run = assemble(**options)
        check(run)
        if change is not None:
            change(run)
        session.train(run.trainer, opened)
        session.finish(run.trainer, opened, processor=run.processor, corpus=run.corpus, data=run.data)
    run.folder = Path(run.training.output_dir)
    return run


def cache(folder: Path, **options: Any) -> Path:
    """The soft targets of a run's teachers, written to a folder."""
    run = parsed(teacher_cache=folder, **options)
    session.announce(run.training)
    corpus = load_data(run.data)
    processor = build_processor(run.model, run.data, corpus)
    pool = build_pool(run.teaching, processor, corpus)
    cache_teachers(pool, run.teaching, processor, corpus, run.data, run.training)
    return folder


def recipe(name: str, *words: str, processes: int = 1, wait: bool = True, **options: Any) -> Any:
    """A recipe as a user types it: `python recipes/NAME.py`, or `torchrun` for several processes."""
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment.pop("TENSORBOARD_LOGGING_DIR", None)
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    line = [*start, str(REPOSITORY / "recipes" / f"{name}.py"), *command(**options), *words]
    settings = {"cwd": REPOSITORY, "env": environment, "text": True}
    if not wait:
        return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **settings)
    return subprocess.run(line, capture_output=True, timeout=300, check=False, **settings)


def weights(folder: Path | str) -> dict[str, torch.Tensor]:
    """The saved student's tensors."""
    return load_file(Path(folder) / "model.safetensors")


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Over all tensors; both must have the same names."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def logged(folder: Path, name: str) -> list[float]:
    """One series of the newest checkpoint's log history."""
    newest = max(Path(folder).glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    history = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    return [entry[name] for entry in history if name in entry]
