"""From predictions to numbers: counts per utterance first, every rate a function of their sums. No torch.

| module | what it does |
|---|---|
| `alignment` | substitutions, deletions, insertions, hits of one utterance |
| `rates` | corpus WER and CER, WRA, bootstrap interval, rates per speaker |
| `protocols` | named ways of counting: normalisers, tokens, alignment costs; the signature |
| `predictions` | prediction rows: join by id, read, write |
| `score` | one entry of `scores` in a run's results.json |
| `breakdown` | CER, collapse, intervals over utterances and speakers, rates by band, category, seen words |
| `significance` | paired bootstrap over seeds and utterances, McNemar, Holm |
| `matched_pairs` | MAPSSWE: segments between words that both runs have right, and the test over them |
| `verdict` | what a WRA on held-out speakers means, and what to do |
| `nist` | stm and ctm files: read, write |
| `files` | score a ctm file against a stm file, without a run |
| `metrics` | `load_metric`: the `evaluate` modules `wer` and `wra`, the hub's or the packaged ones |
"""

from kd_asr_slr.scoring.metrics import load_metric

__all__ = ["load_metric"]
