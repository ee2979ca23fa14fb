"""Train a recogniser on labels only: a teacher, a generalist, or the baseline a distilled student must beat.

accelerate launch --quiet recipes/train.py --config configs/fsdd/generalist.yaml --output_dir runs/fsdd/generalist
"""

from __future__ import annotations

from kd_asr_slr.arguments import DataArguments, DistillationArguments, ModelArguments
from kd_asr_slr.command_line import parse, resolved
from kd_asr_slr.errors import run_recipe


def main() -> None:
    """Parse, build, train, score the test split greedily, save."""
    data, model, training = parse([DataArguments, ModelArguments, DistillationArguments], description=__doc__)
    training.alpha, training.beta, training.gamma = 0.0, 1.0, 0.0  # labels only

    from kd_asr_slr.training import session
    from kd_asr_slr.training.building import build_trainer
    from kd_asr_slr.training.data import load_data
    from kd_asr_slr.training.preflight import preflight
    from kd_asr_slr.training.student import build_processor, build_student

    with session.open_run(training, "train", resolved(data, model, training)) as run:
        if run.finished:
            return
        corpus = load_data(data)
        processor = build_processor(model, data, corpus)
        student = build_student(model, processor, seed=training.seed)
        trainer = build_trainer(student, processor, corpus, data, training)
        preflight(trainer, processor, corpus, data)
        if training.preflight_only:
            print("preflight: nothing stands in the way of this run")
            return
        session.train(trainer, run)
        session.finish(trainer, run, processor=processor, corpus=corpus, data=data)


if __name__ == "__main__":
    run_recipe(main)
