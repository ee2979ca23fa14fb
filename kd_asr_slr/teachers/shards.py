"""One shard of a store: its name, its sidecar, and tensors on their way to disk and back."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from kd_asr_slr.files import canonical_json, refusing, sha256_of
from kd_asr_slr.outputs import SparseTargets
from kd_asr_slr.teachers.index import ShardRecord


@dataclass
class StoredTarget:
    """What the store holds of one utterance.

    Attributes:
        frames: valid frames T.
        weight: 1 where a teacher speaks for it; 0: there is no distribution.
        tensors: by content name: "log_probs" [T, V], "decoder_log_probs" [U+1, V], "hidden_3" [T, D]; what is read from
            a store of a sparse form has `SparseTargets` of T (U+1) frames in the place of distributions.
    """

    frames: int
    weight: float = 1.0
    tensors: dict[str, torch.Tensor | SparseTargets] = field(default_factory=dict)


@dataclass
class EncodedTarget:
    """An utterance as it will lie in a shard.

    Attributes:
        frames: valid frames T.
        weight: 1 where a teacher speaks for it; 0: there are no tensors.
        parts: the tensors of each content, by the ending of their key.
    """

    frames: int
    weight: float
    parts: dict[str, dict[str, torch.Tensor]]

    @property
    def checks(self) -> list[int]:
        """A checksum for each content, in their order."""
        return [checksum(parts) for parts in self.parts.values()]


def shard_path(folder: Path, shard: int, shards: int) -> Path:
    """Path of a shard; its sidecar has the suffix .json."""
    return folder / f"shard-{shard:05d}-of-{shards:05d}.safetensors"


def checksum(parts: Mapping[str, torch.Tensor]) -> int:
    """CRC-32 over types, shapes and bytes of some tensors: told in microseconds whenever an utterance is read."""
    found = 0
    for ending, tensor in parts.items():
        found = zlib.crc32(f"{ending} {tensor.dtype} {tuple(tensor.shape)}".encode(), found)
        values: Any = tensor.numpy()
        found = zlib.crc32(values, found)
    return found


def shard_content(targets: Mapping[str, EncodedTarget], manifest: str) -> tuple[bytes, ShardRecord]:
    """The bytes of a shard, and the record of its sidecar.

    Args:
        targets: its utterances by id, in the order of the corpus.
        manifest: checksum of the store's manifest.
    """
    content = save(
        {
            f"{name}/{part}{ending}": tensor
            for name, target in targets.items()
            for part, tensors in target.parts.items()
            for ending, tensor in tensors.items()
        }
    )
    record = ShardRecord(
        manifest=manifest,
        sha256=sha256_of(content),
        size=len(content),
        ids=list(targets),
        frames=[target.frames for target in targets.values()],
        weights=[float(target.weight) for target in targets.values()],
        checks=[target.checks for target in targets.values()],
    )
    return content, record


def sidecar_bytes(record: ShardRecord) -> bytes:
    """The content of a sidecar: the record, and a checksum of the record itself."""
    content = asdict(record)
    return canonical_json({"record": content, "record_sha256": sha256_of(canonical_json(content))})


def read_sidecar(path: Path) -> ShardRecord | None:
    """The record in a sidecar; None where it is missing or damaged.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        with refusing(path, "read"):
            content = path.read_bytes()
        record = ShardRecord(**json.loads(content)["record"])
        whole = content == sidecar_bytes(record)
    except (FileNotFoundError, ValueError, TypeError, KeyError, RecursionError):
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
