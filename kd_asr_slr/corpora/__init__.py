"""Corpora: what lies on disk becomes one `datasets.DatasetDict` with one set of columns.

`build.load_corpus` is the entry; `schema` holds the column contract, `manifest` reads any CSV or JSONL list,
`media` reads and checks the files, `splits` moves speakers between splits, and `synthetic_speech` and
`synthetic_sign` make the built-in corpora. Adding a corpus: one file with a `load` function, one line in
`build.CORPORA`.
"""
