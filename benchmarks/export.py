"""The student outside of PyTorch: a BiLSTM of 4 x 256, 512 features, 1,229 labels, as ONNX and with int8 weights.

All three sides have one thread. Weights are those it starts with: speed and size do not depend on them; how much int8
costs in errors does, and `recipes/export.py` says it of a trained run.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import Suite

from kd_asr_slr.export.formats import CtcNetwork, export, runner_of
from kd_asr_slr.export.parity import compare
from kd_asr_slr.models.auto import build_model

STUDENT = {"input_size": 512, "vocab_size": 1_229, "pad_token_id": 0}
SIZE = {"hidden_size": 256, "num_layers": 4}
FRAMES = 200
MEGABYTE = 10**6


def student() -> CtcNetwork:
    """With the weights it starts with."""
    torch.manual_seed(0)
    return CtcNetwork(build_model("bilstm", SIZE, **STUDENT).eval())


def batch(count: int, frames: int) -> dict[str, torch.Tensor]:
    """Utterances of noise, the last a third shorter."""
    features = torch.randn(count, frames, STUDENT["input_size"], generator=torch.Generator().manual_seed(frames))
    mask = torch.ones(count, frames, dtype=torch.long)
    mask[-1, frames - frames // 3 :] = 0
    return {"input_features": features, "attention_mask": mask}


def text_of(labels: np.ndarray) -> str:
    """Labels as words."""
    return " ".join(map(str, labels.tolist()))


def main() -> int:
    suite = Suite("export", "a BiLSTM of 4 x 256 in PyTorch, as ONNX, and with int8 weights")
    torch.set_num_threads(1)
    network = student()
    with tempfile.TemporaryDirectory() as folder:
        paths = {kind: Path(folder) / kind for kind in ("onnx", "int8")}
        sides = {"PyTorch": runner_of(network)}
        sides |= {kind: export(network, batch(2, 40), kind, path, threads=1) for kind, path in paths.items()}
        sizes = {kind: path.stat().st_size for kind, path in paths.items()}

    parameters = sum(value.numel() for value in network.parameters())
    note = f"floor: {4 * parameters / MEGABYTE:.1f}, {parameters:,} weights of 4 bytes"
    suite.at_most("ONNX on disk, MB", sizes["onnx"] / MEGABYTE, 100, note=note)
    weights = sum(value.numel() for value in network.parameters() if value.dim() > 1)
    rest = (sizes["int8"] - weights) / 1000
    note = f"floor: {weights / sizes['onnx']:.4f}, the weights; biases, scales and graph are {rest:.1f} kB"
    suite.at_most("int8 over ONNX, bytes", sizes["int8"] / sizes["onnx"], 0.25, note=note)

    lengths = ((1, 50), (4, 93)) if suite.quick else ((1, 50), (4, 93), (8, 250), (3, 400))
    batches = [{**batch(*size), "ids": [f"{size}-{row}" for row in range(size[0])]} for size in lengths]
    found = {kind: compare(sides["PyTorch"], sides[kind], batches, "input_features", text_of) for kind in paths}
    note = f"{found['onnx'].frames} frames, batches of {', '.join(f'{count} x {frames}' for count, frames in lengths)}"
    suite.at_most("ONNX: largest difference of a log-probability", found["onnx"].difference, 1e-4, note=note)
    suite.show("int8: largest difference of a log-probability", found["int8"].difference, note="untrained weights")

    example = [value.numpy() for value in batch(1, FRAMES).values()]
    example[1][:] = 1
    reference = sides["PyTorch"](*example)[0]
    suite.agree("logits of ONNX", sides["onnx"](*example)[0], reference, relative=1e-5)
    suite.agree("logits of int8", sides["int8"](*example)[0], reference, relative=0.1)
    timing = suite.time({side: lambda run=run: run(*example) for side, run in sides.items()}, repeats=7, best_of=2)
    for side in sides:
        suite.show(f"{side}: frames a second", FRAMES / timing.median(side), note=f"one thread, {FRAMES} frames")
    for kind in paths:
        suite.show(f"{kind}: times faster than PyTorch", timing.ratio("PyTorch", kind), timing)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
