"""The metadata of a model card: what the hub's search, its pages and its leaderboards read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kd_asr_slr.reporting.card.context import CardContext
from kd_asr_slr.reporting.card.scores import decoding

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

LIBRARY = "kd_asr_slr"
TASKS = {"speech": "automatic-speech-recognition", "sign": "sign-language-recognition"}
# The hub knows a pipeline for speech; it has none for sign language.
PIPELINES = {"speech": "automatic-speech-recognition"}


def metadata(results: dict[str, Any], context: CardContext) -> ModelCardData:
    """The card's front matter, scores as `model-index` included."""
    from huggingface_hub import ModelCardData

    modality = context.modality
    tags = ["ctc", results["model"]["type"]]
    tags += ["knowledge-distillation"] if results["teachers"] else []
    tags += [TASKS[modality]] if modality else []
    return ModelCardData(
        model_name=results["name"],
        library_name=LIBRARY,
        license=context.licence,
        pipeline_tag=PIPELINES.get(modality or ""),
        tags=tags,
        metrics=["wer"],
        eval_results=_eval_results(results, modality) or None,
    )


def _eval_results(results: dict[str, Any], modality: str | None) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=TASKS.get(modality or "", "sequence-recognition"),
            dataset_type=re.sub(r"[^\w./-]+", "-", results["corpus"]),
            dataset_name=results["corpus"],
            dataset_split=score["split"],
            metric_type=metric,
            metric_name=f"{metric.upper()} % ({decoding(score)}, {score['protocol']})",
            metric_value=round(100 * score[metric], 2),
        )
        for score in results["scores"]
        for metric in ("wer", "wra")
    ]
