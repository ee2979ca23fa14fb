"""What was written, beside the network it was made of: on real utterances, in numbers, words and seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kd_asr_slr.errors import UserError
from kd_asr_slr.export.formats import Runner


@dataclass
class Parity:
    """How far an exported network is from the one it was made of.

    Attributes:
        difference: the largest absolute difference of a log-probability in a valid frame.
        frames: valid frames compared, at the output rate.
        hypotheses: id -> greedy text of the network and of the exported one.
        seconds: spent in the network and in the exported one.
        input_frames: input frames (waveforms: samples) that were read, padding included.
    """

    difference: float = 0.0
    frames: int = 0
    hypotheses: dict[str, tuple[str, str]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=lambda: [0.0, 0.0])
    input_frames: int = 0

    @property
    def speeds(self) -> tuple[float, float]:
        """Input frames a second of the network and of the exported one."""
        first, second = (self.input_frames / max(seconds, 1e-9) for seconds in self.seconds)
        return first, second


def compare(
    network: Runner, exported: Runner, batches: Iterable[Mapping[str, Any]], name: str, text_of: Callable[..., str]
) -> Parity:
    """Run both on the same batches.

    Args:
        network: the network.
        exported: what was written.
        batches: collated batches, each with `ids`, `attention_mask` and the input.
        name: of the input, "input_features" or "input_values".
        text_of: the text of the best labels [T] of an utterance.

    Raises:
        UserError: if they have different lengths, or one of them is not finite.
    """
    found = Parity()
    for batch in batches:
        inputs, mask = batch[name].numpy(), batch["attention_mask"].numpy()
        sides = []
        for place, run in enumerate((network, exported)):
            began = time.perf_counter()
            sides.append(run(inputs, mask))
            found.seconds[place] += time.perf_counter() - began
        found.input_frames += mask.size
        (ours, lengths), (theirs, their_lengths) = sides
        if not np.array_equal(lengths, their_lengths):
            raise UserError(
                f"the exported network gives {their_lengths.tolist()} frames", expected=str(lengths.tolist())
            )
        for row, (identity, length) in enumerate(zip(batch["ids"], lengths.tolist(), strict=True)):
            first, second = _log_softmax(ours[row, :length]), _log_softmax(theirs[row, :length])
            if length:
                worst = float(np.abs(first - second).max())
                if not np.isfinite(worst):
                    raise UserError(f"the outputs for '{identity}' are not finite", expected="finite numbers")
                found.difference = max(found.difference, worst)
            found.frames += length
            found.hypotheses[identity] = (text_of(first.argmax(-1)), text_of(second.argmax(-1)))
    if not found.frames:
        raise UserError("there is nothing to check the export on", expected="at least one utterance with frames")
    return found


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
