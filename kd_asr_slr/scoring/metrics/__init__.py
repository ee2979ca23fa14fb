"""The `evaluate` modules of the package, loaded by path without a network, and the hub's of the same values.

One more metric is a folder `<name>/<name>.py` here; its import lines are one a line, as `evaluate` reads them.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from kd_asr_slr.errors import UserError
from kd_asr_slr.scoring.protocols import hub_words
from kd_asr_slr.scoring.rates import refuse_empty

if TYPE_CHECKING:
    import evaluate

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).resolve().parent
ON_HUB = ("wer",)  # those that the hub has too, under the same name and with the same values
SOURCES = ("auto", "hub", "package")


def metric_names() -> list[str]:
    """Return the names of the packaged metrics."""
    return sorted(folder.name for folder in FOLDER.iterdir() if (folder / f"{folder.name}.py").is_file())


def load_metric(name: str, source: str = "auto") -> evaluate.EvaluationModule:
    """Load a metric: the hub's where there is a network, the packaged one where there is none. Both give one value.

    The hub's `wer` is code that `evaluate` downloads and runs, and it needs jiwer; "package" keeps away from both.

    Args:
        name: "wer" or "wra"; the hub has only the first.
        source: "auto", "hub" (an error where it cannot be loaded) or "package".

    Raises:
        UserError: if there is no metric of that name, no such source, or the hub's metric cannot be loaded and only
            that was asked for.

    Example:
        >>> load_metric("wer").compute(predictions=["ONE TWO"], references=["ONE"])
        1.0
    """
    if name not in metric_names():
        raise UserError(f"unknown metric '{name}'", expected=f"one of {', '.join(metric_names())}")
    if source not in SOURCES:
        raise UserError(f"unknown source of metrics '{source}'", expected=f"one of {', '.join(SOURCES)}")
    import evaluate

    if source == "hub" or (source == "auto" and name in ON_HUB and not _is_switched_off()):
        try:
            return _strict(evaluate.load(name, module_type="metric", keep_in_memory=True))
        except Exception as error:  # no network, no jiwer, a hub that is down: whatever it is, there is the other one
            if source == "hub":
                raise UserError(
                    f"the hub's metric '{name}' cannot be loaded ({type(error).__name__}: {error})",
                    fix="take the packaged one, which gives the same values (source 'package')",
                ) from error
            logger.info("the hub's metric %s cannot be loaded (%s); the packaged one is", name, type(error).__name__)
    # In memory: two processes would otherwise share one cache file.
    return evaluate.load(str(FOLDER / name), keep_in_memory=True)


def _strict(metric: evaluate.EvaluationModule) -> evaluate.EvaluationModule:
    """The hub's metric with the packaged one's refusal: jiwer 4 gives a number where a reference is empty."""
    compute = metric._compute

    def refuse_then_compute(*, predictions: list[str], references: list[str], **options: object) -> float:
        refuse_empty([hub_words(text) for text in references])
        return compute(predictions=predictions, references=references, **options)

    metric._compute = refuse_then_compute
    return metric


def _is_switched_off() -> bool:
    """Whether the user wants no network; `evaluate` itself knows only its own switch."""
    import evaluate
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE or evaluate.config.HF_EVALUATE_OFFLINE
