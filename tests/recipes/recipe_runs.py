"""Tiny corpora of real files, and the recipes run as a user runs them: in process, or as programs."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import importlib.util
import io
import json
import os
import runpy
import subprocess
import sys
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from terminal import Screen, terminal

from kd_asr_slr.errors import run_recipe
from kd_asr_slr.progress import Progress

Refuse = Callable[..., str]  # runs a recipe that must be refused; returns its message
REPOSITORY = Path(__file__).resolve().parents[2]
WORDS = ("ONE", "TWO", "SIX", "TEN")
SPEAKERS = ("anna", "bert")
TAKES = {"train": 3, "dev": 1, "test": 2}
RATE = 8000
WIDTH = 5  # values a frame of the feature corpus
ENTRY = {"split", "decoder", "lm", "protocol", "wer", "substitutions", "deletions", "insertions"} | {
    "reference_tokens", "utterances", "wer_ci95", "wra", "by_speaker", "wra_ci95", "wer_ci95_speakers",
    "wra_ci95_speakers", "cer", "wra_first_word", "distinct_predictions", "commonest_prediction", "empty_predictions",
    "macro",
}  # fmt: skip

CORPUS = "tones"
SMALL = {"hidden_size": 8, "num_layers": 1, "dropout": 0.0}
SPEECH = {
    "corpus_name": CORPUS,
    "model_options": {**SMALL, "stride": 4},
    "feature_options": {"feature_size": 16, "hop_seconds": 0.02},
}
TRAINING = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 16,
    "learning_rate": "2e-2",
    "use_cpu": True,
}
FEATURE_OPTIONS = {"model_options": {**SMALL, "stride": 2}}
LEARNER = {  # of a network that learns the tones
    **SPEECH,
    "model_options": {**SPEECH["model_options"], "hidden_size": 16},
    **TRAINING,
    "num_train_epochs": 20,
    "per_device_train_batch_size": 4,
}

HYBRID = {  # a tiny hybrid that learns the tones
    "corpus_name": CORPUS,
    "model": "nemo_hybrid",
    "model_options": {
        "num_mel_bins": 16, "encoder_layers": 1, "d_model": 32, "encoder_heads": 2, "conv_kernel_size": 7,
        "decoder_layers": 1, "decoder_heads": 2, "decoder_ffn_dim": 32, "max_source_positions": 200,
        "max_target_positions": 16, "conv_norm_type": "layer_norm", "dropout": 0.0, "attention_dropout": 0.0,
    },
    "feature_options": {"kind": "waveform", "sampling_rate": RATE},
    "hard_losses": ["ctc", "cross_entropy"],
    **TRAINING,
    "num_train_epochs": 12,
    "per_device_train_batch_size": 4,
    "learning_rate": "6e-3",
}  # fmt: skip


@dataclass
class Result:
    """What a recipe left behind: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


def run(name: str, *words: str | Path, **options: Any) -> Result:
    """A recipe's `main` in this process, as `python recipes/NAME.py WORDS --OPTION VALUE` would run it."""
    out, err = io.StringIO(), io.StringIO()
    arguments = [str(REPOSITORY / "recipes" / f"{name}.py"), *map(str, words), *line_of(options)]
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", arguments[0])
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    code = 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", arguments)
        patch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
        try:
            run_recipe(recipe.main)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Result(code, out.getvalue(), err.getvalue())


def run_watched(name: str, *words: str | Path, **options: Any) -> Screen:
    """A recipe's `main` in this process, with a terminal for its output; it must end well."""
    arguments = [str(REPOSITORY / "recipes" / f"{name}.py"), *map(str, words), *line_of(options)]
    with pytest.MonkeyPatch.context() as patch, terminal() as screen:
        patch.setattr(sys, "argv", arguments)
        for variable in ("TENSORBOARD_LOGGING_DIR", "TQDM_DISABLE", "RANK"):
            patch.delenv(variable, raising=False)
        patch.setattr(Progress, "drawn_every", 0.0)  # tiny steps show, too
        code = 0
        try:
            run_recipe(runpy.run_path(arguments[0])["main"])
        except SystemExit as end:
            code = end.code
    assert not code, screen.text
    return screen


