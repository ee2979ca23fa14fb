"""Which of the trainer's checkpoints in a run folder was written to its end."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

logger = logging.getLogger(__name__)


def last_checkpoint(run: Path) -> Path | None:
    """The `checkpoint-N` with the highest N that was written to its end, or None.

    `transformers.Trainer` writes `trainer_state.json` last, so a checkpoint without it (or with a part of it) was cut
    off by a kill. One whose weights cannot be read is passed over too.

    Args:
        run: the run folder.
    """
    numbered = []
    for folder in run.glob("checkpoint-*"):
        match = re.fullmatch(r"checkpoint-(\d+)", folder.name)
        if match and _is_json(folder / "trainer_state.json") and _has_whole_weights(folder):
            numbered.append((int(match.group(1)), folder))
    return max(numbered)[1] if numbered else None


def _has_whole_weights(folder: Path) -> bool:
    """Whether every safetensors file of a checkpoint has a header that fits its length."""
    from safetensors import SafetensorError, safe_open

    for file in folder.glob("*.safetensors"):
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError):
            logger.warning("%s is damaged; the checkpoint is passed over", file)
            return False
    return True


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
