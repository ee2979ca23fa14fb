"""The store of soft targets: a folder of safetensors shards that can be resumed, checked and read by utterance id.

    manifest.json                             what the targets were made from
    shard-00000-of-00012.safetensors          `<id>/log_probs` [T, V], and what else the manifest's contents name
    shard-00000-of-00012.json                 its checksum and ids, written after it
    index.arrow                               where each id lies, written when every shard is there
    complete.json                             checksums of manifest and index, written last

Utterances lie in the order of the corpus, `shard_size` a shard, so that a shard's bytes depend on nothing but its own
utterances: killed and resumed, or written by several processes, the folder is the same.
"""

from __future__ import annotations

from kd_asr_slr.teachers.reader import StoreReader
from kd_asr_slr.teachers.shards import StoredTarget
from kd_asr_slr.teachers.writer import StoreWriter

__all__ = ["StoreReader", "StoreWriter", "StoredTarget"]
