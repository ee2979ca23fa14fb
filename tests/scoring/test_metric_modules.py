"""The packaged `evaluate` modules: loaded without a network, equal to jiwer (which the hub's `wer` calls)."""

from __future__ import annotations

import ast
import random
import socket
from pathlib import Path

import evaluate
import jiwer
import pytest

from kd_asr_slr.errors import UserError
from kd_asr_slr.scoring import metrics
from kd_asr_slr.scoring.metrics import load_metric, metric_names

WORDS = ["a", "b", "Zug", "zug", "é", "e\u0301", "ß", "日本", "ש", "🙂", "x\u00a0y", "t\tab", "-", "'s"]


def random_texts(seed: int) -> tuple[list[str], list[str]]:
    rng = random.Random(seed)
    gaps = [" ", "  ", " \n", "\t\t", "\n", "\t"]

    def text(shortest: int) -> str:
        return "".join(rng.choice(WORDS) + rng.choice(gaps) for _ in range(rng.randint(shortest, 9)))

    size = rng.randint(1, 15)
    return [text(1) for _ in range(size)], [text(0) for _ in range(size)]


@pytest.fixture(scope="module")
def loaded() -> dict:
    """Both metrics, loaded by path while every connection fails."""
    with pytest.MonkeyPatch.context() as patch:

        def refuse(*args, **_):
            raise AssertionError(f"a connection was opened: {args}")

        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        return {name: load_metric(name) for name in ("wer", "wra")}


@pytest.mark.parametrize("seed", range(60))
def test_wer_is_jiwers(loaded, seed):
    references, predictions = random_texts(seed)
    assert loaded["wer"].compute(predictions=predictions, references=references) == jiwer.wer(references, predictions)


def test_wer_of_the_concatenated_texts(loaded):
    references, predictions = ["a b", "c d"], ["a", "b c d"]
    wer = loaded["wer"]
    assert wer.compute(predictions=predictions, references=references) == 2 / 4
    assert wer.compute(predictions=predictions, references=references, concatenate_texts=True) == 0.0


def test_known_values(loaded):
    """The example of the hub's metric card, and a rate above 1."""
    predictions = ["this is the prediction", "there is an other sample"]
    references = ["this is the reference", "there is another one"]
    assert loaded["wer"].compute(predictions=predictions, references=references) == 0.5
    assert loaded["wer"].compute(predictions=["a b c"], references=["d"]) == 3.0


@pytest.mark.parametrize("seed", range(10))
def test_wra_counts_exact_texts(loaded, seed):
    references, predictions = random_texts(seed)
    predictions = [p if n % 3 else r + " " for n, (p, r) in enumerate(zip(predictions, references, strict=True))]
    exact = [jiwer.wer(r, p) == 0 for r, p in zip(references, predictions, strict=True)]
    found = loaded["wra"].compute(predictions=predictions, references=references)
    assert found == sum(exact) / len(exact)
    assert found > 0


def test_evaluate_load_by_path(loaded):
    metric = evaluate.load(str(Path(metrics.__file__).parent / "wer"), keep_in_memory=True)
    metric.add_batch(predictions=["a"], references=["a"])
    metric.add_batch(predictions=["b", "c"], references=["b", "d"])
    assert metric.compute() == 1 / 3


@pytest.mark.parametrize("name", ["wer", "wra"])
def test_bad_input(name):
    metric = load_metric(name)
    with pytest.raises(ValueError, match=r"predictions \(1\) and references \(2\)"):
        metric.compute(predictions=["a"], references=["a", "b"])
    with pytest.raises(UserError, match=r"1 of 2 references are empty \(position 1\)"):
        metric.compute(predictions=["a", "b"], references=["a", " "])


def test_names():
    assert metric_names() == ["wer", "wra"]
    with pytest.raises(UserError, match="unknown metric 'bleu'; expected one of wer, wra"):
        load_metric("bleu")


@pytest.mark.parametrize("name", ["wer", "wra"])
def test_one_import_a_line(name):
    """`evaluate` reads the import lines one by one; a bracketed import would break the loading."""
    source = (Path(metrics.__file__).parent / name / f"{name}.py").read_text()
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports
    assert all(node.lineno == node.end_lineno for node in imports)
