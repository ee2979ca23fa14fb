"""What a model says of files, and when: text and words with their times.

python recipes/recognise.py digit.wav --model runs/demo/speech-student
python recipes/recognise.py videos/*.npz --model owner/sign-student@v1.0 --json
python recipes/recognise.py digit.wav --model runs/fsdd/student --decoder beam --lm lm.arpa
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from kd_asr_slr.errors import run_recipe
from kd_asr_slr.tool_arguments import DECODING


def main() -> None:
    """Parse, read the model, look at every file, recognise one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = ".wav, .flac, .ogg (speech), .npz, .npy, .pose (sign)"
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=kinds)
    parser.add_argument("--model", required=True, help="run folder, saved model, or name on the hub (NAME@REVISION)")
    parser.add_argument("--frame_rate", type=float, metavar="FPS", help="sign: frames a second, where unknown")
    parser.add_argument("--json", action="store_true", help="one JSON object a file and line")
    decoding = parser.add_argument_group("decoding", "as in recipes/score.py, which explains them; greedy by default")
    for name, kind in DECODING.items():
        decoding.add_argument(f"--{name}", type=kind)
    arguments = parser.parse_args()
    chosen = {name: getattr(arguments, name) for name in DECODING}

    from kd_asr_slr.recognition import Recogniser
    from kd_asr_slr.training.terminal import quiet_libraries

    quiet_libraries()
    recogniser = Recogniser(arguments.model, **chosen)
    recogniser.check(arguments.files)
    if recogniser.searched:
        print(recogniser.searched, file=sys.stderr)
    for path in arguments.files:
        found = recogniser(path, arguments.frame_rate)
        if arguments.json:
            print(json.dumps({"file": str(path), **dataclasses.asdict(found)}, ensure_ascii=False), flush=True)
        else:
            print(f"{path}: {found.text}", flush=True)
            for word in found.words:
                print(f"  {times(word, found.unit)}  {word.text}", flush=True)


def times(word: Any, unit: str) -> str:
    """A word's start and end with their unit, and in seconds where they are known beside it."""
    if unit == "seconds":
        return f"{word.start:8.2f} - {word.end:.2f} s"
    seconds = "" if word.seconds is None else " ({:.2f} - {:.2f} s)".format(*word.seconds)
    return f"{word.start:5.0f} - {word.end:.0f} frames{seconds}"


if __name__ == "__main__":
    run_recipe(main)
