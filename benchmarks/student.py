"""The student in use: a BiLSTM of 4 x 256 over 512 features and 1,229 labels, one utterance at a time; streams; size.

What streaming costs in errors is measured on small networks that are trained here, on made-up signs that mean one thing
or another by what follows them, so that context does matter.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from common import Suite
from torch import nn

from kd_asr_slr.decoding.greedy import GreedyStream, greedy_decode
from kd_asr_slr.export.formats import CtcNetwork, export
from kd_asr_slr.models.auto import build_model
from kd_asr_slr.models.bilstm.modeling_bilstm import BiLstmForCTC
from kd_asr_slr.models.streaming import LogitStream, WindowStream, open_stream
from kd_asr_slr.scoring.rates import count_all, wer

STUDENT = {"input_size": 512, "vocab_size": 1_229, "pad_token_id": 0}
SIZE = {"hidden_size": 256, "num_layers": 4}
FRAMES, CHUNK = 200, 10
WINDOWS = {"chunk 8, context 16 + 8": (8, 16, 8), "chunk 4, context 8 + 2": (4, 8, 2)}
SIGNS, FEATURES = 12, 16


def student(**options: object) -> BiLstmForCTC:
    """With the weights it starts with: speed and size do not depend on them."""
    torch.manual_seed(0)
    return build_model("bilstm", {**SIZE, **options}, **STUDENT).eval()


def decoder(model: nn.Module, features: torch.Tensor) -> Callable[[], list[int]]:
    """Forward and greedy decoding of one utterance."""

    @torch.inference_mode()
    def decode() -> list[int]:
        return greedy_decode(model(features[None]).logits[0].cpu().numpy(), 0)

    return decode


def streamed(stream: LogitStream, features: torch.Tensor, chunk: int = CHUNK) -> list[int]:
    """The labels of an utterance that comes in chunks."""
    search = GreedyStream(0)
    for frames in features.split(chunk):
        search.accept(stream.accept(frames).cpu().numpy())
    search.accept(stream.finish().cpu().numpy())
    return search.labels


def speed(suite: Suite) -> None:
    """Frames a second, of whole utterances and of streams."""
    features = torch.randn(FRAMES, STUDENT["input_size"], device=suite.device)
    model, ahead = student().to(suite.device), student(bidirectional=False, hidden_size=512).to(suite.device)
    exact, windows = open_stream(ahead, 1, 0, 0), WindowStream(model, CHUNK, 2 * CHUNK, CHUNK)
    sides = {
        "whole": decoder(model, features),
        "exact stream": lambda: streamed(exact, features),
        "windows": lambda: streamed(windows, features),
    }
    suite.agree_exactly("exact stream", streamed(exact, features), decoder(ahead, features)())
    timing = suite.time(sides, repeats=7, best_of=2)
    rates = {side: FRAMES / timing.median(side) for side in sides}
    note = f"{torch.get_num_threads()} threads, {FRAMES} frames an utterance"
    suite.at_least("BiLSTM, forward and greedy: frames a second", rates["whole"], 1_000, timing, note)
    note = f"4 x 512 ahead only, chunks of {CHUNK}; latency {exact.latency} frames beside the chunk"
    suite.show("exact stream: frames a second", rates["exact stream"], note=note)
    note = f"the BiLSTM, chunks of {CHUNK}, context {2 * CHUNK} + {CHUNK}; latency {windows.latency} frames"
    suite.show("windows: frames a second", rates["windows"], note=note)


def size(suite: Suite) -> None:
    """Bytes on disk: of what training saves, and of what `recipes/export.py` writes in float32 and in int8."""
    model = student()
    example = {"input_features": torch.randn(2, 40, STUDENT["input_size"]), "attention_mask": torch.ones(2, 40).long()}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        whole = (Path(folder) / "model.safetensors").stat().st_size
        paths = {kind: Path(folder) / kind for kind in ("onnx", "int8")}
        for kind, path in paths.items():
            export(CtcNetwork(model), example, kind, path, threads=1)
        exported = {kind: path.stat().st_size for kind, path in paths.items()}
    suite.at_most("size in float32, MB", whole / 1e6, 100)
    weights = sum(value.numel() for value in model.parameters() if value.dim() > 1)
    note = f"both as ONNX, floor {weights / exported['onnx']:.4f}, the weights; over the saved model "
    note += f"{exported['int8'] / whole:.4f}, floor {weights / whole:.4f}"
    suite.at_most("size in int8 over float32", exported["int8"] / exported["onnx"], 0.25, note=note)

    buffer = io.BytesIO()
    torch.save(
        torch.ao.quantization.quantize_dynamic(model, {nn.LSTM, nn.Linear}, dtype=torch.qint8).state_dict(), buffer
    )
    vectors = sum(value.numel() for value in model.parameters() if value.dim() == 1)
    note = f"floor: {(weights + 4 * vectors) / whole:.4f}, the vectors stay float32; no file of the toolkit"
    suite.show("torch's dynamic quantisation over the saved model, bytes", buffer.tell() / whole, note=note)


# --- what streaming costs in errors ---


def signed(utterances: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [B, 64, F] and labels [B, 8]: 6 noisy frames a sign and a pause of 2.

    A sign stands for one of two labels, and only the sign behind it tells for which.
    """
    signs = torch.randint(0, SIGNS, (utterances, 8), generator=generator)
    prototypes = torch.randn(SIGNS, FEATURES, generator=torch.Generator().manual_seed(1))
    after = torch.cat([signs[:, 1:], signs[:, :1] * 0], dim=1)
    labels = 1 + signs + SIGNS * (after % 2)
    frames = prototypes[signs].repeat_interleave(8, dim=1)
    frames[:, 6::8], frames[:, 7::8] = 0.0, 0.0
    return frames + 0.6 * torch.randn(frames.shape, generator=generator), labels


