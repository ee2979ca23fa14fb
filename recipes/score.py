"""Decode a split with a trained run and add its scores to the run folder.

accelerate launch --quiet recipes/score.py --run runs/fsdd/student --decoder beam --split test
"""

from __future__ import annotations

from kd_asr_slr.arguments import ScoreArguments
from kd_asr_slr.command_line import parse
from kd_asr_slr.errors import run_recipe


def main() -> None:
    """Parse, load the run, decode, count, write."""
    (score,) = parse([ScoreArguments], description=__doc__)

    from kd_asr_slr.models.auto import load_model
    from kd_asr_slr.processing.auto import load_processor
    from kd_asr_slr.processing.collator import Collator
    from kd_asr_slr.reporting.model_card import write_model_card
    from kd_asr_slr.reporting.run_folder import RunFolder
    from kd_asr_slr.training.data import evaluation_items, load_data, scored_corpus, training_part
    from kd_asr_slr.training.evaluation import build_decoding, predict, score_split
    from kd_asr_slr.training.terminal import quiet_libraries

    quiet_libraries()
    run = RunFolder(score.run)
    data = scored_corpus(run.config(), score)
    results = run.read_results()
    processor = load_processor(score.run)
    model = load_model(score.run)
    decode = build_decoding(score, processor, model)
    items = evaluation_items(training_part(load_data(data, [score.split]), data, score.split), processor, data)
    predictions = predict(model, items, Collator(processor.input_name), decode, score.batch_size)
    entry = score_split(run, predictions, score.split, score.decoder, score.lm, score.protocol)
    write_model_card(run)
    print(
        f"{results['name']}  {score.split}  {score.decoder}  WER {100 * entry['wer']:.2f} %  "
        f"WRA {100 * entry['wra']:.2f} %  S {entry['substitutions']}  D {entry['deletions']}  I {entry['insertions']}  "
        f"of {entry['reference_tokens']} in {entry['utterances']} utterances"
    )


if __name__ == "__main__":
    run_recipe(main)
