"""`load_metric("wer")` where there is a network and where there is none: one value, and the same refusals."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import evaluate
import jiwer
import pytest
from loopback_hub import LoopbackHub

from kd_asr_slr.errors import UserError
from kd_asr_slr.scoring import load_metric

# As the hub's module of that name computes it: jiwer over all pairs.
MODULE = b"""
import datasets
import evaluate
import jiwer


class HubWer(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        features = datasets.Features({"predictions": text, "references": text})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        return jiwer.wer(references, predictions)
"""
WORDS = [
    "a",
    "b",
    "Zug",
    "\u00fcber",
    "\u00c4\u00d6\u00dc",
    "e\u0301",
    "\u65e5\u672c",
    "\u05e9",
    "\U0001f642",
    "REGEN-MORGEN",
]


@pytest.fixture
def online(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """`evaluate` turned to the hub on loopback, which has the metric; its caches are new, and nobody's afterwards."""
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != evaluate.config.HF_MODULES_CACHE])
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith("evaluate_modules")}
    hub.put("spaces/evaluate-metric/wer", {"wer.py": MODULE})
    settings = {
        "HF_ENDPOINT": hub.endpoint,
        "HUB_EVALUATE_URL": hub.endpoint + "/spaces/{path}/resolve/{revision}/{name}",
        "HF_EVALUATE_OFFLINE": False, "HF_UPDATE_DOWNLOAD_COUNTS": False,
        "DOWNLOADED_EVALUATE_PATH": tmp_path / "downloads", "HF_MODULES_CACHE": str(tmp_path / "modules"),
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setattr(f"evaluate.config.{name}", value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield hub
    for name in [name for name in sys.modules if name.startswith("evaluate_modules")]:
        del sys.modules[name]
    sys.modules.update(before)


def known_pairs() -> list[tuple[list[str], list[str]]]:
    """References and predictions of all lengths."""
    generator = random.Random(5)

    def text(least: int) -> str:
        return " ".join(generator.choice(WORDS) for _ in range(generator.choice([least, 1, 2, 7, 40])))

    return [([text(1) for _ in range(size)], [text(0) for _ in range(size)]) for size in (1, 2, 5, 20, 50)]


def test_both_give_the_value_of_jiwer(online):
    theirs, ours = load_metric("wer"), load_metric("wer", source="package")
    assert type(theirs).__name__ == "HubWer" and type(ours).__name__ == "WordErrorRate"
    assert online.calls("GET", "evaluate-metric/wer") == 1
    for references, predictions in known_pairs():
        found = [metric.compute(predictions=predictions, references=references) for metric in (theirs, ours)]
        assert found[0] == found[1] == jiwer.wer(references, predictions)


@pytest.mark.parametrize("source", ["auto", "package"])
def test_empty_references_and_lists_of_two_lengths_are_errors(online, source):
    metric = load_metric("wer", source=source)
    with pytest.raises(UserError, match=r"1 of 2 references are empty \(position 1\)"):
        metric.compute(predictions=["a", "b"], references=["a", ""])
    with pytest.raises(ValueError, match="predictions"):
        load_metric("wer", source=source).compute(predictions=["a"], references=["a", "b"])


@pytest.mark.parametrize("break_it", ["closed", "failing", "switched off", "without jiwer"])
def test_without_the_hub_it_is_the_packaged_one(online, monkeypatch, break_it):
    how: dict[str, Callable[[], None]] = {
        "closed": online.close,
        "failing": lambda: [online.fail(method, "wer", 500, times=99) for method in ("GET", "HEAD")] and None,
        "switched off": lambda: monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True),
        "without jiwer": lambda: monkeypatch.setitem(sys.modules, "jiwer", None),
    }
    how[break_it]()
    assert type(load_metric("wer")).__name__ == "WordErrorRate"
    if break_it == "switched off":
        assert not online.requests
        return
    with pytest.raises(UserError, match=r"the hub's metric 'wer' cannot be loaded .*source 'package'"):
        load_metric("wer", source="hub")


def test_a_metric_that_the_hub_has_not_and_a_source_that_is_none(online):
    assert type(load_metric("wra")).__name__ == "WordRecognitionAccuracy"
    assert not online.requests
    with pytest.raises(UserError, match="unknown source of metrics 'web'; expected one of auto, hub, package"):
        load_metric("wer", source="web")
