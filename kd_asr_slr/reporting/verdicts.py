"""The verdict on a run's held-out speakers, beside what its teachers reach on the same utterances."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd_asr_slr.errors import UserError
from kd_asr_slr.reporting.results_schema import score_key
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.scoring.verdict import held_out, verdict_lines

logger = logging.getLogger(__name__)

SAME = ("split", "protocol", "utterances", "reference_tokens")


def verdict_of(run: RunFolder | str | Path, score: Mapping[str, Any] | None = None) -> list[str]:
    """The verdict on a run; see `scoring.verdict`.

    Args:
        run: a scored run folder.
        score: the entry of `scores` that is meant; default: the one of held-out speakers with the highest WRA.

    Returns:
        Lines for people; empty where no speaker was held out, or the split has sentences.

    Example:
        >>> print("\\n".join(verdict_of("runs/student")))
    """
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    config = folder.config()
    scores = [score] if score is not None else folder.read_results()["scores"]
    found = [entry for entry in scores if held_out(config, entry)]
    if not found:
        return []
    best = max(found, key=lambda entry: entry["wra"])
    return verdict_lines(best, others_of(config, best), _heard(folder, config, best))


def _heard(folder: RunFolder, config: Mapping[str, Any], score: Mapping[str, Any]) -> float | None:
    """The run's own WRA on the dev split, which has none of the held-out speakers; None where it was not scored."""
    asked = (config.get("dev_split", "dev"), score["decoder"], score["lm"], score["protocol"])
    entries = folder.read_results()["scores"]
    return next((entry["wra"] for entry in entries if score_key(entry) == asked), None)


def others_of(config: Mapping[str, Any], score: Mapping[str, Any]) -> dict[str, float]:
    """WRA that the run's generalist, teachers and baseline reach on the very same utterances, where they were scored.

    Args:
        config: the run's resolved configuration, with `generalist`, `teachers`, `baseline_run`.
        score: the run's own entry of `scores`.
    """
    named = []
    for spec in config.get("teachers") or ():  # SPEAKER=FOLDER, or FOLDER
        speaker, equals, path = spec.partition("=")
        named.append((f"teacher {speaker if equals else Path(spec).name}", path if equals else spec))
    for name, key in (("generalist", "generalist"), ("label-only baseline", "baseline_run")):
        named += [(name, config[key])] if config.get(key) else []
    found = {}
    for name, path in named:
        entry = _same_score(RunFolder(path), score)
        if entry is not None:
            found[name] = entry["wra"]
    return found


def _same_score(folder: RunFolder, score: Mapping[str, Any]) -> dict[str, Any] | None:
    """The best entry of another run that is about the same utterances; None where there is none, or no such run."""
    try:
        entries = folder.read_results()["scores"] if (folder.path / "results.json").is_file() else []
    except UserError as error:  # a verdict is no reason to stop
        logger.warning("%s is left out of the verdict: %s", folder.path, error)
        return None
    same = [
        entry
        for entry in entries
        if all(entry[key] == score[key] for key in SAME) and _speakers(entry) == _speakers(score)
    ]
    return max(same, key=lambda entry: entry["wra"]) if same else None


def _speakers(score: Mapping[str, Any]) -> dict[str, int]:
    return {speaker: rates["reference_tokens"] for speaker, rates in score["by_speaker"].items()}
