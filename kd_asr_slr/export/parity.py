"""What was written, beside the model it was made of: on real utterances, in numbers, words, errors and seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kd_asr_slr.errors import UserError
from kd_asr_slr.export.formats import Runner
from kd_asr_slr.scoring.predictions import Prediction
from kd_asr_slr.scoring.protocols import get_protocol
from kd_asr_slr.scoring.rates import wer
from kd_asr_slr.scoring.score import count_rows

Feed = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass
class Parity:
    """How far an exported network is from the model it was made of.

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

    def rates(self, rows: Sequence[Prediction], protocol: str, split: str) -> tuple[float, float]:
        """WER of the network and of the exported one.

        Args:
            rows: of the utterances that were compared; their hypotheses are not looked at.
            protocol, split: see `scoring.score.count_rows`.
        """
        heard: list[list[Prediction]] = [
            [{**row, "hypothesis": self.hypotheses[row["id"]][side]} for row in rows] for side in (0, 1)
        ]
        first, second = (wer(count_rows(side, get_protocol(protocol), split)) for side in heard)
        return first, second


def check_float(parity: Parity, tolerance: float) -> None:
    """Float weights must give the same numbers.

    Args:
        parity: see `compare`.
        tolerance: largest difference of a log-probability.

    Raises:
        UserError: where a log-probability differs by more.
    """
    if parity.difference > tolerance:
        raise UserError(
            f"the exported network's log-probabilities differ by {parity.difference:.2g}",
            expected=f"at most {tolerance:g} (--tolerance)",
        )


def check_int8(rates: tuple[float, float], rise: float, where: str) -> None:
    """Weights of 8 bits give other numbers; what counts is the words.

    Args:
        rates: WER before and after.
        rise: how much the WER may rise, a fraction.
        where: what it was measured on, for the message.

    Raises:
        UserError: where it rises by more.
    """
    before, after = rates
    if after - before > rise:
        raise UserError(
            f"int8 weights bring the WER on {where} from {100 * before:.2f} % to {100 * after:.2f} %",
            expected=f"a rise of at most {100 * rise:g} points",
            fix="export without int8 weights (--format onnx), or allow more (--wer_change)",
        )


def compare(
    network: Runner,
    exported: Runner,
    batches: Iterable[Mapping[str, Any]],
    name: str,
    text_of: Callable[..., str],
    feed: Feed | None = None,
) -> Parity:
    """Run both on the same batches.

    Args:
        network: the network.
        exported: what was written.
        batches: collated batches, each with `ids`, `attention_mask` and the input.
        name: of the network's input, "input_features" or "input_values".
        text_of: the text of the best labels [T] of an utterance.
        feed: makes the exported network's input and mask of them, where those are others; its time counts.

    Raises:
        UserError: if they have different lengths, or one of them is not finite.
    """
    found = Parity()
    for batch in batches:
        inputs, mask = batch[name].numpy(), batch["attention_mask"].numpy()
        sides = []
        for place, run in enumerate((network, exported)):
            began = time.perf_counter()
            sides.append(run(*(feed(inputs, mask) if feed and run is exported else (inputs, mask))))
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
