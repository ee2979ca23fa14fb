"""Adapt one teacher for every speaker from one generalist, and say who scores what on whom.

accelerate launch --quiet recipes/adapt_teachers.py --config configs/fsdd/teachers.yaml

distill.py and cache_teachers.py take the folder of all teachers as it is: --teachers FOLDER. The same command
goes on where it was interrupted.
"""

from __future__ import annotations

from kd_asr_slr.arguments import DataArguments, DistillationArguments, ModelArguments
from kd_asr_slr.command_line import parse
from kd_asr_slr.errors import run_recipe
from kd_asr_slr.tool_arguments import AdaptationArguments


def main() -> None:
    """Parse, adapt speaker by speaker, score everyone on everyone."""
    data, model, training, adaptation = parse(
        [DataArguments, ModelArguments, DistillationArguments, AdaptationArguments], description=__doc__
    )

    from accelerate import PartialState

    from kd_asr_slr.training.adaptation import adapt_teachers, check_generalist
    from kd_asr_slr.training.cross_scores import cross_scores, write_cross_scores
    from kd_asr_slr.training.data import load_data

    check_generalist(model.model)
    corpus = load_data(data)
    teachers = adapt_teachers(data, model, training, adaptation, corpus)
    if PartialState().is_main_process:
        folders = {"generalist": model.model, **{folder.name: folder for folder in teachers.values()}}
        scores = cross_scores(folders, corpus, data, training.per_device_eval_batch_size)
        own = {folder.name: speaker for speaker, folder in teachers.items()}
        print(write_cross_scores(training.output_dir, scores, own))
        print(f"to distil from them, in the student's config:\nteachers: [{training.output_dir}]")
    PartialState().wait_for_everyone()


if __name__ == "__main__":
    run_recipe(main)
