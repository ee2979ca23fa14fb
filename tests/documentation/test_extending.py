"""docs/extending.md followed to the letter: the files as printed there, one line in the table, one option."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from documents import REPOSITORY
from recipe_runs import FEATURE_OPTIONS, TRAINING, done, run, tone, utterances, write_feature_corpus, write_wav

from kd_asr_slr.corpora.build import CORPORA, load_corpus
from kd_asr_slr.losses.base import LossContext
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.losses.table import LOSSES
from kd_asr_slr.models.auto import MODELS, ModelEntry, build_model, register_models
from kd_asr_slr.outputs import CTCOutput

PAGE = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")


def printed(number: int) -> str:
    """The page's file of that number."""
    return re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[number]


def module(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A file of this text, imported."""
    made = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, made)
    exec(compile(text, name, "exec"), made.__dict__)
    return made


@pytest.mark.slow
def test_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entropy = module("entropy", printed(0), monkeypatch).Entropy
    output = CTCOutput(logits=torch.zeros(2, 3, 4), logit_lengths=torch.tensor([3, 1]))
    value = entropy(LossSettings(), LossContext(blank_id=0))(output, None, {})
    assert torch.allclose(value, -torch.full((2,), 4.0).log())  # uniform frames
    monkeypatch.setitem(LOSSES, "entropy", entropy)
    manifest = write_feature_corpus(tmp_path / "corpus")
    options = {"manifest": manifest, **FEATURE_OPTIONS, **TRAINING, "num_train_epochs": 1}
    teacher = tmp_path / "teacher"
    done(run("train", output_dir=teacher, **options))
    taught = {"teachers": [teacher], "vocabulary": teacher, "soft_losses": ["ctc_kd", "entropy"]}
    shown = done(run("distill", output_dir=tmp_path / "student", preflight_batches=0, **taught, **options))
    assert "loss_entropy " in shown.out


def test_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, row in enumerate(utterances()):
        write_wav(tmp_path / f"{row['speaker']}{number}_{row['text']}_{row['split']}.wav", tone(row))
    monkeypatch.setitem(CORPORA, "laboratory", module("laboratory", printed(1), monkeypatch).load)
    corpus = load_corpus("laboratory", root=tmp_path)
    assert sum(len(part) for part in corpus.values()) == len(utterances())
    assert corpus["test"][0]["speaker"].startswith("laboratory/anna")


def test_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's copy of `bilstm` under another name."""
    folder = REPOSITORY / "kd_asr_slr" / "models" / "bilstm"
    for part in ("configuration", "modeling"):
        text = (folder / f"{part}_bilstm.py").read_text(encoding="utf-8")
        text = text.replace("models.bilstm.configuration_bilstm", "models_mine.configuration_mine")
        text = text.replace("kd_asr_slr.models_mine", "models_mine").replace('"bilstm_ctc"', '"mine_ctc"')
        text = text.replace("BiLstm", "Mine")
        module(f"models_mine.{part}_mine", text, monkeypatch)
    entry = ModelEntry("models_mine.configuration_mine:MineConfig", "models_mine.modeling_mine:MineForCTC")
    monkeypatch.setitem(MODELS, "mine", entry)
    register_models()
    network = build_model("mine", {"hidden_size": 4, "num_layers": 1}, input_size=5, vocab_size=3, pad_token_id=0)
    assert network(torch.randn(2, 8, 5)).logits.shape[-1] == 3
