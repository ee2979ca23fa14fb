"""From 1,000 to 100,000 utterances: time per utterance and memory, from the manifest to the batches of an epoch."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import Suite

SMALL, LARGE, QUICK = 1_000, 100_000, 10_000
BATCHES = 60  # of an epoch
FRAMES = 30
WORDS = [f"B{number}" for number in range(7)]


def make_corpus(folder: Path, utterances: int) -> None:
    """A manifest of so many utterances, all of which have the same small file."""
    import numpy as np
    from scene import write_manifest

    np.save(folder / "0.npy", np.random.default_rng(0).standard_normal((FRAMES, 16)).astype(np.float32))
    write_manifest(folder, [("0.npy", f"A{number % 50} B{number % 7}") for number in range(utterances)])
    (folder / "glosses.txt").write_text("\n".join([f"A{number}" for number in range(50)] + WORDS), encoding="utf-8")


def measure(folder: str, utterances: int) -> dict[str, float]:
    """Processor seconds of each part of a start, and the peak of the process in bytes; to be called in a fresh one."""
    from scene import Scene, build_trainer

    from kd_asr_slr.training.preflight import label_problems

    place, options = Path(folder), {"model": "bilstm", "model_options": '{"hidden_size": 8, "num_layers": 1}'}
    options |= {"features": "raw", "feature_cache_mb": 0, "batch_frames": 8 * FRAMES}
    make_corpus(place, utterances)
    seconds: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        result: list[Any] = []
        seconds[name] = _processor_seconds(lambda: result.append(call()))
        return result[0]

    scene = timed("loading", lambda: Scene(place, place / "out", **options))
    scene.training.alpha, scene.training.beta = 0.0, 1.0
    parts = (scene.student(), scene.processor, scene.corpus, scene.data, scene.training)
    trainer = timed("measuring lengths", lambda: build_trainer(*parts))
    timed("checking labels", lambda: label_problems(trainer.train_dataset, trainer))
    batches = iter(trainer.get_train_dataloader())
    timed("first batch", lambda: next(batches))
    seconds["batch"] = statistics.median(_processor_seconds(lambda: next(batches)) for _ in range(BATCHES))
    return seconds | {"peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


def _processor_seconds(call: Callable[[], Any]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def in_fresh_process(utterances: int) -> dict[str, float]:
    """`measure`, in a process of its own.

    Raises:
        RuntimeError: if it fails.
    """
    script = "import sys, json; from growth import measure; print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))"
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-c", script, folder, str(utterances)]
        done = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{utterances} utterances failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """The exit status: 0, since there are no two sides to disagree."""
    suite = Suite("growth", __doc__.splitlines()[0])
    large = QUICK if suite.quick else LARGE
    few, many = in_fresh_process(SMALL), in_fresh_process(large)
    sizes = f"{large:,} over {SMALL:,} utterances"
    for part in ("loading", "measuring lengths", "checking labels"):
        each = many[part] / large
        note = f"{1e6 * each:.0f} microseconds of one processor an utterance"
        suite.at_most(f"{part}: time per utterance, {sizes}", each / (few[part] / SMALL), 1.2, note=note)
    suite.at_most(f"a batch in the middle of an epoch: time, {sizes}", many["batch"] / few["batch"], 1.2)
    suite.show(f"first batch, with the order of the epoch: seconds at {large:,}", many["first batch"])
    grown = (many["peak"] - few["peak"]) / (large - SMALL)
    note = f"{grown:.0f} bytes an utterance: its row and its length; {few['peak'] / 2**20:.0f} MiB at {SMALL:,}"
    suite.at_most(f"peak of the process, {sizes}", many["peak"] / few["peak"], 1.3, note=note)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
