"""The `evaluate` modules of the package, loaded by path: no network, the values of the hub's metrics.

One more metric is a folder `<name>/<name>.py` here; its import lines are one a line, as `evaluate` reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kd_asr_slr.errors import UserError

if TYPE_CHECKING:
    import evaluate

FOLDER = Path(__file__).resolve().parent


def metric_names() -> list[str]:
    """Return the names of the packaged metrics."""
    return sorted(folder.name for folder in FOLDER.iterdir() if (folder / f"{folder.name}.py").is_file())


def load_metric(name: str) -> evaluate.EvaluationModule:
    """Load a packaged metric, as `evaluate.load` loads the hub's, without the network.

    Args:
        name: "wer" or "wra".

    Raises:
        UserError: if there is no metric of that name.

    Example:
        >>> load_metric("wer").compute(predictions=["ONE TWO"], references=["ONE"])
        1.0
    """
    if name not in metric_names():
        raise UserError(f"unknown metric '{name}'", expected=f"one of {', '.join(metric_names())}")
    import evaluate

    # In memory: two processes would otherwise share one cache file.
    return evaluate.load(str(FOLDER / name), keep_in_memory=True)
