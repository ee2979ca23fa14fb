"""The dev scores of run folders, by which teachers are judged, weighted and chosen."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from kd_asr_slr.reporting.run_folder import RunFolder

logger = logging.getLogger(__name__)


def dev_score_of(path: str) -> dict[str, Any]:
    """The greedy dev score in a run folder's results; empty where there is none."""
    folder = RunFolder(path)
    if not (folder.path / "results.json").is_file():
        return {}
    known = (folder.path / "resolved_config.yaml").is_file()
    dev_split = folder.config().get("dev_split", "dev") if known else "dev"
    scores = folder.read_results()["scores"]
    return next((score for score in scores if (score["split"], score["decoder"]) == (dev_split, "greedy")), {})


def dev_wer_of(path: str, speaker: str | None = None) -> float | None:
    """The greedy dev WER in a run folder's results (of one speaker, where given); None where there is none."""
    score = dev_score_of(path)
    return score.get("wer") if speaker is None else score.get("by_speaker", {}).get(speaker, {}).get("wer")


def only_dev_speaker_of(path: str) -> str | None:
    """The speaker of a run's dev split, where it has only one."""
    speakers = list(dev_score_of(path).get("by_speaker", {}))
    return speakers[0] if len(speakers) == 1 else None


def other_protocols(paths: Sequence[str]) -> list[str]:
    """The sentence about runs whose dev WERs were counted by different protocols, so that they cannot be compared."""
    found: dict[str, str] = {}  # protocol -> the first run scored by it
    for path in paths:
        protocol = dev_score_of(path).get("protocol")
        if protocol:
            found.setdefault(protocol, path)
    if len(found) < 2:
        return []
    (first, one), (second, other) = list(found.items())[:2]
    return [
        f"the dev WER of {one} was counted by protocol '{first}' and that of {other} by '{second}'; expected one "
        "protocol, or the two do not compare: train both with the same --protocol"
    ]


def warn_of_other_speakers(paths: Sequence[str], aggregation: str) -> None:
    """Say in a log line where the dev WERs that weigh teachers were measured on different speakers."""
    measured = {path: sorted(dev_score_of(path).get("by_speaker", {})) for path in paths}
    if len({tuple(speakers) for speakers in measured.values()}) > 1:
        listed = "; ".join(f"{path}: {', '.join(speakers) or 'unknown'}" for path, speakers in measured.items())
        logger.warning(
            "aggregation %s compares dev WERs that were measured on different speakers, so that it may prefer the "
            "teacher of an easy speaker to a good teacher (%s)",
            aggregation,
            listed,
        )
