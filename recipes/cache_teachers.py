"""Store what the teachers say of the training split, so that the student pays for them only once.

    accelerate launch --quiet recipes/cache_teachers.py --config configs/fsdd/student.yaml

Takes the configuration of recipes/distill.py and writes its `teacher_cache`. Several processes share the shards, and so
do several such commands; a killed run is taken up again by the same command; what is there already is reused.
"""

from __future__ import annotations

from kd_asr_slr.arguments import DataArguments, DistillationArguments, ModelArguments, TeacherArguments
from kd_asr_slr.command_line import parse
from kd_asr_slr.errors import run_recipe


def main() -> None:
    """Parse, build the teachers, write the missing shards, close the store."""
    data, model, teaching, training = parse(
        [DataArguments, ModelArguments, TeacherArguments, DistillationArguments], description=__doc__
    )

    from kd_asr_slr.training import session
    from kd_asr_slr.training.caching import cache_teachers
    from kd_asr_slr.training.data import load_data
    from kd_asr_slr.training.student import build_processor
    from kd_asr_slr.training.teaching import build_pool

    session.announce(training)
    corpus = load_data(data)
    processor = build_processor(model, data, corpus)
    pool = build_pool(teaching, processor, corpus, data.held_out_speakers, data)
    summary = cache_teachers(pool, teaching, processor, corpus, data, training)
    print(summary)


if __name__ == "__main__":
    run_recipe(main)
