"""Where the recordings or features of a run's utterances lie on this machine."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd_asr_slr.errors import UserError
from kd_asr_slr.training.data import data_of, load_rows

logger = logging.getLogger(__name__)


def media_files(config: Mapping[str, Any]) -> dict[str, str]:
    """The files of all utterances of a run's corpus, by id; none where the corpus is not on this machine.

    Args:
        config: the run's resolved configuration.
    """
    data = data_of(config)
    if "synthetic" in data.corpus and not (data.data_dir and Path(data.data_dir).is_dir()):
        return {}  # it would be made anew
    try:
        corpus = load_rows(data)
    except UserError as error:
        logger.warning("no recordings or features in the report: %s", error)
        return {}
    found: dict[str, str] = {}
    for part in corpus.values():
        kind = "audio" if "audio" in part.column_names else "features"
        found |= dict(zip(part["id"], part[kind], strict=True))
    return found
