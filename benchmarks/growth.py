"""From 1,000 to 100,000 utterances: time per utterance and memory, from the manifest to the batches of an epoch."""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from common import Suite

SMALL, LARGE, QUICK = 1_000, 100_000, 10_000
PARTS = ("loading", "checking files", "measuring lengths", "checking labels")
BATCHES = 60  # of an epoch
FRAMES = 30
LINKS = 10_000  # to one file; file systems have a limit
WATCHED_EVERY = 0.01  # seconds
WORDS = [f"B{number}" for number in range(7)]


def make_corpus(folder: Path, utterances: int) -> None:
    """A manifest of so many utterances, each of which has a small file of its own."""
    import numpy as np

    frames = np.random.default_rng(0).standard_normal((FRAMES, 16)).astype(np.float32)
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "path", "text", "speaker", "split"))
        for number in range(utterances):
            first, path = number - number % LINKS, folder / f"{number}.npy"
            np.save(path, frames) if number == first else os.link(folder / f"{first}.npy", path)
            writer.writerow((f"u{number:07d}", path.name, f"A{number % 50} B{number % 7}", "one", "train"))
        for split in ("dev", "test"):
            writer.writerow((split, "0.npy", "A0 B0", "one", split))
    (folder / "glosses.txt").write_text("\n".join([f"A{number}" for number in range(50)] + WORDS), encoding="utf-8")


def measure(folder: str) -> dict[str, float]:
    """Processor seconds of each part of a start; to be called in a fresh process."""
    from scene import Scene, build_trainer

    from kd_asr_slr.corpora.media_check import check_media
    from kd_asr_slr.training.preflight import label_problems

    place, options = Path(folder), {"model": "bilstm", "model_options": '{"hidden_size": 8, "num_layers": 1}'}
    options |= {"features": "raw", "feature_cache_mb": 0, "batch_frames": 8 * FRAMES}
    seconds: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        result: list[Any] = []
        seconds[name] = _processor_seconds(lambda: result.append(call()))
        return result[0]

    scene = timed("loading", lambda: Scene(place, place / "out", **options))
    timed("checking files", lambda: check_media(scene.corpus))
    scene.training.alpha, scene.training.beta = 0.0, 1.0
    parts = (scene.student(), scene.processor, scene.corpus, scene.data, scene.training)
    trainer = timed("measuring lengths", lambda: build_trainer(*parts))
    timed("checking labels", lambda: label_problems(trainer.train_dataset, trainer))
    batches = iter(trainer.get_train_dataloader())
    timed("first batch", lambda: next(batches))
    seconds["batch"] = statistics.median(_processor_seconds(lambda: next(batches)) for _ in range(BATCHES))
    return seconds


def _processor_seconds(call: Callable[[], Any]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def in_fresh_process(utterances: int) -> dict[str, float]:
    """`measure`, in a process of its own, and the peak of what that one holds in memory, in bytes.

    Raises:
        RuntimeError: if it fails.
    """
    script = "import sys, json; from growth import measure; print(json.dumps(measure(sys.argv[1])))"
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as said:
        make_corpus(Path(folder), utterances)
        words = [sys.executable, "-c", script, folder]
        process = subprocess.Popen(words, cwd=Path(__file__).parent, stdout=said, stderr=subprocess.STDOUT)
        peak = 0
        while process.poll() is None:
            peak = max(peak, held_by(process.pid))
            time.sleep(WATCHED_EVERY)
        said.seek(0)
        lines = said.read().splitlines()
    if process.returncode:
        raise RuntimeError("\n".join([f"{utterances} utterances failed:", *lines]))
    return json.loads(next(line for line in lines if line.startswith("{"))) | {"peak": peak}


def held_by(process: int) -> int:
    """Bytes that no other process can have: without the pages of mapped files, which the system takes back when it
    wants them; 0 once the process is over."""
    try:
        memory = psutil.Process(process).memory_info()
    except psutil.Error:
        return 0
    return memory.rss - getattr(memory, "shared", 0)  # Linux counts files there; elsewhere they are not told apart


def main() -> int:
    """The exit status: 0, since there are no two sides to disagree."""
    suite = Suite("growth", __doc__.splitlines()[0])
    large = QUICK if suite.quick else LARGE
    few, many = in_fresh_process(SMALL), in_fresh_process(large)
    sizes = f"{large:,} over {SMALL:,} utterances"
    for part in PARTS:
        each = many[part] / large
        note = f"{1e6 * each:.0f} microseconds of one processor an utterance"
        suite.at_most(f"{part}: time per utterance, {sizes}", each / (few[part] / SMALL), 1.2, note=note)
    suite.at_most(f"a batch in the middle of an epoch: time, {sizes}", many["batch"] / few["batch"], 1.2)
    suite.show(f"first batch, with the order of the epoch: seconds at {large:,}", many["first batch"])
    grown = (many["peak"] - few["peak"]) / (large - SMALL)
    note = (
        f"{grown:.0f} bytes an utterance (lengths, and the order of an epoch); {few['peak'] / 2**20:.0f} MiB at "
        f"{SMALL:,}, mostly libraries; the rows are in a mapped file, whose pages are not counted"
    )
    suite.at_most(f"peak of what the process holds, {sizes}", many["peak"] / few["peak"], 1.05, note=note)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
