"""Hand-made run folders."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kd_asr_slr.reporting.run_folder import RunFolder

CONFIG: dict[str, Any] = {
    "corpus": "manifest",
    "features": "log_mel",
    "teachers": ["fsdd/jackson=runs/a", "fsdd/nicolas=runs/b"],
    "aggregation": "route",
    "temperature": 4.0,
    "temperature_milestones": {"30": 3.5, "70": 3.0},
    "alpha": 0.7,
    "beta": 0.3,
    "gamma": 0.0,
    "soft_losses": ["ctc_kd"],
    "hard_losses": ["ctc"],
    "feature_losses": [],
    "frame_selection": "threshold",
    "blank_threshold": 0.95,
    "num_train_epochs": 20.0,
    "learning_rate": 1e-05,
    "held_out_speakers": ["theo"],
    "output_dir": "runs/student",
}

# PHOENIX-2014 dev as sclite counted a published system: 25.69 %, 710 S, 538 D, 175 I, 5,540 reference glosses.
SCORE: dict[str, Any] = {
    "split": "dev",
    "decoder": "greedy",
    "lm": None,
    "protocol": "official-sclite",
    "wer": 1423 / 5540,
    "substitutions": 710,
    "deletions": 538,
    "insertions": 175,
    "reference_tokens": 5540,
    "utterances": 540,
    "wer_ci95": [0.2437, 0.2701],
    "wra": 0.1296,
    "by_speaker": {
        "phoenix/Signer01": {"wer": 0.2391, "wra": 0.15, "reference_tokens": 2540},
        "phoenix/Signer05": {"wer": 0.2719, "wra": 0.1123, "reference_tokens": 3000},
    },
}

RESULTS: dict[str, Any] = {
    "model_type": "bilstm_ctc",
    "parameters": 1_234_567,
    "bytes": 4_940_000,
    "corpus": "phoenix",
    "teachers": ["jackson", "nicolas"],
    "seed": 7,
}


@pytest.fixture()
def config() -> dict[str, Any]:
    return copy.deepcopy(CONFIG)


@pytest.fixture()
def score() -> dict[str, Any]:
    return copy.deepcopy(SCORE)


@pytest.fixture()
def make_run(tmp_path: Path) -> Callable[..., RunFolder]:
    """A finished, scored run folder; any part of it may be given."""

    def make(folder: str = "student", scores: list[dict[str, Any]] | None = None, **changes: Any) -> RunFolder:
        run = RunFolder(tmp_path / folder)
        overrides = changes.pop("config", {})
        run.claim({**copy.deepcopy(CONFIG), **overrides}, recipe="distill")
        run.write_results(**{**RESULTS, **changes})
        for entry in [SCORE] if scores is None else scores:
            run.add_scores(copy.deepcopy(entry))
        run.finish()
        return run

    return make
