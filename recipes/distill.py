"""Distil one or several teachers into a student.

accelerate launch --quiet recipes/distill.py --config configs/fsdd/student.yaml --learning_rate 1e-3
"""

from __future__ import annotations

from kd_asr_slr.arguments import DataArguments, DistillationArguments, ModelArguments, TeacherArguments
from kd_asr_slr.command_line import parse, resolved
from kd_asr_slr.errors import run_recipe


def main() -> None:
    """Parse, build student and teachers, check everything once, distil, score the test split greedily, save."""
    data, model, teaching, training = parse(
        [DataArguments, ModelArguments, TeacherArguments, DistillationArguments], description=__doc__
    )

    from kd_asr_slr.training import session
    from kd_asr_slr.training.building import build_trainer
    from kd_asr_slr.training.data import load_data
    from kd_asr_slr.training.preflight import preflight
    from kd_asr_slr.training.student import build_processor, build_student
    from kd_asr_slr.training.teaching import build_teachers

    with session.open_run(training, "distill", resolved(data, model, teaching, training)) as run:
        if run.finished:
            return
        corpus = load_data(data)
        processor = build_processor(model, data, corpus)
        student = build_student(model, processor, seed=training.seed)
        teachers = build_teachers(teaching, processor, corpus, data)
        trainer = build_trainer(student, processor, corpus, data, training, teachers, teaching)
        preflight(trainer, processor, corpus, data, teaching)
        if training.preflight_only:
            print("preflight: nothing stands in the way of this run")
            return
        session.train(trainer, run)
        session.finish(trainer, run, processor=processor, corpus=corpus, data=data)


if __name__ == "__main__":
    run_recipe(main)