def trained(steps: int, **options: object) -> BiLstmForCTC:
    """A small network that has seen `steps` batches of 32."""
    torch.manual_seed(0)
    small = {"hidden_size": 64, "num_layers": 2, "dropout": 0.0, **options}
    model = build_model("bilstm", small, input_size=FEATURES, vocab_size=2 * SIGNS + 1, pad_token_id=0).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        features, labels = signed(32, generator)
        optimiser.zero_grad()
        model(features, labels=labels).loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return model.eval()


def errors(suite: Suite) -> None:
    """WER of whole utterances and of streams."""
    steps, utterances = (120, 60) if suite.quick else (240, 200)
    features, labels = signed(utterances, torch.Generator().manual_seed(9))
    references = [[str(label) for label in row] for row in labels.tolist()]

    def rate(decode: Callable[[torch.Tensor], list[int]]) -> float:
        return 100 * wer(count_all(references, [[str(label) for label in decode(row)] for row in features]))

    model, ahead = trained(steps), trained(steps, bidirectional=False, hidden_size=128)
    whole = rate(lambda row: decoder(model, row)())
    suite.show("trained BiLSTM, whole utterances: WER, %", whole, note=f"{utterances} utterances of 64 frames")
    for name, (chunk, left, right) in WINDOWS.items():
        stream = WindowStream(model, chunk, left, right)
        cost = rate(lambda row, stream=stream: streamed(stream, row)) - whole
        suite.show(f"its windows, {name}: WER more, points", cost, note=f"latency {stream.latency} frames")
    exact = open_stream(ahead, 1, 0, 0)
    offline, online = rate(lambda row: decoder(ahead, row)()), rate(lambda row: streamed(exact, row))
    suite.at_most("exact stream: WER apart from the whole utterance's", abs(online - offline), 0)
    note = "the same units, but blind to what follows, which here tells signs apart"
    suite.show("reading ahead only: WER, %", offline, note=note)


def main() -> int:
    """The exit status: 1 where two sides disagree."""
    suite = Suite("student", __doc__.splitlines()[0])
    speed(suite)
    size(suite)
    errors(suite)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
