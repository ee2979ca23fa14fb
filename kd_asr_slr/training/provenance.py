"""Teachers that know a held-out speaker: what they say of anybody carries what they learned from that speaker."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from kd_asr_slr.arguments import DataArguments, TeacherArguments
from kd_asr_slr.corpora.splits import resolve_speakers
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.training.bindings import bindings_of
from kd_asr_slr.training.data import data_of
from kd_asr_slr.training.training_data import identity_of, read_training_data

logger = logging.getLogger(__name__)

Heard = tuple[frozenset[str], bool]  # the held-out speakers that a run knows, and whether that is certain


def informed_teachers(
    teaching: TeacherArguments, data: DataArguments, known: Sequence[str], cached: Iterable[str] = ()
) -> list[str]:
    """Sentences about teachers, the generalist included, whose runs were trained on a held-out speaker.

    Only what is certain is refused: the teacher's folder names the very corpus of this run. A speaker of the same name
    in a corpus that may be another one is a log line.

    Args:
        teaching: who teaches.
        data: the run's corpus and held-out speakers.
        known: every speaker of the corpus.
        cached: names of the teachers of a cache.
    """
    held_out = frozenset(resolve_speakers(data.held_out_speakers, known))
    if not held_out:
        return []
    bindings = bindings_of(teaching.teachers)
    bound = {path for speaker, path in bindings if speaker and set(resolve_speakers([speaker], known)) & held_out}
    paths = [path for _, path in bindings] + ([teaching.generalist] if teaching.generalist else []) + list(cached)
    problems = []
    for path in dict.fromkeys(path for path in paths if path not in bound):  # the bound ones are refused as such
        speakers, certain = heard_by(path, data, held_out)
        if not speakers:
            continue
        sentence = f"teacher {path} was trained on {', '.join(sorted(speakers))}, who is held out"
        if teaching.held_out_as_teacher:
            logger.warning("DEBUG RUN: %s; the scores of the held-out speaker mean nothing", sentence)
        elif certain:
            problems.append(
                f"{sentence}; what it says carries the answers of the test: train it with the same "
                "--held_out_speakers, or set --held_out_as_teacher true for a debug run"
            )
        else:
            logger.warning("%s, or somebody of that name in another corpus: its folder does not tell", sentence)
    return problems


def heard_by(path: str, data: DataArguments, speakers: frozenset[str]) -> Heard:
    """Which of some speakers a run was trained on, as its folder says, and whether it is certainly this corpus.

    Args:
        path: a run folder; of a name on the hub nothing is known.
        data: of the run that asks.
        speakers: full names.
    """
    record = read_training_data(path)
    if record is not None:
        return speakers & record.heard, record.corpus == identity_of(data)
    folder = RunFolder(path)
    if not (folder.path / "resolved_config.yaml").is_file():
        return frozenset(), False
    config = folder.config()
    theirs = data_of(config)
    same = identity_of(theirs) == identity_of(data) and (not theirs.manifest or Path(theirs.manifest).is_file())
    return (_configured(config, speakers) if same else frozenset()), same


def _configured(config: dict[str, Any], speakers: frozenset[str]) -> frozenset[str]:
    """Those that a configuration trains on for certain: where splits are as given, they must be named."""
    held_out, trained = config.get("held_out_speakers") or [], config.get("train_speakers") or []
    left = {speaker for speaker in speakers if not _named(speaker, held_out)}
    left -= {speaker for speaker in left if _named(speaker, config.get("untranscribed_speakers") or [])}
    if trained:
        return frozenset(speaker for speaker in left if _named(speaker, trained))
    return frozenset(left) if config.get("split_policy") == "held_out_speaker" else frozenset()


def _named(speaker: str, names: Collection[str]) -> bool:
    return speaker in names or speaker.split("/", 1)[-1] in names
