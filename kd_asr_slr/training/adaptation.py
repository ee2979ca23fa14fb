"""One teacher per speaker, adapted from one generalist, so that all of them share its labels and its timing.

Teachers trained apart spike at different frames; adapted from one network they can be averaged frame by frame.
Source: Ghorbani et al. 2018, "Domain expansion" of accent specialists (arXiv 1809.06833); DESIGN's toy simulation.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import DatasetDict

from kd_asr_slr.arguments import DataArguments, DistillationArguments, ModelArguments, TeacherArguments
from kd_asr_slr.command_line import resolved
from kd_asr_slr.corpora.splits import list_speakers, resolve_speakers
from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.hub_names import may_be_hub_name
from kd_asr_slr.progress import Progress
from kd_asr_slr.tool_arguments import AdaptationArguments
from kd_asr_slr.training import session
from kd_asr_slr.training.bindings import folder_name, write_index
from kd_asr_slr.training.building import build_trainer
from kd_asr_slr.training.data import load_data, training_part
from kd_asr_slr.training.preflight import preflight
from kd_asr_slr.training.provenance import informed_teachers
from kd_asr_slr.training.student import build_processor, build_student
from kd_asr_slr.training.teaching import build_teachers

logger = logging.getLogger(__name__)


def adapt_teachers(
    data: DataArguments,
    model: ModelArguments,
    training: DistillationArguments,
    adaptation: AdaptationArguments | None = None,
    corpus: DatasetDict | None = None,
) -> dict[str, Path]:
    """Adapt one teacher for each speaker of the training split; finished ones are kept, interrupted ones go on.

    Args:
        data: the corpus; `train_speakers` restricts whom teachers are made for. Held-out speakers are not in the
            training split, so nobody adapts to them.
        model: `model` is the generalist's run folder; its features and labels are everyone's.
        training: how long and how fast; `output_dir` is the folder of all teachers.
        adaptation: the tie to the generalist, and whether held-out speakers get a teacher, too.
        corpus: what `data` names, where it has been loaded already.

    Returns:
        Speaker -> run folder, in the order of the speakers.

    Raises:
        UserError: if `model` is no finished run or has heard a held-out speaker, two speakers would share a folder, or
            a run cannot be done.

    Source: the tie is the KL term of Ghorbani et al. 2018, section 3.3: distillation with the generalist as teacher.
    """
    adaptation = adaptation or AdaptationArguments()
    check_generalist(model.model)
    corpus = load_data(data) if corpus is None else corpus
    asked = TeacherArguments(teachers=[model.model], held_out_as_teacher=adaptation.held_out_as_teacher)
    raise_all(informed_teachers(asked, data, list_speakers(corpus)), "the generalist")
    speakers = list_speakers(training_part(corpus, data, data.train_split))
    held_out = resolve_speakers(data.held_out_speakers, list_speakers(corpus)) if adaptation.held_out_as_teacher else []
    speakers += [speaker for speaker in held_out if speaker not in speakers]
    names = _folder_names(speakers)
    root = Path(str(training.output_dir))
    for number, speaker in enumerate(Progress(speakers, "teachers", "speakers"), 1):
        logger.info("teacher %d of %d: %s", number, len(speakers), speaker)
        folder = root / names[speaker]
        if speaker in held_out:  # their recordings are all in the test split; as the corpus gives them, they are not
            logger.warning("DEBUG RUN: %s is held out and gets a teacher", speaker)
            own = dataclasses.replace(data, split_policy="as_given", held_out_speakers=[], train_speakers=[speaker])
            _adapt_one(load_data(own), own, model, training, folder, adaptation.generalist_tie)
        else:
            own = dataclasses.replace(data, train_speakers=[speaker])
            _adapt_one(corpus, own, model, training, folder, adaptation.generalist_tie)
    if PartialState().is_main_process:
        write_index(root, model.model, names)
    PartialState().wait_for_everyone()
    return {speaker: root / name for speaker, name in names.items()}


def _adapt_one(
    corpus: DatasetDict,
    data: DataArguments,
    model: ModelArguments,
    shared: DistillationArguments,
    folder: Path,
    tie: float,
) -> None:
    training = copy.copy(shared)
    training.output_dir = str(folder)
    if training.hub_model_id:  # a repository a teacher
        training.hub_model_id = f"{training.hub_model_id}-{folder.name}"
    training.alpha, training.beta, training.gamma = tie, 1.0 - tie, 0.0
    teaching = TeacherArguments(teachers=[model.model]) if tie else None
    parts = [part for part in (data, model, teaching, training) if part is not None]
    with session.open_run(training, "distill" if tie else "train", resolved(*parts)) as run:
        if run.finished:
            return
        processor = build_processor(model, data, corpus)
        student = build_student(model, processor, seed=training.seed)
        teachers = build_teachers(teaching, processor, corpus, data) if teaching else None
        trainer = build_trainer(student, processor, corpus, data, training, teachers)
        preflight(trainer, processor, corpus, data, teaching)
        session.train(trainer, run)
        session.finish(trainer, run, processor=processor, corpus=corpus, data=data)


def check_generalist(path: str) -> None:
    """Refuse what is neither a finished run nor a name on the hub.

    Raises:
        UserError: naming it.
    """
    if (Path(path) / "config.json").is_file() or may_be_hub_name(path):
        return
    raise UserError(
        f"'{path}' is no trained run to adapt teachers from",
        expected="the run folder of a generalist, or its name on the hub",
        fix="train one with recipes/train.py, then set --model RUN",
    )


def _folder_names(speakers: Sequence[str]) -> dict[str, str]:
    names: dict[str, Any] = {speaker: folder_name(speaker) for speaker in speakers}
    for speaker, name in names.items():
        others = [other for other in speakers if other != speaker and names[other].lower() == name.lower()]
        if others:
            raise UserError(
                f"the teachers of {speaker} and {others[0]} would share the folder {name}",
                expected="speakers whose names differ without their corpus, too",
                fix="adapt them one corpus after the other (--train_speakers)",
            )
    return names
