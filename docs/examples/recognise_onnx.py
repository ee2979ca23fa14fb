"""Recognise with an exported student: numpy and onnxruntime, neither PyTorch nor kd_asr_slr.

python docs/examples/recognise_onnx.py RUN/student.onnx INPUT.npy [INPUT.npy ...]
"""

import json
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
import onnxruntime

model = Path(sys.argv[1])  # the files of the tokenizer lie beside it
settings = json.loads((model.parent / "tokenizer_config.json").read_text(encoding="utf-8"))
vocabulary = json.loads((model.parent / "vocab.json").read_text(encoding="utf-8"))  # token -> index
tokens = sorted(vocabulary, key=vocabulary.get)
specials = {settings.get(name) for name in ("pad_token", "bos_token", "eos_token")}  # the padding token is CTC's blank
session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
media, mask = (item.name for item in session.get_inputs())

for path in sys.argv[2:]:
    one = np.load(path).astype(np.float32)[None]  # features [1, T, F]
    logits, _ = session.run(None, {media: one, mask: np.ones(one.shape[:2], np.int64)})
    labels = [tokens[index] for index, _ in groupby(logits[0].argmax(-1).tolist())]  # repeats become one
    labels = [label for label in labels if label not in specials]
    if settings.get("kind") == "words":
        print(path, " ".join(labels), sep="\t")
    else:  # characters, with "|" between words, or pieces, with "▁" before one
        print(path, " ".join("".join(labels).replace("|", " ").replace("▁", " ").split()), sep="\t")
