"""One teacher: a trained network that only listens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import torch

from kd_asr_slr.errors import UserError
from kd_asr_slr.models.forward import blank_of, frame_ratio, run_ctc, unwrap
from kd_asr_slr.outputs import CTCOutput
from kd_asr_slr.processing.tokenization import fingerprint_of, token_list
from kd_asr_slr.teachers.fingerprints import fingerprint_of_weights

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class FrozenTeacher:
    """A model in evaluation mode, without gradients, fed with its own features.

    It is no `torch.nn.Module` on purpose: it can be registered in no student, so that it is neither saved with one nor
    switched to training mode by one.

    Args:
        model: any CTC model that `models.forward.run_ctc` can call.
        processor: the processor saved beside it.
        name: what messages and tables call it.
        speakers: speakers it is bound to (aggregation "route"); empty for a teacher of everyone.
        dev_wer: its WER on the dev set, a fraction (aggregations "best" and "weighted").
        precision: "float32", "bfloat16" or "float16": the forward pass runs under autocast (the weights stay as they
            are, so that a model's own feature front end is not rounded).
        student_features: fingerprint of the student's processor. Where it differs from this teacher's, the batch must
            bring the teacher's features in `batch["views"]`.
        fingerprint: what tells its weights from others; default: computed from the model's state.
        revision: commit on the hub that it was loaded from; None for a folder.

    Raises:
        UserError: if the model's outputs and the tokenizer's tokens do not belong together.

    Example:
        >>> teacher = FrozenTeacher(model, processor, "theo", speakers={"fsdd/theo"})  # doctest: +SKIP
        >>> teacher(batch).logits.shape  # doctest: +SKIP
        torch.Size([8, 120, 17])
    """

    def __init__(
        self,
        model: torch.nn.Module,
        processor: Any,
        name: str,
        speakers: Iterable[str] = (),
        dev_wer: float | None = None,
        precision: str = "float32",
        student_features: str | None = None,
        fingerprint: str | None = None,
        revision: str | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise UserError(f"teacher_dtype is '{precision}'", expected=f"one of {', '.join(PRECISIONS)}")
        self.model = model.eval().requires_grad_(False)
        self.processor = processor
        self.name = name
        self.speakers = frozenset(speakers)
        self.dev_wer = dev_wer
        self.precision = precision
        self.fingerprint = fingerprint or fingerprint_of_weights(model)
        self.revision = revision
        self.tokens, self.blank_id = token_list(processor.tokenizer)
        self.vocabulary = fingerprint_of(self.tokens, self.blank_id)
        self.features = processor.fingerprint
        self.frame_seconds = processor.frame_seconds * frame_ratio(model)
        self.has_decoder = bool(getattr(model.config, "has_decoder", False))
        self.needs_view = student_features is not None and student_features != self.features
        self._check_outputs()

    def __call__(self, batch: dict[str, Any], output_hidden_states: bool = False) -> CTCOutput:
        """Run the teacher on a batch; what comes back carries no graph.

        Args:
            batch: a collated batch on the teacher's device.
            output_hidden_states: whether hidden states are wanted.
        """
        if self.model.training:
            self.model.eval()
        with torch.inference_mode(), self._autocast():
            return run_ctc(self.model, batch, output_hidden_states=output_hidden_states, view=self.view_of(batch))

    def view_of(self, batch: dict[str, Any]) -> str | None:
        """The view of the batch this teacher needs, None for the student's own features."""
        views = batch.get("views") or {}
        if self.features in views:
            return self.features
        if self.needs_view:
            raise ValueError(
                f"teacher {self.name} needs the view {self.features}; the batch has the views {sorted(views)}"
            )
        return None

    @property
    def device(self) -> torch.device:
        """Where the model stands."""
        return next(self.model.parameters(), torch.empty(0)).device

    def to(self, device: torch.device | str) -> FrozenTeacher:
        """Move the model; returns itself."""
        self.model.to(device)
        return self

    def describe(self) -> dict[str, Any]:
        """What results.json and a store's manifest say of this teacher."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "features": self.features,
            "precision": self.precision,
            "speakers": sorted(self.speakers),
            "dev_wer": self.dev_wer,
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            **({"revision": self.revision} if self.revision else {}),
        }

    def _autocast(self) -> contextlib.AbstractContextManager:
        # A student that trains under autocast must not change what its teacher says, hence "disabled" for float32.
        enabled = self.precision != "float32"
        dtype = PRECISIONS[self.precision] if enabled else None
        return torch.autocast(self.device.type, dtype=dtype, enabled=enabled)

    def _check_outputs(self) -> None:
        outputs = unwrap(self.model).config.vocab_size
        if outputs != len(self.tokens):
            raise UserError(
                f"teacher {self.name} has {outputs} outputs and its tokenizer {len(self.tokens)} tokens",
                expected="one token for every output",
                fix="give the folder in which the model was saved together with its processor",
            )
        if blank_of(self.model) != self.blank_id:
            raise UserError(
                f"teacher {self.name}: the blank is output {blank_of(self.model)} in its model"
                f" and token {self.blank_id} in its tokenizer",
                expected="one index for both",
            )
