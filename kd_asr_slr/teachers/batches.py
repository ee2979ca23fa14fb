"""Rows of a batch, and moving a batch or a signal between devices."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from kd_asr_slr.outputs import SparseTargets, TeacherSignal


def batch_size(batch: dict[str, Any]) -> int:
    """B, from the mask that travels with every batch."""
    return batch["attention_mask"].shape[0]


def batch_to(batch: dict[str, Any], device: torch.device | str) -> dict[str, Any]:
    """The batch with every tensor (views included) on `device`."""
    return {key: _to(value, device) for key, value in batch.items()}


def signal_to(signal: TeacherSignal, device: torch.device | str) -> TeacherSignal:
    """The signal with every tensor on `device`; sparse targets stay sparse."""
    given = {item.name: signal.__dict__.get(item.name) for item in dataclasses.fields(signal)}
    return TeacherSignal(**{name: _to(value, device) for name, value in given.items()})


def select_rows(batch: dict[str, Any], rows: torch.Tensor) -> dict[str, Any]:
    """The utterances `rows` ([R], long) of a batch: tensors, lists and views; padding is kept as it is."""
    return {key: _pick(value, rows) for key, value in batch.items()}


def _to(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, dict):
        return batch_to(value, device)
    if isinstance(value, SparseTargets):
        return value.map(lambda tensor: tensor.to(device))
    return value.to(device) if isinstance(value, torch.Tensor) else value


def _pick(value: Any, rows: torch.Tensor) -> Any:
    if isinstance(value, dict):
        return select_rows(value, rows)
    if isinstance(value, torch.Tensor):
        return value.index_select(0, rows.to(value.device))
    if isinstance(value, list | tuple):
        return [value[row] for row in rows.tolist()]
    return value
