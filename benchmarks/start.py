"""How long it takes to start: the import of the package, the help of a command, the first training step of the demo."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import MIN_REPEATS, Suite

REPOSITORY = Path(__file__).resolve().parent.parent
SECONDS = 15
ENVIRONMENT = {"PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}


def command(*words: str) -> subprocess.Popen[str]:
    """A fresh Python process in the repository, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=REPOSITORY,
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def whole(*words: str) -> Callable[[], None]:
    """A call that runs a process to its end.

    Raises:
        RuntimeError: on call, if it fails.
    """

    def call() -> None:
        process = command(*words)
        _, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{' '.join(words)} failed:\n{errors}")

    return call


def seconds_of(call: Callable[[], None]) -> float:
    """Wall time of a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def first_step(config: str, folder: Path, *words: str) -> float:
    """Seconds from the command, as the demo types it, to the log line of the first training step.

    Args:
        config: under configs/demo.
        folder: of corpus and run.
        *words: more of the command line.

    Raises:
        RuntimeError: if it ends before.
    """
    launch = ("-m", "accelerate.commands.launch", "--quiet", "--config_file", "accelerate_config.yaml")
    options = ("--config", f"configs/demo/{config}.yaml", "--data_dir", str(folder / "data"))
    options += ("--output_dir", str(folder / "run"), "--overwrite_output_dir", "true")
    began = time.perf_counter()
    process = command(*launch, "recipes/train.py", *options, "--logging_strategy", "steps", "--logging_steps", "1")
    try:
        for line in process.stdout:
            if line.startswith("epoch"):
                return time.perf_counter() - began
        raise RuntimeError(f"{config} ended before its first step:\n{process.communicate()[1]}")
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the launcher's and the training's, both ours
        process.communicate()


def imports(suite: Suite) -> float:
    """Bar 8, first half; and what else one waits for. Returns the seconds of `import torch`."""
    sides = {
        "import torch": whole("-c", "import torch"),
        "import kd_asr_slr": whole("-c", "import kd_asr_slr"),
    }
    timing = suite.time(sides, repeats=MIN_REPEATS, warm_up=1)
    ratio = timing.ratio("import kd_asr_slr", "import torch")
    note = "the package imports torch where something of it does"
    suite.at_most("importing the package over importing torch", ratio, 1.1, timing, note)
    if suite.quick:
        return timing.median("import torch")
    for what, words in {
        "from transformers import Trainer": ("-c", "from transformers import Trainer"),
        "importing all of the training": ("-c", "import kd_asr_slr.training.building, kd_asr_slr.training.session"),
        "recipes/train.py --help": ("recipes/train.py", "--help"),
    }.items():
        suite.show(f"{what}: seconds", statistics.median(seconds_of(whole(*words)) for _ in range(3)))
    return timing.median("import torch")


def steps(suite: Suite, torch_seconds: float) -> None:
    """Bar 8, second half. The seconds are of this machine as busy as it is: what torch's import takes stands beside."""

    def note(taken: float) -> str:
        times = f"import torch takes {torch_seconds:.1f} s here; this is {taken / torch_seconds:.1f} times that"
        return (
            f"{times}. Floor: the launcher imports torch, the training torch and transformers' Trainer, about 4 times"
        )

    with tempfile.TemporaryDirectory() as folder:
        for config in ("speech_baseline", "sign_baseline")[: 1 if suite.quick else 2]:
            place = Path(folder) / config
            made = first_step(config, place)  # makes the corpus
            again = statistics.median(first_step(config, place) for _ in range(1 if suite.quick else 3))
            suite.at_most(f"{config}: seconds to the first step, the corpus made first", made, SECONDS, note=note(made))
            suite.at_most(f"{config}: seconds to the first step", again, SECONDS, note=note(again))


def main() -> int:
    """The exit status: 0, since there are no two sides to disagree."""
    suite = Suite("start", __doc__.splitlines()[0])
    steps(suite, imports(suite))
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
