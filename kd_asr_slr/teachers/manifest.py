"""What a store of soft targets was made from, and what differs when a run asks for something else."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kd_asr_slr.errors import UserError
from kd_asr_slr.files import canonical_json, sha256_of
from kd_asr_slr.teachers.fingerprints import vocabulary_difference
from kd_asr_slr.teachers.layout import RESUME
from kd_asr_slr.teachers.pool import TeacherPool

SCHEMA = 2
CHECKSUM = "sha256"  # key of `manifest.json`: over everything else in it
DTYPES = ("float16", "float32")
STORED = {"log_probs", "decoder_log_probs"}  # of what teachers provide; hidden states layer by layer


class MissingStore(UserError):
    """A folder without a `manifest.json`, or no folder at all."""


class DamagedManifest(UserError):
    """A `manifest.json` that is not as it was written: nothing that it says can be believed."""


@dataclass(frozen=True)
class StoreManifest:
    """`manifest.json` of a store.

    Attributes:
        corpus: the name of the dataset.
        count: its number of utterances.
        ids: sha256 over the ordered utterance ids.
        transcripts: sha256 over the ordered transcripts where the targets depend on them (a decoder is teacher-forced,
            `gate` weighs by transcript loss, teachers are matched to utterances by their words), else None.
        teachers: name, weight fingerprint, features and precision of each teacher.
        generalist: the same of the generalist, or None.
        aggregation: how they were combined, with the settings that matter.
        vocabulary: fingerprint of the tokens.
        tokens: the tokens, in the order of the outputs.
        blank_id: index of the blank.
        features: fingerprint of the teachers' features.
        frame_seconds: seconds between two frames.
        contents: what is stored: "log_probs", "decoder_log_probs", "hidden_3", ...
        dtype: "float16" or "float32".
        shard_size: utterances a shard.
        media: fingerprint of the content of the corpus's files, in order; None where it was not taken.
        format: name and options of the form of the distributions (see `teachers.formats`).
        schema: version of the store's layout.
    """

    corpus: str
    count: int
    ids: str
    transcripts: str | None
    teachers: list[dict[str, Any]]
    generalist: dict[str, Any] | None
    aggregation: dict[str, Any]
    vocabulary: str
    tokens: list[str]
    blank_id: int
    features: str
    frame_seconds: float
    contents: list[str]
    dtype: str = "float16"
    shard_size: int = 256
    media: str | None = None
    format: dict[str, Any] = field(default_factory=lambda: {"name": "dense"})
    schema: int = SCHEMA

    @property
    def shards(self) -> int:
        """The number of shards."""
        return -(-self.count // self.shard_size)

    @property
    def hidden_layers(self) -> tuple[int, ...]:
        """The teacher layers that are stored."""
        return tuple(int(name.removeprefix("hidden_")) for name in self.contents if name.startswith("hidden_"))

    @property
    def checksum(self) -> str:
        """sha256 of what the manifest says."""
        return sha256_of(canonical_json(asdict(self)))

    def to_json(self) -> bytes:
        """The bytes of `manifest.json`; equal manifests give equal bytes."""
        return canonical_json(asdict(self) | {CHECKSUM: self.checksum})


def manifest_of(
    pool: TeacherPool,
    corpus: str,
    ids: Sequence[str],
    transcripts: Sequence[str],
    dtype: str = "float16",
    shard_size: int = 256,
    hidden_layers: Sequence[int] = (),
    media: str | None = None,
    target_format: Mapping[str, Any] | None = None,
) -> StoreManifest:
    """The manifest of what a pool of teachers says of a corpus.

    Args:
        pool: the live teachers.
        corpus: the dataset's name.
        ids: its utterance ids, in order.
        transcripts: their transcripts, in the same order.
        dtype: precision on disk, "float16" or "float32".
        shard_size: utterances a shard.
        hidden_layers: teacher layers to store too.
        media: fingerprint of the content of the corpus's files.
        target_format: name and options of the form of the distributions; default: dense.

    Raises:
        UserError: for a duplicate id, an empty corpus, an unknown dtype or hidden states that the pool cannot give.
    """
    _check(pool, ids, dtype, hidden_layers)
    contents = sorted(pool.provides & STORED) + [f"hidden_{layer}" for layer in sorted(hidden_layers)]
    depends_on_text = "decoder_log_probs" in contents or pool.aggregation.scored or pool.matching is not None
    return StoreManifest(
        corpus=corpus,
        count=len(ids),
        ids=fingerprint_of_texts(ids),
        transcripts=fingerprint_of_texts(transcripts) if depends_on_text else None,
        teachers=[_identity(teacher.describe()) for teacher in pool.teachers],
        generalist=_identity(pool.generalist.describe()) if pool.generalist is not None else None,
        aggregation=pool.describe_aggregation(),
        vocabulary=pool.vocabulary,
        tokens=list(pool.tokens),
        blank_id=pool.blank_id,
        features=pool.features,
        frame_seconds=pool.frame_seconds,
        contents=contents,
        dtype=dtype,
        shard_size=shard_size,
        media=media,
        format=dict(target_format or {"name": "dense"}),
    )


def fingerprint_of_texts(texts: Iterable[str]) -> str:
    """sha256 over strings in their order (ids of a corpus, its transcripts).

    Example:
        >>> fingerprint_of_texts(["a", "bc"]) == fingerprint_of_texts(["ab", "c"])
        False
    """
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def read_manifest(path: Path) -> StoreManifest:
    """Read `manifest.json`.

    Raises:
        DamagedManifest: if it is not as it was written.
        MissingStore: if there is none.
        UserError: if it is of another version, or cannot be read.
    """
    try:
        content = path.read_bytes()
        manifest = _parsed(json.loads(content))
    except FileNotFoundError:
        raise MissingStore(
            f"there is no store of soft targets in {path.parent}",
            expected="a folder written by recipes/cache_teachers.py",
            fix="write it first, or correct teacher_cache",
        ) from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror})",
            expected="a store of soft targets in a folder of its own",
            fix="choose another --teacher_cache",
        ) from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        manifest = None
    if manifest is None or manifest.to_json() != content:
        raise DamagedManifest(f"{path} is damaged", fix=RESUME)
    return manifest


def _parsed(fields: Any) -> StoreManifest:
    written, schema = fields.pop(CHECKSUM, None), fields.get("schema")
    if isinstance(schema, int) and schema != SCHEMA and written in (None, sha256_of(canonical_json(fields))):
        raise UserError(
            f"the soft targets are stored in a layout of version {schema}",
            expected=f"version {SCHEMA}",
            fix="cache the teachers again, into another folder",
        )
    return StoreManifest(**fields)


def compare_manifest(found: StoreManifest, expected: StoreManifest | Mapping[str, Any]) -> list[str]:
    """One sentence for each thing in which a store differs from what a run expects.

    Args:
        found: the store's manifest.
        expected: a whole manifest, or only the fields the run can say something of, e.g.
            `{"tokens": [...], "blank_id": 0, "ids": fingerprint_of_texts(ids)}`.
    """
    wanted = asdict(expected) if isinstance(expected, StoreManifest) else dict(expected)
    strangers = sorted(wanted.keys() - asdict(found).keys())
    if strangers:
        raise ValueError(f"a manifest has no field {', '.join(strangers)}")
    differences = [*_compare_teachers(found, wanted), *_compare_vocabulary(found, wanted), *_compare_ids(found, wanted)]
    for name, sentence in _PLAIN_FIELDS.items():
        if name in wanted and wanted[name] != getattr(found, name):
            differences.append(f"{sentence}: {getattr(found, name)!r} in the store, {wanted[name]!r} in this run")
    return differences


def require_match(folder: str | Path, found: StoreManifest, expected: StoreManifest | Mapping[str, Any]) -> None:
    """Refuse a store that was made for something else, with every difference in one message.

    Raises:
        UserError: if anything differs.
    """
    differences = compare_manifest(found, expected)
    if differences:
        raise UserError(
            f"the soft targets in {folder} were made for something else: " + "; ".join(differences),
            fix="cache the teachers of this run into another folder, or correct the configuration",
        )


_PLAIN_FIELDS = {
    "schema": "version of the layout",
    "corpus": "name of the corpus",
    "transcripts": "transcripts (sha256)",
    "aggregation": "aggregation",
    "features": "features (fingerprint)",
    "frame_seconds": "seconds between frames",
    "contents": "contents",
    "dtype": "dtype",
    "format": "form of the distributions",
    "media": "content of the corpus's files (fingerprint)",
    "shard_size": "shard size",
}


def _compare_teachers(found: StoreManifest, wanted: Mapping[str, Any]) -> list[str]:
    differences = []
    for role in ("teachers", "generalist"):
        if role not in wanted:
            continue
        there, here = _as_list(getattr(found, role)), _as_list(wanted[role])
        names = [[teacher["name"] for teacher in teachers] for teachers in (there, here)]
        if names[0] != names[1]:
            listed = [", ".join(some) or "none" for some in names]
            differences.append(f"{role}: {listed[0]} in the store, {listed[1]} in this run")
            continue
        for stored, given in zip(there, here, strict=True):
            differences += [
                f"teacher {stored['name']}: its {sentence} is {stored[field]} in the store"
                f" and {given[field]} in this run"
                for field, sentence in _TEACHER_FIELDS.items()
                if field in given and given[field] != stored[field]
            ]
    return differences


_TEACHER_FIELDS = {"fingerprint": "weight fingerprint", "features": "feature fingerprint", "precision": "precision"}


def _compare_vocabulary(found: StoreManifest, wanted: Mapping[str, Any]) -> list[str]:
    if "tokens" in wanted:
        blank = wanted.get("blank_id", found.blank_id)
        there, here = (found.tokens, found.blank_id), (wanted["tokens"], blank)
        difference = vocabulary_difference(*there, *here, "the store", "this run")
        return [f"vocabulary: {difference}"] if difference else []
    if wanted.get("vocabulary", found.vocabulary) != found.vocabulary:
        return [f"vocabulary (fingerprint): {found.vocabulary} in the store, {wanted['vocabulary']} in this run"]
    return []


def _compare_ids(found: StoreManifest, wanted: Mapping[str, Any]) -> list[str]:
    if wanted.get("count", found.count) != found.count:
        return [f"corpus: {found.count} utterances in the store, {wanted['count']} in this run"]
    if wanted.get("ids", found.ids) != found.ids:
        return ["corpus: the same number of utterances, but other ids or another order"]
    return []


def _as_list(teachers: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if teachers is None:
        return []
    return [teachers] if isinstance(teachers, Mapping) else list(teachers)


def _identity(description: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": description["name"]} | {field: description[field] for field in _TEACHER_FIELDS}


def _check(pool: TeacherPool, ids: Sequence[str], dtype: str, hidden_layers: Sequence[int]) -> None:
    if dtype not in DTYPES:
        raise UserError(f"cache_dtype is '{dtype}'", expected=f"one of {', '.join(DTYPES)}")
    if not ids:
        raise UserError("there is no utterance to cache teachers for", expected="a corpus with utterances")
    if len(set(ids)) != len(ids):
        twice = next(name for name, count in Counter(ids).items() if count > 1)
        raise UserError(f"utterance id '{twice}' occurs twice", expected="unique ids")
    if hidden_layers and not pool.speaks_alone:
        raise UserError(
            f"hidden layers {list(hidden_layers)} are to be cached, but several teachers speak for one utterance",
            expected="one teacher for each utterance (aggregation route or best, or a single teacher)",
        )
