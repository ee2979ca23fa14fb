"""The table of corpora, and the one function that turns a name and settings into splits."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from kd_asr_slr.corpora import (
    fsdd,
    phoenix,
    phoenix_synthetic,
    speaker_folders,
    synthetic_sign,
    synthetic_speech,
    torgo,
    uaspeech,
)
from kd_asr_slr.corpora.manifest import load_manifest
from kd_asr_slr.corpora.schema import did_you_mean
from kd_asr_slr.errors import UserError

Loader = Callable[..., DatasetDict]


def load_corpus(
    corpus: str,
    *,
    manifest: str | Path | None = None,
    name: str | None = None,
    root: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    cache_dir: str | Path | None = None,
) -> DatasetDict:
    """Load a corpus by its name in `CORPORA`.

    Args:
        corpus: a key of `CORPORA`, such as "manifest" or "phoenix2014".
        manifest: the manifest file, for "manifest".
        name: what the corpus is called before its speakers; every corpus but "manifest" has its own by default.
        root: the corpus on disk; for "manifest" the folder its paths are relative to, its own by default.
        options: the corpus's settings; see `SpeechOptions`, `SignOptions` and `phoenix.load`.
        cache_dir: folder that synthetic corpora and converted pickles are written under, once.

    Raises:
        UserError: if the corpus is unknown, or a setting is missing, unknown or of another corpus.

    Example:
        >>> corpus = load_corpus("synthetic_speech", options={"speakers": 6}, cache_dir="data")
    """
    if corpus not in CORPORA:
        raise UserError(
            f"unknown corpus '{corpus}'{did_you_mean(corpus, CORPORA)}",
            expected=f"one of {', '.join(CORPORA)}",
            fix="any other corpus is loaded as 'manifest'",
        )
    settings = {"manifest": manifest, "name": name, "root": root, "options": dict(options or {})}
    return CORPORA[corpus](**settings, cache_dir=Path(cache_dir) if cache_dir else default_cache_dir())


def default_cache_dir() -> Path:
    """Where made and converted files go by default: $XDG_CACHE_HOME/kd_asr_slr, or the same under ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kd_asr_slr"


def _from_manifest(
    *, manifest: str | Path | None, name: str | None, root: str | Path | None, options: dict[str, Any], cache_dir: Path
) -> DatasetDict:
    if options:
        raise UserError(f"the corpus 'manifest' takes no options, found {', '.join(options)}", fix="take them out")
    if not manifest:
        raise UserError("the corpus 'manifest' has no manifest file", expected="a .csv or .jsonl file")
    if not name:
        raise UserError(
            f"the corpus of {manifest} has no name",
            expected="a short name to put before its speakers",
            fix="give a name such as 'fsdd'",
        )
    return load_manifest(manifest, name, root)


CORPORA: dict[str, Loader] = {
    "manifest": _from_manifest,
    "fsdd": fsdd.load,
    "uaspeech": uaspeech.load,
    "torgo": torgo.load,
    "speaker_folders": speaker_folders.load,
    "phoenix2014": partial(phoenix.load, "phoenix2014"),
    "phoenix2014_si5": partial(phoenix.load, "phoenix2014_si5"),
    "phoenix2014t": partial(phoenix.load, "phoenix2014t"),
    "phoenix_synthetic": phoenix_synthetic.load,
    "synthetic_speech": synthetic_speech.load,
    "synthetic_sign": synthetic_sign.load,
}
