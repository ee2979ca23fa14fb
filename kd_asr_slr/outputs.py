"""What models and teachers hand to the losses.

Dimension legend, used in every docstring and comment of the package:
    B utterances in a batch        T frames at the model's output rate
    U labels of an utterance       V vocabulary size (the blank included)
    D width of a hidden state      K teachers
    S waveform samples             F features a frame
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from transformers.utils import ModelOutput

Part = TypeVar("Part")


def given(part: Part | None, name: str) -> Part:
    """A part of an output, a signal or a context that the caller has declared to need, and that is therefore there.

    Args:
        part: the part.
        name: what it is called where it is missing after all.

    Raises:
        ValueError: if it is missing: an error of the program, not of its user.
    """
    if part is None:
        raise ValueError(f"{name} is needed here and was not given")
    return part


@dataclass
class CTCOutput(ModelOutput):
    """Output of a CTC model.

    Attributes:
        loss: scalar; mean CTC loss, only where labels were given.
        logits: [B, T, V], raw; nobody has applied a log-softmax to them.
        logit_lengths: [B], valid frames of each utterance.
        hidden_states: one [B, T, D] per layer, only where asked for.
        auxiliary_logits: [B, T, V], raw, of a second classifier below the last layer; only of networks that have one
            (`config.auxiliary_classifier`: on the convolutions, `config.intermediate_layer`: within the encoder).
        other_view_logits: [B, T, V], raw, without gradient: what the student says of the other view of each row's
            utterance; the trainer adds them where it trains on two views.
    """

    loss: torch.Tensor | None = None
    # Every model gives these two; they have a default only because `loss` before them has one.
    logits: torch.Tensor = None  # type: ignore[assignment]
    logit_lengths: torch.Tensor = None  # type: ignore[assignment]
    hidden_states: tuple[torch.Tensor, ...] | None = None
    auxiliary_logits: torch.Tensor | None = None
    other_view_logits: torch.Tensor | None = None


@dataclass
class HybridOutput(CTCOutput):
    """Output of a CTC + attention model: a `CTCOutput` and the decoder, teacher-forced on the labels.

    Attributes:
        decoder_logits: [B, U+1, V], raw; position u predicts label u, position U the end of sequence.
        decoder_lengths: [B], valid decoder positions of each utterance (its labels + 1).
    """

    decoder_logits: torch.Tensor | None = None
    decoder_lengths: torch.Tensor | None = None


def decoder_part(output: CTCOutput) -> tuple[torch.Tensor, torch.Tensor]:
    """The decoder's logits [B, U+1, V] and lengths [B], of an output that has them."""
    if not isinstance(output, HybridOutput):
        raise ValueError("an output without a decoder's part")
    return given(output.decoder_logits, "decoder_logits"), given(output.decoder_lengths, "decoder_lengths")


TAIL_TEMPERATURES = (1.0, 2.0, 4.0)  # at which the mass of a tail is written down


