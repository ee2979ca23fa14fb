"""Decode a split with a trained run and add its scores to the run folder, or score a hypothesis file without a run.

accelerate launch --quiet recipes/score.py --run runs/fsdd/student --decoder beam --split test
accelerate launch --quiet recipes/score.py --run runs/fsdd/student --lm lm.arpa --tune true
accelerate launch --quiet recipes/score.py --run runs/fsdd/student --decoder closed --word_list words.txt
python recipes/score.py --hypotheses dev.ctm --references dev.stm --protocol official-sclite
python recipes/score.py --hypotheses predictions.jsonl --protocol words
"""

from __future__ import annotations

from kd_asr_slr.command_line import parse
from kd_asr_slr.errors import run_recipe
from kd_asr_slr.tool_arguments import ScoreArguments


def main() -> None:
    """Parse, load the run, decode, count, write."""
    (score,) = parse([ScoreArguments], description=__doc__)
    if score.hypotheses:
        from kd_asr_slr.scoring.files import describe_score, score_files, score_prediction_file

        if score.has_references:
            entry = score_prediction_file(score.hypotheses, score.protocol or "words", score.output)
        else:
            entry = score_files(score.hypotheses, score.references, score.protocol or "official-sclite", score.output)
        print(describe_score(entry))
        return

    from kd_asr_slr.models.auto import load_model
    from kd_asr_slr.processing.auto import load_processor
    from kd_asr_slr.processing.collator import Collator
    from kd_asr_slr.reporting.model_card import write_model_card
    from kd_asr_slr.reporting.run_folder import RunFolder
    from kd_asr_slr.reporting.verdicts import verdict_of
    from kd_asr_slr.training.data import corpus_name, evaluation_items, load_data, scored_corpus, training_part
    from kd_asr_slr.training.evaluation import build_decoding, predict, score_split, with_seen
    from kd_asr_slr.training.hybrid_decoding import words_of
    from kd_asr_slr.training.terminal import quiet_libraries
    from kd_asr_slr.training.tuning import search_of, settle, tune, with_weights, write_decoding

    quiet_libraries()
    run = RunFolder(str(score.run))
    data = scored_corpus(run.config(), score)
    score, weights = settle(score, run.path, data)
    assert score.split and score.protocol  # settled
    part, protocol = score.split, score.protocol
    results = run.read_results()
    processor = load_processor(run.path)
    model = load_model(str(run.path))
    corpus = load_data(data, [part])
    known = not score.manifest and data.train_split in corpus
    heard = training_part(corpus, data, data.train_split)["text"] if known else []
    words = words_of(score, processor, data, heard) if score.decoder == "closed" else None
    items = evaluation_items(training_part(corpus, data, part), processor, data)
    if score.tune:
        tuned = tune(model, processor, items, score)
        write_decoding(run.path, score, tuned)
        score, predictions, weights = with_weights(score, tuned), tuned.predictions, tuned.describe()
    else:
        collator, what = Collator(processor.input_name), f"scoring {part}"
        decode = build_decoding(score, processor, model, words)
        predictions = predict(model, items, collator, decode, score.batch_size, what, protocol)
    if known:
        predictions = with_seen(predictions, heard)
    split = f"{part}-of-{corpus_name(data)}" if score.manifest else part  # never over the run's own
    entry = score_split(run, predictions, split, score.scored_as, score.lm, protocol, search_of(score))
    write_model_card(run)
    if weights:
        print(weights)
    print(
        f"{results['name']}  {split}  {score.scored_as}  WER {100 * entry['wer']:.2f} %  "
        f"WRA {100 * entry['wra']:.2f} %  S {entry['substitutions']}  D {entry['deletions']}  I {entry['insertions']}  "
        f"of {entry['reference_tokens']} in {entry['utterances']} utterances"
    )
    for line in verdict_of(run, entry):
        print(line)


if __name__ == "__main__":
    run_recipe(main)
