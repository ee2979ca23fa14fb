"""Every form of soft targets, cached and distilled from as a user types it."""

from __future__ import annotations

import json
import re
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from recipe_runs import Refuse, distillation, done, run

Disk = namedtuple("Disk", "total used free")
FORMS = {
    "dense": {},
    "quantised": {"cache_bits": 4},
    "topk": {"cache_top_k": 3},
    "sampled": {"cache_samples": 20, "cache_sample_temperature": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_cached_and_distilled_from(speech: Path, speech_run: Path, tmp_path: Path, form: str) -> None:
    options = distillation(speech, speech_run, tmp_path / "student") | {"temperature": 2, "num_train_epochs": 1}
    options |= {"cache_format": form, "teacher_cache": tmp_path / "store", **FORMS[form]}
    options |= {"blank_mass_weight": 0.1, "pseudo_label_weight": 0.1, "sequence_kd_weight": 0.1}
    cached = done(run("cache_teachers", **options))
    assert f"as '{form}'" in cached.out and re.search(r"\| +2 \|", cached.out), cached.out
    assert re.search(r"24 utterances made now, [\d.e+]+ a second", cached.out)
    promised = re.search(r"about ([\d.]+) kB as", cached.out)[1]
    taken = re.search(r"shards, ([\d.]+) kB", cached.out)[1]
    assert 1 <= float(promised) / float(taken) < 1.1
    done(run("distill", **options))
    results = json.loads((tmp_path / "student" / "results.json").read_text())
    assert results["scores"] and results["diagnostics"]["frames"] > 0


def test_a_form_that_the_losses_cannot_use_is_refused_before_anything_is_cached(distil: Refuse, tmp_path: Path) -> None:
    options = {"teacher_cache": tmp_path / "store", "cache_format": "topk", "rate_matching": "resample"}
    distil("cache_format 'topk'", "ctc_kd needs all of them", "dense or quantised", recipe="cache_teachers", **options)


def test_a_sparse_store_is_refused_where_frames_move_in_time(
    distil: Refuse, speech: Path, speech_run: Path, tmp_path: Path
) -> None:
    options = {"teacher_cache": tmp_path / "store", "cache_format": "topk"}
    done(run("cache_teachers", **distillation(speech, speech_run, "unused"), **options))
    distil("loss 'ctc_kd' needs dense_log_probs", "--cache_format dense", rate_matching="resample", **options)


def test_a_full_disk_is_refused_before_anything_is_written(
    distil: Refuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(10**9, 10**9, 1000))
    needs = ("the soft targets need about", "has 1.0 kB left", "--teacher_cache")
    distil(*needs, recipe="cache_teachers", teacher_cache=tmp_path / "deep" / "store")
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"cache_top_k": 5}, ("cache_top_k is 5", "set --cache_format topk")),
        ({"cache_format": "topk", "cache_top_k": 0}, ("cache_top_k is 0; expected 1",)),
        ({"cache_format": "sampled", "cache_samples": 256}, ("cache_samples is 256; expected 1 to 255",)),
        ({"cache_format": "quantised", "cache_bits": 6}, ("cache_bits is 6; expected 8 or 4",)),
        ({"cache_format": "zip"}, ("cache_format is 'zip'", "topk, sampled")),
    ],
)
def test_options_that_cannot_be(distil: Refuse, tmp_path: Path, options: dict, parts: tuple[str, ...]) -> None:
    distil(*parts, recipe="cache_teachers", teacher_cache=tmp_path / "store", **options)
