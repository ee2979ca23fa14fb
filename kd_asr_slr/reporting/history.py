"""The trainer's log as series over epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from kd_asr_slr.errors import UserError
from kd_asr_slr.files import plain, read_json, write_json
from kd_asr_slr.reporting.run_folder import RunFolder

Record = dict[str, Any]
Series = list[tuple[float, float]]


def read_history(source: RunFolder | str | Path | Sequence[Mapping[str, Any]]) -> list[Record]:
    """The trainer's log records, in order.

    Args:
        source: a run folder (its `history.json`, or `trainer_state.json`, or its last complete checkpoint's), one such
            file, or the records themselves (`trainer.state.log_history`).

    Raises:
        UserError: where there is no log, or the file holds something else.
    """
    if not isinstance(source, (RunFolder, str, Path)):
        return [plain(dict(record)) for record in source]
    path = source.path if isinstance(source, RunFolder) else Path(source)
    file = _log_file(RunFolder(path)) if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"there is no training log {file}", expected="a trainer_state.json", fix="train the run first")
    content = read_json(file)
    records = content.get("log_history") if isinstance(content, dict) else content
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise UserError(f"{file} has no log_history", expected="a trainer_state.json of transformers' Trainer")
    return records


def write_history(records: Sequence[Mapping[str, Any]], folder: str | Path) -> Path:
    """Write `history.json`, the list of log records; a loss that became NaN or infinite is null there.

    Args:
        records: see `read_history`.
        folder: the run folder.

    Returns:
        The file.
    """
    finite = [{name: _finite_or_none(value) for name, value in plain(dict(record)).items()} for record in records]
    return write_json(Path(folder) / "history.json", finite)


def series(records: Sequence[Mapping[str, Any]], name: str) -> Series:
    """One logged value over epochs.

    Args:
        records: see `read_history`.
        name: its log name, e.g. "loss_ctc_kd" or "eval_wer".

    Returns:
        (epoch, value) pairs in the order logged; values that are no finite number are left out.
    """
    points = []
    for record in records:
        epoch, value = record.get("epoch"), record.get(name)
        if _is_finite(epoch) and _is_finite(value):
            points.append((float(epoch), float(value)))
    return points


def loss_names(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every logged loss, the training total first, its parts after it, then those of the evaluation."""
    names = {name for record in records for name in record}
    parts = [name for name in names if name.startswith(("loss_", "eval_loss_")) or name in ("loss", "eval_loss")]
    return sorted((name for name in parts if series(records, name)), key=lambda name: (name.startswith("eval_"), name))


def best(points: Series) -> tuple[float, float] | None:
    """The (epoch, value) with the lowest value, the earliest of equals; None where there is none."""
    return min(points, key=lambda point: point[1]) if points else None


def _log_file(run: RunFolder) -> Path:
    """`history.json` first: it is written after every evaluation, checkpoints only as the save strategy says."""
    candidates = [run.path / "history.json", run.path / "trainer_state.json"]
    found = next((file for file in candidates if file.is_file()), None)
    checkpoint = None if found else run.last_checkpoint()
    return found or (checkpoint / "trainer_state.json" if checkpoint else candidates[1])


def _is_finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
