"""Networks that follow a stream: logits for frames as they come, instead of for whole utterances.

| stream | of | its logits |
|---|---|---|
| `ExactStream` | a `CtcRecogniser` that reads ahead only and embeds frames alone | those of the whole utterance |
| `WindowStream` | any CTC network | those of windows, which are others |

Both take chunks of one utterance and give a part of its logits back, `accept` after `accept`, and the rest at `finish`.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from kd_asr_slr.errors import UserError
from kd_asr_slr.models.forward import frame_ratio, lengths_after, run_ctc, unwrap
from kd_asr_slr.models.parts.front import FrontStep
from kd_asr_slr.models.parts.recogniser import CtcRecogniser
from kd_asr_slr.outputs import given


class LogitStream(Protocol):
    """A network that follows one utterance at a time.

    Attributes:
        exact: the logits are those of the whole utterance at once.
        latency: input frames (of a network that takes waveforms: samples) that must have come behind the first one of
            an output frame before its logits are given, at worst.
    """

    exact: bool
    latency: int

    def accept(self, inputs: torch.Tensor) -> torch.Tensor:
        """The next frames [T, F] (samples [S]), any number of them: the logits that they complete [T', V]."""
        ...

    def finish(self) -> torch.Tensor:
        """The utterance's end: its last logits [T', V]. The stream is ready for the next utterance."""
        ...


def open_stream(model: PreTrainedModel, chunk: int, left: int, right: int) -> LogitStream:
    """The exact stream where a network has one, else windows.

    Args:
        model: in eval mode.
        chunk, left, right: of `WindowStream`, in output frames.
    """
    core = unwrap(model)
    if can_stream(core):
        return ExactStream(core)
    return WindowStream(model, chunk, left, right)


def can_stream(model: nn.Module) -> bool:
    """Whether a network's outputs need no more than a few later frames."""
    return isinstance(model, CtcRecogniser) and model.embeds_frames_alone and not model.config.bidirectional


class ExactStream:
    """A recogniser that reads ahead only, with the state of its layers and the last frames of its convolutions.

    Args:
        model: see `can_stream`, in eval mode.

    Example:
        >>> config = BiLstmConfig(input_size=8, hidden_size=16, bidirectional=False, stride=4, vocab_size=5)
        >>> stream = ExactStream(BiLstmForCTC(config).eval())
        >>> len(stream.accept(torch.randn(30, 8))) + len(stream.finish())
        8
    """

    exact = True

    def __init__(self, model: CtcRecogniser) -> None:
        if not can_stream(model):
            raise ValueError(f"{type(model).__name__} with this configuration needs whole utterances")
        self._model = model
        front: Any = model.front
        self._steps = [_StepStream(*parts) for parts in zip(front.steps, front.convolutions, front.norms, strict=True)]
        self._states: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * len(model.layers)
        rate, self.latency = 1, 0
        for step in front.steps:
            self.latency += rate * (step.kernel // 2) + rate * step.stride * (step.pool - 1)
            rate *= step.stride * step.pool

    @torch.inference_mode()
    def accept(self, inputs: torch.Tensor) -> torch.Tensor:
        """See `LogitStream`."""
        hidden = self._embed(inputs)
        for step in self._steps:
            hidden = step.accept(hidden)
        return self._encode(hidden)

    @torch.inference_mode()
    def finish(self) -> torch.Tensor:
        """See `LogitStream`."""
        hidden = self._embed(torch.zeros(0, self._model.config.input_size, device=self._model.device))
        for step in self._steps:
            hidden = torch.cat([step.accept(hidden), step.finish()], dim=1)
        logits = self._encode(hidden)
        self._states = [None] * len(self._states)
        return logits

    def _embed(self, inputs: torch.Tensor) -> torch.Tensor:
        frames = inputs.to(self._model.device)[None]  # [1, T, F]
        return self._model.embed(frames, torch.tensor([frames.shape[1]], device=frames.device))

    def _encode(self, hidden: torch.Tensor) -> torch.Tensor:
        if hidden.shape[1]:  # torch's LSTM takes no empty input
            for number, layer in enumerate(self._model.layers):
                ahead: Any = layer.ahead  # of a BiLstmLayer
                read, self._states[number] = ahead(hidden, self._states[number])
                hidden = hidden + read
        return self._model.head(hidden)[0]


class _StepStream:
    """One convolution of a front, with the frames that its next output needs, and the pooling behind it."""

    def __init__(self, step: FrontStep, convolution: nn.Conv1d, norm: nn.LayerNorm) -> None:
        self._step = step
        self._convolution = convolution
        self._norm = norm
        self._start()

    def _start(self) -> None:
        weight = self._convolution.weight
        self._side = weight.new_zeros(1, self._step.kernel // 2, weight.shape[1])  # the silence on either side
        self._frames = self._side  # not yet read to the end, [1, n, D]
        self._skip = 0  # frames to come that no output needs: the stride steps over them
        self._pooled = weight.new_zeros(1, 0, weight.shape[0])  # of an incomplete window

    def accept(self, hidden: torch.Tensor) -> torch.Tensor:
        """The next frames [1, T, D]: the outputs that they complete."""
        return self._pool(self._convolve(hidden), whole=True)

    def finish(self) -> torch.Tensor:
        """The outputs that see the silence behind the utterance, and an incomplete window."""
        rest = self._pool(self._convolve(self._side), whole=False)
        self._start()
        return rest

    def _convolve(self, hidden: torch.Tensor) -> torch.Tensor:
        skipped = min(self._skip, hidden.shape[1])
        self._skip -= skipped
        frames = torch.cat([self._frames, hidden[:, skipped:]], dim=1)
        kernel, stride = self._step.kernel, self._step.stride
        outputs = max((frames.shape[1] - kernel) // stride + 1, 0)
        self._frames = frames[:, outputs * stride :]
        self._skip += max(outputs * stride - frames.shape[1], 0)
        if not outputs:
            return frames[:, :0]
        seen = frames[:, : (outputs - 1) * stride + kernel].transpose(1, 2)
        read = F.conv1d(seen, self._convolution.weight, self._convolution.bias, stride)
        return F.relu(self._norm(read.transpose(1, 2)))

    def _pool(self, hidden: torch.Tensor, whole: bool) -> torch.Tensor:
        size = self._step.pool
        if size == 1:
            return hidden
        hidden = torch.cat([self._pooled, hidden], dim=1)
        ready = hidden.shape[1] // size * size if whole else hidden.shape[1]
        self._pooled = hidden[:, ready:]
        if not ready:
            return hidden[:, :0]
        return F.max_pool1d(hidden[:, :ready].transpose(1, 2), size, ceil_mode=True).transpose(1, 2)


class WindowStream:
    """Any CTC network on windows of a stream: a chunk with some context on either side, of which the chunk is kept.

    Every window is recognised from nothing, so a frame is seen (left + chunk + right) / chunk times, and what lies
    outside of its window has no influence: the logits are not those of the whole utterance. How many more errors that
    costs is to be measured (`benchmarks/student.py`).

    Args:
        model: in eval mode.
        chunk: output frames that are kept of a window.
        left: output frames of context before them.
        right: output frames of context behind them, for which they wait.

    Raises:
        UserError: if the network needs more context behind a chunk for the chunk's own frames.
    """

    exact = False

    def __init__(self, model: PreTrainedModel, chunk: int, left: int, right: int) -> None:
        if chunk < 1 or left < 0 or right < 0:
            raise ValueError(f"chunk {chunk}, left {left}, right {right}; expected at least 1, 0 and 0 frames")
        self._model = model
        self._ratio = frame_ratio(model)
        self._name = unwrap(model).main_input_name
        self._chunk, self._left, self._right = (frames * self._ratio for frames in (chunk, left, right))
        self.latency = self._chunk + self._right - 1
        if int(lengths_after(model, torch.tensor([self._chunk + self._right]))[0]) < chunk:
            # A network of waveforms without padding sees a little more than an output frame's own samples.
            raise UserError(f"a chunk with {right} frames behind it is too short for {type(unwrap(model)).__name__}")
        self._start()

    def _start(self) -> None:
        self._inputs: torch.Tensor | None = None  # from the left context of the next chunk on
        self._context = 0  # input frames of it that come before the chunk

    def accept(self, inputs: torch.Tensor) -> torch.Tensor:
        """See `LogitStream`."""
        self._inputs = inputs if self._inputs is None else torch.cat([self._inputs, inputs])
        found = []
        while len(self._inputs) - self._context >= self._chunk + self._right:
            found.append(self._window(self._context + self._chunk + self._right)[: self._chunk // self._ratio])
            end = self._context + self._chunk
            self._context = min(self._left, end)
            self._inputs = self._inputs[end - self._context :]
        return torch.cat(found) if found else self._nothing()

    def finish(self) -> torch.Tensor:
        """See `LogitStream`."""
        known = 0 if self._inputs is None else len(self._inputs)
        logits = self._window(known) if known > self._context else self._nothing()
        self._start()
        return logits

    @torch.inference_mode()
    def _window(self, end: int) -> torch.Tensor:
        """The logits behind the context of the first input frames."""
        inputs = given(self._inputs, "inputs")[:end].to(self._model.device)[None]
        mask = torch.ones(inputs.shape[:2], dtype=torch.long, device=inputs.device)
        output = run_ctc(self._model, {self._name: inputs, "attention_mask": mask})
        return output.logits[0, self._context // self._ratio : int(output.logit_lengths[0])].float()

    def _nothing(self) -> torch.Tensor:
        return torch.zeros(0, self._model.config.vocab_size, device=self._model.device)
