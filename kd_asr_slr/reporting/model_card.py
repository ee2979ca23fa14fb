"""The model card of a run (README.md), made from what lies in its folder: `results.json`, `resolved_config.yaml`, ...

The verdict on held-out speakers also reads the results of the run's teachers, where these are run folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_asr_slr.files import write_text
from kd_asr_slr.reporting.card import method, scores, usage
from kd_asr_slr.reporting.card.context import CardContext, context_of, modality_of
from kd_asr_slr.reporting.card.metadata import metadata
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.reporting.verdicts import verdict_of

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

__all__ = ["build_model_card", "card_of", "modality_of", "write_model_card"]

CURVES = "training_curves.png"


def write_model_card(run: RunFolder | str | Path) -> Path:
    """Write the model card into the run folder as README.md.

    Args:
        run: a run folder with `results.json` and `resolved_config.yaml`.

    Returns:
        The file.

    Raises:
        UserError: where one of the two is missing or damaged.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    return write_text(folder.path / "README.md", str(card_of(folder)))


def card_of(run: RunFolder, place: str = "FOLDER", licence: str | None = None) -> ModelCard:
    """The card of a run folder.

    Args:
        run: a run folder with `results.json` and `resolved_config.yaml`.
        place: what readers load the model from: the folder, or its name on the hub.
        licence: of the weights, as the hub names licences.

    Raises:
        UserError: where one of the two files is missing or damaged.
    """
    results, config = run.read_results(), run.config()
    return build_model_card(results, config, verdict_of(run), context_of(run, results, config, place, licence))


def build_model_card(
    results: dict[str, Any], config: dict[str, Any], verdict: Sequence[str] = (), context: CardContext | None = None
) -> ModelCard:
    """The card as huggingface_hub's `ModelCard`, its metadata (`model-index` included) as `card.data`.

    Args:
        results: a checked results object (`RunFolder.read_results`).
        config: the resolved config of the run.
        verdict: lines on the held-out speakers (`verdicts.verdict_of`), if any.
        context: what lies beside the results; default: nothing is known of it.
    """
    from huggingface_hub import ModelCard

    context = context or CardContext(modality=modality_of(config))
    sections = [
        f"# {results['name']}",
        method.what_it_is(results, context),
        *method.transductive(results),
        "## How it was trained" if not results["teachers"] else "## How it was distilled",
        method.how(results, config, context),
        *([f"![Losses, WER and learning rate over the epochs]({CURVES})"] if CURVES in context.files else []),
        "## Scores",
        scores.scores(results),
        *scores.speakers(results),
        *(["### Verdict", scores.verdict(verdict)] if verdict else []),
        "## How to load it",
        f"`{context.place}` is the folder or the hub's name of this card.",
        usage.loading(context),
        "## Limits",
        usage.limits(results),
        "## Licence",
        usage.licence(results, context),
        "## Citation",
        usage.citation(results),
    ]
    return ModelCard(f"---\n{metadata(results, context).to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n")
