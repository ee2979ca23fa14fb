"""A file recognised as if it came in live: the text so far, chunk after chunk, and the final one.

python recipes/stream.py digit.wav --model runs/mine/student
python recipes/stream.py video.npz --model runs/mine/signer --chunk 8 --right 4

A network that reads ahead only (model_options: bidirectional: false) ends at the text of the whole file; any other one
recognises windows, and may end at another. The features are made of the whole file before.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kd_asr_slr.errors import run_recipe


def main() -> None:
    """Parse, read the model and the file, hand it over chunk by chunk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE", help=".wav, .flac, .ogg (speech), .npz, .npy, .pose (sign)")
    parser.add_argument("--model", required=True, help="run folder, saved model, or name on the hub (NAME@REVISION)")
    parser.add_argument("--chunk", type=int, default=16, metavar="N", help="output frames that come at a time (16)")
    parser.add_argument(
        "--left", type=int, default=32, metavar="N", help="windows: output frames seen before them (32)"
    )
    parser.add_argument("--right", type=int, default=8, metavar="N", help="windows: output frames waited for (8)")
    arguments = parser.parse_args()
    if arguments.chunk < 1 or min(arguments.left, arguments.right) < 0:
        parser.error("--chunk, --left and --right are frames; expected at least 1, 0 and 0")

    import torch

    from kd_asr_slr.models.forward import frame_ratio
    from kd_asr_slr.recognition import Recogniser
    from kd_asr_slr.training.streaming import StreamingRecogniser
    from kd_asr_slr.training.terminal import quiet_libraries

    quiet_libraries()
    recogniser = Recogniser(arguments.model)
    model, processor = recogniser.model, recogniser.processor
    values = recogniser.read(arguments.file)
    heard = recogniser.heard(values)
    inputs = torch.from_numpy(recogniser.inputs(values[heard], str(arguments.file)))
    live = StreamingRecogniser(model, processor, None, arguments.chunk, arguments.left, arguments.right)

    rate = processor.sampling_rate
    first = heard.start / rate if rate else 0.0
    step, unit = (processor.frame_seconds, "s") if rate else (1, "frames")
    how = "the text of the whole file" if live.stream.exact else "windows, not the text of the whole file"
    print(f"{arguments.file}: ends at {how}; waits up to {step * live.stream.latency:.4g} {unit}")
    shown, size = "", arguments.chunk * frame_ratio(model)
    for start in range(0, len(inputs), size):
        text = live.accept(inputs[start : start + size])
        if text != shown:
            print(f"{first + step * min(start + size, len(inputs)):8.4g} {unit}  {text}", flush=True)
            shown = text
    print(f"final: {live.finish()}")


if __name__ == "__main__":
    run_recipe(main)
