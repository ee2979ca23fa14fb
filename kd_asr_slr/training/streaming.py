"""A recogniser that listens, or looks, while an utterance goes on."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from kd_asr_slr.decoding.beam import BeamDecoder
from kd_asr_slr.decoding.greedy import GreedyStream
from kd_asr_slr.models.streaming import open_stream


class StreamingRecogniser:
    """Partial texts of an utterance whose frames come in chunks.

    With a network that can follow a stream (`stream.exact`) the last text is that of the whole utterance. With any
    other it comes from windows, and may be another one.

    Args:
        model: in eval mode.
        processor: its own.
        beam: a search over whole words; None decodes greedily.
        chunk, left, right: of `WindowStream`, in output frames; of no account where the stream is exact.

    Attributes:
        stream: says whether it is exact, and its latency in input frames.

    Example:
        >>> recogniser = StreamingRecogniser(model, processor)
        >>> for chunk in features.split(25):
        ...     print(recogniser.accept(chunk))
        >>> print(recogniser.finish())
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Any,
        beam: BeamDecoder | None = None,
        chunk: int = 16,
        left: int = 32,
        right: int = 8,
    ) -> None:
        self.stream = open_stream(model, chunk, left, right)
        self._processor = processor
        self._beam = beam
        self._search = self._new_search()

    def accept(self, inputs: torch.Tensor) -> str:
        """The next frames [T, F] of features, or samples [S] of a network that takes waveforms: the text so far."""
        return self._text(self.stream.accept(inputs))

    def finish(self) -> str:
        """The text of the utterance; the next frames begin another one."""
        text = self._text(self.stream.finish())
        self._search = self._new_search()
        return text

    def _new_search(self) -> Any:
        return GreedyStream(self._processor.blank_id) if self._beam is None else self._beam.stream()

    def _text(self, logits: torch.Tensor) -> str:
        if len(logits):
            self._search.accept(logits.float().log_softmax(-1).cpu().numpy())
        return self._processor.decode_labels(self._search.labels)
