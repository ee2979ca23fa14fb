"""Saved models as a stranger loads them: transformers, this package blocked, the code that lies beside the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from saved_models import SIGN, media_of, save
from transformers import AutoModelForCTC, AutoProcessor

from kd_asr_slr.decoding.greedy import greedy_decode
from kd_asr_slr.models.auto import load_model
from kd_asr_slr.models.forward import run_ctc
from kd_asr_slr.processing.auto import load_processor


def recognised(folder: Path, name: str) -> tuple[torch.Tensor, list[str]]:
    """Logits and texts by this package's own way."""
    model, processor = load_model(str(folder)), load_processor(folder)
    with torch.no_grad():
        output = run_ctc(model, dict(processor(media_of(name), return_tensors="pt")))
    rows = zip(output.logits.numpy(), output.logit_lengths.tolist(), strict=True)
    return output.logits, [processor.decode_labels(greedy_decode(row[:n], processor.blank_id)) for row, n in rows]


@pytest.mark.parametrize(
    "names",
    [["bilstm", "i3d", "mobilenet", "pieces"], pytest.param(["nemo_hybrid"], marks=pytest.mark.slow)],
    ids=["light", "nemo"],
)
def test_a_stranger_recognises_the_same(names, tmp_path, as_a_stranger):
    folders = {name: save(name, tmp_path / f"{name} 2.0-run") for name in names}
    wanted = {
        str(folder): {
            "media": media_of(name),
            "audio": name not in SIGN,
            "resaved": str(tmp_path / "again") if name == "bilstm" else None,
        }
        for name, folder in folders.items()
    }
    found = as_a_stranger(wanted)
    for name, folder in folders.items():
        theirs = found[str(folder)]
        assert all(module.startswith("transformers_modules.") for module in theirs["classes"])
        logits, texts = recognised(folder, name)
        assert torch.equal(theirs["logits"], logits), name
        assert theirs["texts"] == texts, name
        assert any(texts), name
        if name not in SIGN:
            assert theirs["pipeline"] == texts, name


def test_within_the_package_its_own_classes_are_taken(tmp_path):
    folder = save("bilstm", tmp_path / "run")
    model = AutoModelForCTC.from_pretrained(folder, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    for item in (model, model.config, processor, processor.feature_extractor, processor.tokenizer):
        assert type(item).__module__.startswith("kd_asr_slr."), item
