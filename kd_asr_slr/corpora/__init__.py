"""Corpora: what lies on disk becomes one `datasets.DatasetDict` with one set of columns.

`build.load_corpus` is the entry; `schema` holds the column contract, `manifest` reads any CSV or JSONL list,
`phoenix` reads RWTH-PHOENIX-Weather with features or keypoint pickles, `media` reads and checks the files,
`integrity` reports what is there against `known_counts`, `vocabulary` names the field's gloss vocabularies, `splits`
moves speakers between splits, and `synthetic_speech` and `synthetic_sign` make the built-in corpora. Adding a corpus:
one file with a `load` function, one line in `build.CORPORA`.
"""
