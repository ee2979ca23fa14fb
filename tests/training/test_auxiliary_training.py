"""The auxiliary classifier and the streams from arguments to a trained student."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kd_asr_slr.arguments import DataArguments, DistillationArguments, ModelArguments
from kd_asr_slr.errors import UserError
from kd_asr_slr.losses.table import build_losses
from kd_asr_slr.models.bilstm.configuration_bilstm import BiLstmConfig
from kd_asr_slr.training.building import build_trainer
from kd_asr_slr.training.data import load_data
from kd_asr_slr.training.preflight import missing_needs, preflight
from kd_asr_slr.training.settings import label_settings, loss_settings
from kd_asr_slr.training.student import build_processor, build_student

WEIGHTS = {"auxiliary_ctc_weight": 1.0, "auxiliary_kd_weight": 25.0}
HEAD = {"front": "k5p2", "auxiliary_classifier": True, "shared_classifier": True, "normalise_classifier": True}


def arguments(folder: Path, **options: Any) -> DistillationArguments:
    values = {"alpha": 0.0, "beta": 1.0, "report_to": "none", "use_cpu": True, "disable_tqdm": True} | options
    return DistillationArguments(output_dir=str(folder), **values)


def test_weights_reach_the_losses_and_not_the_evaluation(tmp_path: Path) -> None:
    settings = loss_settings(arguments(tmp_path, **WEIGHTS, auxiliary_temperature=6.0))
    assert {part.name: part.weight for part in build_losses(settings, blank_id=0)} == {
        "ctc": 1.0,
        "auxiliary_ctc": 1.0,
        "auxiliary_kd": 25.0,
    }
    assert settings.auxiliary_temperature == 6.0
    assert [part.name for part in build_losses(label_settings(settings), blank_id=0)] == ["ctc"]


@pytest.mark.parametrize("teachers", [None, SimpleNamespace(provides=frozenset({"log_probs"}))])
def test_a_student_without_auxiliary_classifier_is_refused(tmp_path: Path, teachers: Any) -> None:
    losses = build_losses(loss_settings(arguments(tmp_path, **WEIGHTS)), blank_id=0)
    plain, proven = BiLstmConfig(stride=4), BiLstmConfig(**HEAD)
    trainer = SimpleNamespace(teachers=teachers, losses=losses, model=SimpleNamespace(config=plain))
    problems = missing_needs(trainer)
    assert [problem.split(";")[0] for problem in problems] == [
        f"loss '{name}' needs auxiliary_logits" for name in ("auxiliary_ctc", "auxiliary_kd")
    ]
    assert all("auxiliary_classifier: true" in problem for problem in problems)
    trainer.model.config = proven
    assert missing_needs(trainer) == []


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A few signed sentences and their features."""
    options = {"signers": 1, "sentences": {"train": 8, "dev": 2, "test": 2}, "seed": 1}
    folder = str(tmp_path_factory.mktemp("corpus"))
    data = DataArguments(corpus="synthetic_sign", data_dir=folder, corpus_options=options, normaliser="glosses")
    features = {"features": "mediapipe_holistic", "feature_options": {"velocity": "forward"}}
    corpus = load_data(data)
    processor = build_processor(ModelArguments(**features), data, corpus)
    return SimpleNamespace(data=data, corpus=corpus, processor=processor)


SMALL = {"hidden_size": 16, "num_layers": 1, "dropout": 0.0, **HEAD}
NETWORKS = {
    "bilstm": SMALL,
    "i3d": SMALL | {"stream_width": 16, "num_blocks": 1},
    "mobilenet": SMALL | {"stream_width": 16, "width_multiplier": 0.25},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_self_distillation_trains_without_a_teacher(tmp_path: Path, scene: SimpleNamespace, name: str) -> None:
    student = build_student(ModelArguments(model=name, model_options=NETWORKS[name]), scene.processor, seed=0)
    training = arguments(tmp_path, **WEIGHTS, max_steps=6, per_device_train_batch_size=4, learning_rate=1e-2)
    training.save_strategy = training.eval_strategy = "no"
    training.load_best_model_at_end = False
    trainer = build_trainer(student, scene.processor, scene.corpus, scene.data, training)
    preflight(trainer, scene.processor, scene.corpus, scene.data)
    before = {key: value.clone() for key, value in student.state_dict().items()}
    trainer.train()
    parts = trainer.state.log_history[0]
    total = parts["loss_ctc"] + parts["loss_auxiliary_ctc"] + 25 * parts["loss_auxiliary_kd"]
    assert parts["loss"] == pytest.approx(total, rel=1e-3)
    assert all(parts[f"loss_{loss}"] > 0 for loss in ("ctc", "auxiliary_ctc", "auxiliary_kd"))
    assert not torch.equal(before["front.convolutions.0.weight"], student.front.convolutions[0].weight)


def test_preflight_names_both_losses_before_the_first_step(tmp_path: Path, scene: SimpleNamespace) -> None:
    student = build_student(ModelArguments(model_options={"hidden_size": 8, "stride": 2}), scene.processor, seed=0)
    trainer = build_trainer(student, scene.processor, scene.corpus, scene.data, arguments(tmp_path, **WEIGHTS))
    with pytest.raises(UserError, match=r"2 problems(.|\n)*auxiliary_ctc(.|\n)*auxiliary_kd"):
        preflight(trainer, scene.processor, scene.corpus, scene.data)


@pytest.mark.parametrize("name", ["i3d", "mobilenet"])
def test_streams_follow_from_the_features(scene: SimpleNamespace, name: str) -> None:
    model = ModelArguments(model=name, model_options=NETWORKS[name])
    student = build_student(model, scene.processor, seed=0)
    streams = scene.processor.feature_extractor.streams
    assert {stream.name: (stream.start, stream.stop) for stream in student.config.streams} == dict(streams)
    assert set(student.fusion.gates()) == set(streams) >= {"pose", "hands"}
    model.model_options = {"stream_slices": {"pose": [0, 3]}}
    with pytest.raises(UserError, match="'stream_slices' follows from the data"):
        build_student(model, scene.processor, seed=0)
