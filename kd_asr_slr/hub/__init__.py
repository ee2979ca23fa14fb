"""What leaves the house: a run's student with its code on the hub, and nothing of its training data.

| module | what it does |
|---|---|
| `travelling` | modules of this package as files that need the package no more |
| `custom_code` | `write_custom_code`: those files beside a saved model, and the `auto_map` that names them |
| `contents` | which files of a run folder are published, and their sizes |
| `destination` | a repository on the hub: its name, the token, whether it may be written |
| `standing` | what a repository holds already: what a push deletes, leaves and replaces |
| `push` | one commit of all files, retried; `push_run` |
"""
