"""Teachers whose words were written down: the same signal as a live pool's, read by utterance id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch

from kd_asr_slr.errors import UserError
from kd_asr_slr.outputs import TeacherSignal
from kd_asr_slr.teachers.padding import pad_log_probs, pad_sparse, pad_states
from kd_asr_slr.teachers.shards import StoredTarget
from kd_asr_slr.teachers.store import StoreReader


class CachedTeachers:
    """A finished store of soft targets in the place of a `TeacherPool`.

    Args:
        reader: the store, or its folder.

    Example:
        >>> teachers = CachedTeachers(StoreReader("cache"))  # doctest: +SKIP
        >>> teachers.signal(batch).log_probs.shape  # doctest: +SKIP
        torch.Size([8, 120, 17])
    """

    def __init__(self, reader: StoreReader | str | Path) -> None:
        self.reader = reader if isinstance(reader, StoreReader) else StoreReader(reader)
        manifest = self.reader.manifest
        self.tokens, self.blank_id, self.vocabulary = manifest.tokens, manifest.blank_id, manifest.vocabulary
        self.frame_seconds = manifest.frame_seconds
        self.features = manifest.features

    @property
    def provides(self) -> frozenset[str]:
        """What a loss may ask of the signal, see `interface.Teachers`."""
        contents = self.reader.manifest.contents
        given = {"hidden_states" if name.startswith("hidden_") else name for name in contents}
        return frozenset(given if self.sparse else {*given, "dense_log_probs"})

    @property
    def sparse(self) -> bool:
        """Whether the store holds some classes of each frame and not all of them."""
        return self.reader.form.sparse

    @property
    def views(self) -> dict[str, Any]:
        """No teacher is run, so that a batch needs no features but the student's."""
        return {}

    def to(self, device: torch.device | str) -> CachedTeachers:
        """Nothing to move (a signal goes to its batch's device); returns itself."""
        return self

    def describe(self) -> dict[str, Any]:
        """A JSON-able description for results.json."""
        manifest = self.reader.manifest
        return {
            "kind": "cached",
            "teachers": manifest.teachers,
            "generalist": manifest.generalist,
            "aggregation": manifest.aggregation,
            "vocabulary": manifest.vocabulary,
            "frame_seconds": manifest.frame_seconds,
            "dtype": manifest.dtype,
            "format": manifest.format,
        }

    def signal(self, batch: dict[str, Any], hidden_layers: Sequence[int] = (), decoder: bool = True) -> TeacherSignal:
        """What the teachers said of the utterances of a batch.

        Args:
            batch: a collated batch with `ids`.
            hidden_layers: teacher layers whose hidden states are wanted; they must have been stored.
            decoder: whether the distributions of the decoders are wanted, where they were stored.

        Raises:
            UserError: for an utterance that is not in the store, a layer that was not stored, or a transcript that is
                longer or shorter than the one the teachers' decoders were given.
        """
        self._check_layers(hidden_layers)
        with_decoder = decoder and "decoder_log_probs" in self.provides and batch.get("labels") is not None
        contents = ["log_probs", *(["decoder_log_probs"] if with_decoder else [])]
        contents += [f"hidden_{layer}" for layer in hidden_layers]
        targets = [self.reader.read(name, contents) for name in batch["ids"]]
        decoder_lengths, decoded = None, None
        if with_decoder:
            decoder_lengths = ((batch["labels"] >= 0).sum(-1) + 1).cpu()  # [B]
            self._check_transcripts(batch["ids"], targets, decoder_lengths)
            decoded = self._stack(targets, decoder_lengths, "decoder_log_probs")
        lengths = torch.tensor([target.frames for target in targets])
        frames = self._stack(targets, lengths, "log_probs")
        states = {layer: self._states(targets, lengths, f"hidden_{layer}") for layer in hidden_layers}
        signal = TeacherSignal(
            log_probs=cast(torch.Tensor, None) if self.sparse else frames,  # it is made on first reading
            lengths=lengths,
            vocabulary=self.vocabulary,
            frame_seconds=self.frame_seconds,
            weight=torch.tensor([target.weight for target in targets]),
            decoder_log_probs=None if self.sparse else decoded,
            decoder_lengths=decoder_lengths,
            hidden_states=states or None,
            sparse=frames if self.sparse else None,
            decoder_sparse=decoded if self.sparse else None,
        )
        return signal.map(lambda tensor: tensor.to(batch["attention_mask"].device))

    def _stack(self, targets: list[StoredTarget], lengths: torch.Tensor, content: str) -> Any:
        """[B, T, V], or `SparseTargets` of [B, T] frames."""
        form, size = self.reader.form, len(self.tokens)
        rows: list[Any] = [
            target.tensors[content] if target.tensors else form.uniform(length, size)
            for target, length in zip(targets, lengths.tolist(), strict=True)
        ]
        empty: Any = form.uniform(1, size)
        return pad_sparse(rows, empty) if form.sparse else pad_log_probs(rows)

    def _states(self, targets: Sequence[Any], lengths: torch.Tensor, content: str) -> torch.Tensor:
        if all(target.tensors for target in targets):
            return pad_states([target.tensors[content] for target in targets])  # [B, T, D]
        width = self.reader.width(content)
        return pad_states(
            [
                target.tensors[content] if target.tensors else torch.zeros(length, width)
                for target, length in zip(targets, lengths.tolist(), strict=True)
            ]
        )

    def _check_layers(self, hidden_layers: Sequence[int]) -> None:
        absent = sorted(set(hidden_layers) - set(self.reader.manifest.hidden_layers))
        if absent:
            raise UserError(
                f"hidden layers {absent} are not in the soft targets in {self.reader.folder}",
                expected=f"layers among {list(self.reader.manifest.hidden_layers)}",
                fix="cache the teachers again with --cache_hidden_layers, or use live teachers",
            )

    def _check_transcripts(
        self, ids: Sequence[str], targets: list[StoredTarget], decoder_lengths: torch.Tensor
    ) -> None:
        for name, target, length in zip(ids, targets, decoder_lengths.tolist(), strict=True):
            if target.tensors and len(target.tensors["decoder_log_probs"]) != length:
                stored = len(target.tensors["decoder_log_probs"]) - 1
                raise UserError(
                    f"utterance '{name}' has {length - 1} labels and had {stored} when its teachers were cached",
                    expected="the transcripts the teachers' decoders were given",
                    fix="cache the teachers again",
                )
