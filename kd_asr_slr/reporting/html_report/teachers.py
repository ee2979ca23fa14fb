"""A run's teachers as far as their folders are there: what they recognised, and who scores what on whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_asr_slr.errors import UserError
from kd_asr_slr.files import read_json
from kd_asr_slr.reporting.run_folder import RunFolder

CROSS_SCORES = "who_scores_what.json"  # recipes/adapt_teachers.py writes it
Texts = dict[str, str]


@dataclass(frozen=True)
class Teacher:
    """A teacher of a run.

    Args:
        name: its folder's.
        path: the folder.
        speaker: whom it is bound to, as the config says; None where it teaches everybody.
    """

    name: str
    path: Path
    speaker: str | None

    def teaches(self, speaker: str) -> bool:
        """Whether it is bound to this speaker (named with or without the corpus)."""
        return self.speaker is not None and self.speaker in (speaker, speaker.rpartition("/")[2])


def teachers_of(config: Mapping[str, Any]) -> list[Teacher]:
    """The teachers that a run's config names: SPEAKER=FOLDER, FOLDER, or a folder of adapted teachers.

    Args:
        config: the run's resolved configuration.
    """
    found = []
    for spec in config.get("teachers") or ():
        speaker, equals, place = spec.partition("=")
        path = Path(place if equals else spec)
        inside = [] if (path / "run.json").is_file() else sorted(entry.parent for entry in path.glob("*/run.json"))
        own = cross_scores(path).get("own", {})
        found += [Teacher(folder.name, folder, own.get(folder.name, folder.name)) for folder in inside]
        found += [] if inside else [Teacher(path.name, path, speaker if equals else None)]
    if config.get("generalist"):
        path = Path(config["generalist"])
        found.append(Teacher(path.name, path, None))
    return found


def outputs_of(path: Path, split: str) -> Texts:
    """What a run recognised greedily, by utterance; nothing where it was not scored on the split."""
    folder = RunFolder(path)
    try:
        there = folder.predictions_path(split).is_file()
        return {row["id"]: row["hypothesis"] for row in folder.read_predictions(split)} if there else {}
    except UserError:  # a damaged file of a teacher is no reason to go without the report
        return {}


def cross_scores(path: Path) -> dict[str, Any]:
    """`who_scores_what.json` in a folder of adapted teachers; empty where there is none."""
    file = path / CROSS_SCORES
    content = read_json(file) if file.is_file() else {}
    return content if isinstance(content, dict) else {}


def teaching_matrix(config: Mapping[str, Any], split: str) -> dict[str, Any] | None:
    """WER of every teacher on every speaker, and who teaches whom.

    Args:
        config: the run's resolved configuration.
        split: whose rates are wanted; dev where a teacher has none of it.

    Returns:
        `speakers`, `rows` (each a `teacher`, its `wer` by speaker, None where not known, and `own`: the speakers that
        it teaches), `split`; None where no teacher's rates are known.
    """
    teachers = teachers_of(config)
    rows: dict[str, dict[str, Any]] = {}
    for teacher in teachers:
        rates = _rates_of(teacher, split)
        row = rows.setdefault(teacher.name, {"teacher": teacher.name, "wer": rates, "own": []})
        row["own"] += [speaker for speaker in rates if teacher.teaches(speaker)]
    speakers = sorted({speaker for row in rows.values() for speaker in row["wer"]})
    return {"speakers": speakers, "rows": list(rows.values()), "split": split} if speakers else None


def _rates_of(teacher: Teacher, split: str) -> dict[str, float]:
    """WER by speaker: as everyone was scored on everyone, else as the teacher's own results say."""
    known = cross_scores(teacher.path.parent).get(split, {}).get(teacher.name)
    if known:
        return {speaker: rates["wer"] for speaker, rates in known.items()}
    try:
        scores = RunFolder(teacher.path).read_results()["scores"]
    except UserError:
        return {}
    greedy = [score for score in scores if (score["split"], score["decoder"]) == (split, "greedy")]
    return {speaker: rates["wer"] for speaker, rates in greedy[0]["by_speaker"].items()} if greedy else {}
