"""Corpora: what lies on disk becomes one `datasets.DatasetDict` with one set of columns.

`build.load_corpus` is the entry; `schema` holds the column contract, `manifest` reads any CSV or JSONL list,
`phoenix` reads RWTH-PHOENIX-Weather with features or keypoint pickles, `uaspeech`, `torgo` and `speaker_folders` read
recordings of dysarthric speakers, `media` reads and checks the files, `integrity` reports what is there against
`known_counts`, `vocabulary` names the field's gloss vocabularies, `splits` and `split_policies` decide what is trained
on and what is tested, and `synthetic_speech` and `synthetic_sign` make the built-in corpora. Adding a corpus: one file
with a `load` function, one line in `build.CORPORA`.
"""
