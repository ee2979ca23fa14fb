"""Made-up corpora, students and teachers for the benchmarks of training: real files, the real trainer."""

from __future__ import annotations

import copy
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from transformers import set_seed

from kd_asr_slr.arguments import DataArguments, DistillationArguments, ModelArguments, TeacherArguments
from kd_asr_slr.command_line import parse
from kd_asr_slr.teachers.frozen import FrozenTeacher
from kd_asr_slr.teachers.pool import TeacherPool
from kd_asr_slr.training.building import build_trainer
from kd_asr_slr.training.caching import cache_teachers
from kd_asr_slr.training.data import load_data
from kd_asr_slr.training.session import announce
from kd_asr_slr.training.settings import aggregation_settings
from kd_asr_slr.training.student import build_processor, build_student
from kd_asr_slr.training.teaching import build_teachers
from kd_asr_slr.training.trainer import DistillationTrainer

POINTS = 543  # of MediaPipe Holistic
GLOSSES = 1228  # of PHOENIX-2014; with the blank V is 1,229


def phoenix_like_lengths(count: int, seed: int = 0) -> np.ndarray:
    """Frames of sentences: mean, deviation, least and most are those of PHOENIX-2014's training set."""
    drawn = np.random.default_rng(seed).gamma((141 / 43) ** 2, 43**2 / 141, count)
    return drawn.clip(27, 299).astype(int)


def write_landmarks(folder: Path, lengths: Sequence[int]) -> None:
    """A manifest of random walks of landmarks, and the list of all glosses."""
    generator = np.random.default_rng(0)
    glosses = [f"G{number:04d}" for number in range(GLOSSES)]
    rows = []
    for number, frames in enumerate(lengths):
        walk = generator.standard_normal((frames, POINTS, 3)).cumsum(0) / np.sqrt(frames)
        np.save(folder / f"{number}.npy", walk.astype(np.float32))
        rows.append((f"{number}.npy", " ".join(generator.choice(glosses, max(frames // 13, 1)))))
    write_manifest(folder, rows)
    (folder / "glosses.txt").write_text("\n".join(glosses), encoding="utf-8")


def write_speech(folder: Path, seconds: Sequence[float], words: int = 400) -> None:
    """A manifest of noise at 16 kHz, with a few words each."""
    generator = np.random.default_rng(0)
    names = [f"W{number:04d}" for number in range(words)]
    rows = []
    for number, length in enumerate(seconds):
        noise = 0.1 * generator.standard_normal(int(16000 * length))
        soundfile.write(folder / f"{number}.wav", noise.astype(np.float32), 16000)
        rows.append((f"{number}.wav", " ".join(generator.choice(names, max(int(length / 0.4), 1)))))
    write_manifest(folder, rows)
    (folder / "glosses.txt").write_text("\n".join(names), encoding="utf-8")


def write_manifest(folder: Path, rows: Sequence[tuple[str, str]]) -> None:
    """`manifest.csv`: everything trains, the first utterances are dev and test too under other ids."""
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "path", "text", "speaker", "split"))
        writer.writerows((f"u{number:07d}", *row, "one", "train") for number, row in enumerate(rows))
        for split in ("dev", "test"):
            writer.writerow((split, *rows[0], "one", split))


def arguments_of(corpus: Path, output: Path, **options: Any) -> list[Any]:
    """The arguments of a run as a command line would give them: data, model, teachers, training."""
    given = {
        "manifest": corpus / "manifest.csv",
        "vocabulary": corpus / "glosses.txt",
        "output_dir": output,
        "media_check": "none",
        "report_to": "none",
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": "false",
        "logging_strategy": "no",
        "disable_tqdm": "true",
        **options,
    }
    words = [
        word
        for name, value in given.items()
        for word in (f"--{name}", *map(str, value if isinstance(value, list) else [value]))
    ]
    return parse([DataArguments, ModelArguments, TeacherArguments, DistillationArguments], [*words, "--teachers", "-"])


class Scene:
    """One corpus and student, with as many teachers of the student's size as are asked for.

    Args:
        corpus: folder of `write_landmarks` or `write_speech`.
        output: where soft targets go.
        **options: of the run.
    """

    def __init__(self, corpus: Path, output: Path, **options: Any) -> None:
        self.output = output
        self.data, self.model, self.teaching, self.training = arguments_of(corpus, output, **options)
        self.teaching.aggregation = "logprob_mean"
        announce(self.training)
        self.corpus = load_data(self.data)
        self.processor = build_processor(self.model, self.data, self.corpus)

    def pool(self, count: int) -> TeacherPool:
        """Live teachers, with weights of their own."""
        teachers = [
            FrozenTeacher(self.student(seed), self.processor, f"teacher {seed}", student_features=self.features)
            for seed in range(1, count + 1)
        ]
        return TeacherPool(teachers, aggregation_settings(self.teaching))

    @property
    def features(self) -> str:
        """The fingerprint of everybody's features."""
        return self.processor.fingerprint

    def student(self, seed: int = 0) -> torch.nn.Module:
        """A new network."""
        return build_student(self.model, self.processor, seed)

    def cached(self) -> Any:
        """Soft targets of one teacher, written as recipes/cache_teachers.py does, and opened."""
        self.teaching.teacher_cache = str(self.output / "targets")
        cache_teachers(self.pool(1), self.teaching, self.processor, self.corpus, self.data, self.training)
        self.teaching.teachers = []
        return build_teachers(self.teaching, self.processor, self.corpus, self.data)

    def trainer(self, teachers: Any = None) -> DistillationTrainer:
        """The trainer of a run with these teachers, or on labels only."""
        training = copy.copy(self.training)
        if teachers is None:
            training.alpha, training.beta = 0.0, 1.0
        set_seed(0)
        return build_trainer(self.student(), self.processor, self.corpus, self.data, training, teachers)


class Steps:
    """Training steps of a trainer, one a call: a batch from its loader, forward, losses, backward, update. A call
    returns the batch.

    Args:
        trainer: see `Scene.trainer`.
    """

    def __init__(self, trainer: DistillationTrainer) -> None:
        self.trainer = trainer
        trainer.create_optimizer()
        trainer.create_scheduler(10**6)
        self.model = trainer.accelerator.prepare(trainer.model)
        self.loader = trainer.get_train_dataloader()
        self._batches = self._endless()

    def _endless(self) -> Iterator[dict[str, Any]]:
        while True:
            yield from self.loader

    def batch(self) -> tuple[list[dict[str, Any]], torch.Tensor]:
        """The next step's batch and its utterances, as the trainer takes them."""
        return self.trainer.get_batch_samples(self._batches, 1, self.trainer.args.device)

    def __call__(self) -> dict[str, Any]:
        batches, count = self.batch()
        self.trainer.training_step(self.model, batches[0], count)
        self.trainer._clip_grad_norm(self.model)
        self.trainer.optimizer.step()
        self.trainer.lr_scheduler.step()
        self.model.zero_grad()
        return batches[0]