@dataclass
class SparseTargets:
    """Distributions of which only some classes are written down, the other classes together as one: the tail.

    Attributes:
        ids: [..., k], long, the classes; places that are left over repeat the first one with `log_probs` -inf.
        log_probs: [..., k], float32, at temperature 1.
        size: V.
        tail: [..., 3], log of the sum of p^(1/T) over the tail at T of `TAIL_TEMPERATURES`; -inf where there is none.
            None: what is written down is all there is.
        log_weights: [..., k], logarithm of how often a drawn class came, a share; None where classes were not drawn.
        drawn_at: the temperature of the distribution that the classes were drawn from.
    """

    ids: torch.Tensor
    log_probs: torch.Tensor
    size: int
    tail: torch.Tensor | None = None
    log_weights: torch.Tensor | None = None
    drawn_at: float = 1.0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def written(self) -> torch.Tensor:
        """[..., k], boolean: the places that hold a class."""
        return self.log_probs > -math.inf

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> SparseTargets:
        """The same of every tensor, e.g. on another device, or of some rows."""
        tail, weights = (None if part is None else function(part) for part in (self.tail, self.log_weights))
        return replace(self, ids=function(self.ids), log_probs=function(self.log_probs), tail=tail, log_weights=weights)

    def at(self, temperature: float = 1.0) -> torch.Tensor:
        """The softened distributions, [..., k + 1] log-probabilities, the tail last.

        The logarithm of the tail's sum is a smooth function of 1/T, log(V - k) at 0: the cubic through the masses that
        were written down; below T = 1 the line through the last two.
        """
        known, given = (self.log_probs, 1.0) if self.log_weights is None else (self.log_weights, self.drawn_at)
        scores = known + (1 / temperature - 1 / given) * self.log_probs.clamp(min=-1e4)
        scores = torch.cat([scores, self._tail_at(temperature).unsqueeze(-1)], -1)
        return scores.log_softmax(-1)

    def dense(self) -> torch.Tensor:
        """[..., V] log-probabilities at temperature 1; the tail's mass is spread evenly over its classes.

        Good for what is read at temperature 1, such as the best class. Softened, such a tail is not the teacher's.
        """
        scores = self.at()
        tail = scores[..., -1:] - self._tail_classes().log().unsqueeze(-1)
        first = torch.where(self.written[..., :1], scores[..., :1], tail)
        places = torch.where(self.written, scores[..., :-1], first)
        return tail.expand(*tail.shape[:-1], self.size).scatter(-1, self.ids, places)

    def best(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The most probable class that is written down, as `max` gives it: log-probability at temperature 1, class."""
        log_prob, place = self.log_probs.max(-1, keepdim=True)
        return log_prob.squeeze(-1), self.ids.gather(-1, place).squeeze(-1)

    def one_or_other(self, index: int, temperature: float = 1.0) -> torch.Tensor:
        """[..., 2] log-probabilities of one class and of all others together.

        A class in the tail has its even share of it.
        """
        scores = self.at(temperature)
        kept, tail, count = scores[..., :-1], scores[..., -1:], self._tail_classes().unsqueeze(-1)
        here = (self.ids == index) & self.written  # [..., k]
        found = here.any(-1, keepdim=True)
        one = torch.where(found, kept.masked_fill(~here, -math.inf).amax(-1, keepdim=True), tail - count.log())
        rest = torch.where(found, tail, tail + torch.log1p(-1 / count))
        others = torch.cat([kept.masked_fill(here, -math.inf), rest], -1).logsumexp(-1, keepdim=True)
        return torch.cat([one, others], -1)

    def _tail_classes(self) -> torch.Tensor:
        return (self.size - self.written.sum(-1)).clamp(min=1).float()

    def _tail_at(self, temperature: float) -> torch.Tensor:
        if self.tail is None:
            return torch.full_like(self.log_probs[..., 0], -math.inf)
        known = [self._tail_classes().log(), *self.tail.clamp(min=-1e9).flip(-1).unbind(-1)]
        points, place = [0.0, *(1 / given for given in reversed(TAIL_TEMPERATURES))], 1 / temperature
        if place > 1:
            found = known[3] + (known[3] - known[2]) / (points[3] - points[2]) * (place - 1)
        else:
            found = torch.zeros_like(known[0])
            for this, value in zip(points, known, strict=True):
                others = [other for other in points if other != this]
                found = found + math.prod((place - other) / (this - other) for other in others) * value
        return torch.where(self.tail[..., 0] > -math.inf, found, -math.inf)


@dataclass
class TeacherSignal:
    """What the teachers say of one batch; a live teacher and a cached one give the same type.

    All distributions are log-probabilities at temperature 1, already combined over teachers.

    Attributes:
        log_probs: [B, T, V], float32, each valid frame sums to 1 in probability. Where `sparse` is given this may be
            None, and is made of it when somebody first reads it.
        lengths: [B], valid frames of each utterance.
        vocabulary: fingerprint of the token list (see `processing.tokenization`).
        frame_seconds: seconds between two frames (sign corpora: frames of the input video per output
            frame, where the video's rate is unknown).
        weight: [B], 1 where a teacher speaks for the utterance, 0 where none may (policy "skip").
        decoder_log_probs: [B, U+1, V] of teachers that have a decoder, else None.
        decoder_lengths: [B], valid decoder positions.
        hidden_states: layer index -> [B, T, D], only where a loss asked for it.
        sparse: [B, T] distributions of which only some classes are written down, where a cache holds such.
        decoder_sparse: [B, U+1] of them; then `decoder_log_probs` is None.
    """

    log_probs: torch.Tensor  # who reads it gets a tensor, whatever it was made with
    lengths: torch.Tensor
    vocabulary: str
    frame_seconds: float
    weight: torch.Tensor
    decoder_log_probs: torch.Tensor | None = None
    decoder_lengths: torch.Tensor | None = None
    hidden_states: dict[int, torch.Tensor] | None = None
    sparse: SparseTargets | None = None
    decoder_sparse: SparseTargets | None = None

    def __post_init__(self) -> None:
        if self.log_probs is None:
            del self.log_probs  # so that reading it ends up in __getattr__

    def __getattr__(self, name: str) -> torch.Tensor:
        sparse = self.__dict__.get("sparse")
        if name != "log_probs" or sparse is None:
            raise AttributeError(f"{type(self).__name__} has no {name}")
        self.log_probs = sparse.dense()
        return self.log_probs

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> TeacherSignal:
        """The same of every tensor, e.g. on another device; sparse distributions stay sparse."""

        def mapped(value: Any) -> Any:
            if isinstance(value, SparseTargets):
                return value.map(function)
            if isinstance(value, dict):
                return {key: function(item) for key, item in value.items()}
            return function(value) if isinstance(value, torch.Tensor) else value

        values = {item.name: mapped(self.__dict__.get(item.name)) for item in fields(self)}
        return TeacherSignal(**values)
