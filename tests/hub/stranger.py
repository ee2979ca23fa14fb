"""Run as a program: load saved models and processors as somebody who has never heard of this package.

stranger.py INPUTS OUTPUTS: INPUTS is a torch file of {folder or hub name: {"batch": ..., "audio": [...] or None}},
OUTPUTS becomes {folder: {"logits": ..., "texts": [...], "pipeline": [...], "classes": [...]}}.
"""

from __future__ import annotations

import sys

PACKAGE = "kd_asr_slr"


class Blocker:
    """A finder in front of all others that finds no such package."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] == PACKAGE:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


def load(folder: str, media: list, audio: bool, resaved: str | None) -> dict:
    import torch
    from transformers import AutoModelForCTC, AutoProcessor, pipeline

    model = AutoModelForCTC.from_pretrained(folder, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    if resaved:
        model.save_pretrained(resaved)
        processor.save_pretrained(resaved)
        model = AutoModelForCTC.from_pretrained(resaved, trust_remote_code=True)
        processor = AutoProcessor.from_pretrained(resaved, trust_remote_code=True)
    with torch.no_grad():
        output = model(**processor(media, return_tensors="pt"))
    found = {
        "logits": output.logits,
        "texts": processor.batch_decode(output.logits.argmax(-1)),
        "classes": [type(item).__module__ for item in (model, processor, processor.tokenizer)],
    }
    if audio:
        recognise = pipeline("automatic-speech-recognition", model=folder, trust_remote_code=True)
        found["pipeline"] = [item["text"] for item in recognise([*media], batch_size=len(media))]
    return found


def main() -> None:
    sys.meta_path.insert(0, Blocker())
    import torch

    inputs, outputs = sys.argv[1:]
    wanted = torch.load(inputs, weights_only=False)
    torch.save({folder: load(folder, **options) for folder, options in wanted.items()}, outputs)
    assert not [name for name in sys.modules if name.split(".")[0] == PACKAGE]


if __name__ == "__main__":
    main()