def start(name: str, *words: str | Path, processes: int = 1, **options: Any) -> subprocess.Popen[str]:
    """A recipe as a program of its own; `processes` above 1 through torchrun."""
    program = [sys.executable]
    if processes > 1:
        program += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [*program, str(REPOSITORY / "recipes" / f"{name}.py"), *map(str, words), *line_of(options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=environment,
    )


def finished(process: subprocess.Popen[str]) -> Result:
    """Wait for a started recipe."""
    out, err = process.communicate(timeout=300)
    return Result(process.returncode, out, err)


def line_of(options: dict[str, Any]) -> list[str]:
    """Options as words of a command line; None leaves one out."""
    line: list[str] = []
    for name, value in options.items():
        if value is not None:
            values = value if isinstance(value, list | tuple) else [value]
            line += [f"--{name}", *(word(item) for item in values)]
    return line


def word(value: Any) -> str:
    """One value as it is typed."""
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, dict) else str(value)


def refused(result: Result, *parts: str) -> str:
    """The one message of a refused recipe, which must hold all `parts`."""
    assert result.code == 2, result
    assert "Traceback" not in result.err + result.out, result.err
    before, mark, message = result.err.partition("error: ")
    assert mark, f"no message on stderr: {result.err!r}"
    assert before == "" or before.endswith("\n"), result.err
    assert "error: " not in message.replace("\n", " \n "), f"more than one message: {result.err}"
    missing = [part for part in parts if part not in message]
    assert not missing, f"{missing} not in: {message}"
    assert str(REPOSITORY / "kd_asr_slr") not in message, message
    return message


def done(result: Result) -> Result:
    """A recipe that must have worked."""
    assert result.code == 0, f"{result.out}\n{result.err}"
    return result


def snapshot(*folders: Path) -> dict[str, str]:
    """Every file and folder below some folders, files with their checksum; an absent folder has no entry."""
    found: dict[str, str] = {}
    for folder in folders:
        for path in [folder, *sorted(folder.rglob("*"))] if folder.exists() else []:
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


def write_wav(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    """A mono 16-bit recording of samples between -1 and 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def utterances() -> list[dict[str, str]]:
    """The rows of the tiny corpora, without their files: every speaker says every word in every take."""
    return [
        {"id": f"{speaker}-{text}-{split}{take}", "text": text, "speaker": speaker, "split": split}
        for split, takes in TAKES.items()
        for take in range(takes)
        for speaker in SPEAKERS
        for text in WORDS
    ]


def tone(row: dict[str, str], seconds: float = 0.3) -> np.ndarray:
    """A word as two tones, higher for the second speaker, with a little noise of its own."""
    generator = np.random.default_rng(list(row["id"].encode()))
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = (300 + 350 * WORDS.index(row["text"])) * (1.0 + 0.1 * SPEAKERS.index(row["speaker"]))
    return 0.3 * np.sin(2 * np.pi * pitch * time) + 0.01 * generator.standard_normal(len(time))


def trajectory(row: dict[str, str], frames: int = 12) -> np.ndarray:
    """A gloss as a bump in one of the values, with a little noise of its own; [T, F]."""
    generator = np.random.default_rng(list(row["id"].encode()))
    features = 0.1 * generator.standard_normal((frames, WIDTH))
    features[3:-3, WORDS.index(row["text"])] += 2.0
    return features.astype(np.float32)


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    """A manifest as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a manifest."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def change_rows(path: Path, change: Callable[[list[dict[str, str]]], Any]) -> Path:
    """Rewrite a manifest with rows that `change` has changed in place (or returned)."""
    rows = read_rows(path)
    returned = change(rows)
    return write_rows(path, rows if returned is None else returned)


def write_speech_corpus(folder: Path) -> Path:
    """A corpus of wavs; returns its manifest."""
    rows = utterances()
    for row in rows:
        row["path"] = f"wav/{row['id']}.wav"
        write_wav(folder / row["path"], tone(row))
    return write_rows(folder / "manifest.csv", rows)


def write_feature_corpus(folder: Path) -> Path:
    """A corpus of npz features; returns its manifest."""
    rows = utterances()
    (folder / "npz").mkdir(parents=True)
    for row in rows:
        row["path"] = f"npz/{row['id']}.npz"
        np.savez(folder / row["path"], features=trajectory(row))
    return write_rows(folder / "manifest.csv", rows)


def distillation(manifest: Path, teacher: Path, output: Path | str) -> dict[str, object]:
    """The options of a distillation from one teacher of the wavs."""
    return {
        "manifest": manifest,
        "teachers": [teacher],
        "vocabulary": teacher,
        "output_dir": output,
        **SPEECH,
        **TRAINING,
    }
