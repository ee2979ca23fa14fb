"""Writing a network in each of the formats, and running what was written. Both lengths, B and T, are free.

The ONNX writer is torch's tracing one: it needs no further package, keeps every LSTM one operator, which onnxruntime
has an int8 kernel for, and takes seconds where the newer one took a minute and a half. `torch.export` unrolls an LSTM
frame by frame, so networks that have one are refused.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kd_asr_slr.errors import UserError
from kd_asr_slr.export.leaner import drop_defaults, make_leaner
from kd_asr_slr.export.lstm import drop_zero_states, group_rows, pack_lstms

FORMATS = {"onnx": "student.onnx", "int8": "student-int8.onnx", "torch_export": "student.pt2"}
OPSET = 17
OUTPUTS = ("logits", "logit_lengths")
OPERATOR = re.compile(r"(?:aten|prim|torchaudio|torchvision)::\w+")

# From the input [B, T, F] (or [B, S]) and its mask to logits [B, T', V] and lengths [B].
Runner = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class CtcNetwork(nn.Module):
    """A recogniser as a plain function: input and mask to logits [B, T', V] and their lengths [B].

    Args:
        model: any CTC network of the toolkit, in eval mode; of a hybrid this is the encoder with its CTC head.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()  # the exporter puts back the mode it found out here, on everything within

    def forward(self, inputs: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Recognise a batch."""
        output = self.model(inputs, attention_mask=attention_mask)
        return output.logits, output.logit_lengths


def runner_of(network: nn.Module) -> Runner:
    """The network itself, from arrays to arrays."""

    def run(inputs: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            logits, lengths = network(torch.from_numpy(inputs), torch.from_numpy(mask))
        return logits.numpy(), lengths.numpy()

    return run


def export(network: nn.Module, example: Mapping[str, torch.Tensor], kind: str, path: Path, threads: int = 0) -> Runner:
    """Write a network, and load what was written.

    Args:
        network: in eval mode, on the CPU.
        example: a batch of at least 2 utterances, the input under its own name and `attention_mask`.
        kind: one of `FORMATS`.
        path: the file to write.
        threads: of onnxruntime, for what was written; 0 lets it choose.

    Returns:
        What was written, as a function.

    Raises:
        UserError: where the format has no such operator, naming it, or a package is missing.
    """
    inputs = tuple(example.values())
    if kind == "torch_export":
        return _torch_export(network, inputs, path)
    if kind == "onnx":
        _write_onnx(network, inputs, list(example), path)
    else:
        whole = path.with_name(f"{path.name}.float32")
        try:
            _write_onnx(network, inputs, list(example), whole)
            _quantise(whole, path)
        finally:
            whole.unlink(missing_ok=True)
    return _onnx_runner(path, threads)


def unsupported(error: Exception, kind: str) -> UserError:
    """The sentence about a network that a format cannot hold: which operator it was, where the error tells."""
    message = str(error).strip().partition("[Caused by")[0].strip()  # what follows is the graph
    named = OPERATOR.findall(message)
    why = f"it has no {named[0]}" if named else (message.splitlines() or [type(error).__name__])[0][:200]
    return UserError(
        f"the network cannot be written as {kind}: {why}",
        expected="a network whose operators the format has",
        fix="choose another network" + (", or --format onnx" if kind == "torch_export" else ""),
    )


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Nothing on standard output: before it fails, torch prints the whole graph there, past Python's `sys.stdout`."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _write_onnx(network: nn.Module, inputs: tuple[torch.Tensor, ...], names: list[str], path: Path) -> None:
    axes = {name: {0: "batch", 1: "frames"} for name in names}
    axes |= {"logits": {0: "batch", 1: "output_frames"}, "logit_lengths": {0: "batch"}}
    with warnings.catch_warnings(), _hushed():
        warnings.simplefilter("ignore")  # about sizes that it takes as fixed: the comparison on other sizes tells
        try:
            torch.onnx.export(
                network,
                inputs,
                str(path),
                dynamo=False,
                input_names=names,
                output_names=list(OUTPUTS),
                dynamic_axes=axes,
                opset_version=OPSET,
            )
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            raise unsupported(error, "onnx") from error


def _quantise(source: Path, target: Path) -> None:
    """From float32 to int8; the file with float32 weights is changed on the way."""
    import onnx
    from onnxruntime.quantization import QuantType, quant_pre_process, quantize_dynamic

    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # it lists every operator that it leaves as it is
    try:
        model = onnx.load(source)
        drop_zero_states(model)
        quant_pre_process(model, source, skip_onnx_shape=True, skip_symbolic_shape=True)
        model = onnx.load(source)
        drop_defaults(model)
        group_rows(model)
        quantize_dynamic(model, target, weight_type=QuantType.QInt8, per_channel=True)
        model = onnx.load(target)
        pack_lstms(model)
        make_leaner(model)
        onnx.save(model, target)
    finally:
        logging.disable(before)


def _onnx_runner(path: Path, threads: int) -> Runner:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("onnxruntime is not installed", fix='pip install "kd_asr_slr[export]"') from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]

    def run(inputs: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, lengths = session.run(list(OUTPUTS), dict(zip(names, (inputs, mask), strict=True)))
        return logits, lengths

    return run


def _torch_export(network: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path) -> Runner:
    if any(isinstance(module, nn.LSTM) for module in network.modules()):
        raise UserError(
            "the network cannot be written as torch_export: torch.export unrolls aten::lstm to a fixed length",
            expected="a network without LSTM layers",
            fix="choose --format onnx",
        )
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        program = torch.export.export(network, inputs, dynamic_shapes=tuple(free for _ in inputs), strict=False)
        with path.open("wb") as file:  # by name it would insist on a suffix
            torch.export.save(program, file)
    except Exception as error:  # torch's exporter raises errors of many classes, its own and the network's
        raise unsupported(error, "torch_export") from error
    with path.open("rb") as file:
        loaded: Any = torch.export.load(file).module()
    return runner_of(loaded)
