"""One shard of a store: its name, its sidecar, and tensors on their way to disk and back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from kd_asr_slr.files import canonical_json, sha256_of
from kd_asr_slr.teachers.index import ShardRecord


@dataclass
class StoredTarget:
    """What the store holds of one utterance.

    Attributes:
        frames: valid frames T.
        weight: 1 where a teacher speaks for it; 0: there is no distribution.
        tensors: by content name: "log_probs" [T, V], "decoder_log_probs" [U+1, V], "hidden_3" [T, D].
    """

    frames: int
    weight: float = 1.0
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)


def shard_path(folder: Path, shard: int, shards: int) -> Path:
    """Path of a shard; its sidecar has the suffix .json."""
    return folder / f"shard-{shard:05d}-of-{shards:05d}.safetensors"


def sidecar_bytes(record: ShardRecord) -> bytes:
    """The content of a sidecar: the record, and a checksum of the record itself."""
    content = asdict(record)
    return canonical_json({"record": content, "record_sha256": sha256_of(canonical_json(content))})


def read_sidecar(path: Path) -> ShardRecord | None:
    """The record in a sidecar; None where it is missing or damaged."""
    try:
        content = json.loads(path.read_bytes())
        record = ShardRecord(**content["record"])
        whole = content["record_sha256"] == sha256_of(canonical_json(content["record"]))
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    return record if whole else None


def to_disk(tensor: torch.Tensor, dtype: str) -> torch.Tensor:
    """A tensor as it is stored: on the CPU, of its own storage, in "float16" or "float32"."""
    tensor = tensor.detach().cpu().float()
    if dtype == "float16":
        largest = torch.finfo(torch.float16).max
        tensor = tensor.clamp(-largest, largest).half()
    # A row of a batch is a view; safetensors would refuse views of one storage.
    return tensor.clone(memory_format=torch.contiguous_format)


def from_disk(tensor: torch.Tensor, content: str) -> torch.Tensor:
    """A stored tensor in float32; distributions that were rounded to float16 sum to 1 again."""
    if tensor.dtype == torch.float32:
        return tensor
    tensor = tensor.float()
    return torch.log_softmax(tensor, dim=-1) if content.endswith("log_probs") else tensor
