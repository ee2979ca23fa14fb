"""Every distillation loss beside every other: from arguments to a trained student, and what is refused before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import assemble, check, do_run, logged

from kd_asr_slr.errors import UserError
from kd_asr_slr.models.auto import load_model

OWN = {"blank_mass_weight": 0.5, "pseudo_label_weight": 0.2, "sequence_kd_weight": 0.1}
# The teachers are young: their best class is rarely sure.
SURE = {"pseudo_label_confidence": 0.4, "sequence_confidence": 0.3}
AUXILIARY = {"auxiliary_ctc_weight": 0.3, "auxiliary_kd_weight": 2.0, "auxiliary_temperature": 1.0}
PARTS = {"blank_mass": 0.5, "pseudo_labels": 0.2, "sequence_kd": 0.1, "auxiliary_ctc": 0.3, "auxiliary_kd": 2.0}
HYBRID: dict[str, Any] = {
    "model": "nemo_hybrid",
    "model_options": {
        "num_mel_bins": 16, "encoder_layers": 2, "d_model": 16, "encoder_heads": 2, "conv_kernel_size": 7,
        "decoder_layers": 1, "decoder_heads": 2, "decoder_ffn_dim": 16, "max_source_positions": 200,
        "max_target_positions": 16, "conv_norm_type": "layer_norm", "dropout": 0.0, "attention_dropout": 0.0,
    },
    "feature_options": None,
    "hard_losses": ["ctc", "cross_entropy"],
    "learning_rate": 3e-3,
}  # fmt: skip


def total_of(folder: Path, shares: dict[str, float]) -> float:
    """The weighted sum of the logged parts; each of them is there and above 0."""
    parts = {name: logged(folder, f"loss_{name}")[0] for name in shares}
    assert all(value > 0 for value in parts.values()), parts
    return sum(shares[name] * value for name, value in parts.items())


@pytest.mark.slow
def test_a_hybrid_learns_by_all_of_them_together(speech: Path, tmp_path: Path) -> None:
    teacher = do_run(data_dir=speech, output_dir=tmp_path / "teacher", num_train_epochs=1, seed=5, **HYBRID).student
    with torch.no_grad():
        # So young a network says blank everywhere; this one says a word.
        teacher.ctc_head.bias[teacher.config.pad_token_id] -= 8.0
        teacher.ctc_head.bias[-1] += 3.0
    teacher.save_pretrained(tmp_path / "teacher")
    middle = HYBRID["model_options"] | {"intermediate_layer": 1}
    options = {**HYBRID, **OWN, **SURE, **AUXILIARY, "model_options": middle, "teachers": [tmp_path / "teacher"]}
    run = do_run(
        data_dir=speech, output_dir=tmp_path / "run", soft_losses=["ctc_kd", "decoder_kd"], ctc_share=0.25, **options
    )
    shares = {"ctc_kd": 0.7 * 0.25, "decoder_kd": 0.7 * 0.75, "ctc": 0.3 * 0.25, "cross_entropy": 0.3 * 0.75}
    assert logged(run.folder, "loss")[0] == pytest.approx(total_of(run.folder, shares | PARTS), rel=1e-4)
    assert all(0 < logged(run.folder, name)[0] <= 1 for name in ("pseudo_label_ratio", "sequence_ratio"))
    student = load_model(str(run.folder))
    assert student.config.intermediate_layer == 1
    assert {"intermediate_head.0.weight", "intermediate_head.1.weight"} <= set(
        load_file(run.folder / "model.safetensors")
    )
    card = (run.folder / "README.md").read_text()
    assert all(f"`{name}`" in card for name in PARTS)
    assert json.loads((run.folder / "results.json").read_text())["model"]["parameters"] == student.num_parameters()


def test_a_bilstm_learns_by_them_from_recordings_without_text(speech: Path, generalist: Path, tmp_path: Path) -> None:
    """Every part, the auxiliary ones too, on batches with and without transcripts."""
    network = {"hidden_size": 8, "num_layers": 2, "stride": 4, "dropout": 0.0, "intermediate_layer": 1}
    options = {**OWN, **SURE, **AUXILIARY, "model_options": network, "drop_blank_class": True}
    options |= {"frame_selection": "threshold", "aggregation": "logprob_mean", "untranscribed_speakers": ["s02"]}
    run = do_run(data_dir=speech, output_dir=tmp_path, teachers=[generalist], **options)
    total = total_of(tmp_path, {"ctc_kd": 0.7, "ctc": 0.3} | PARTS)
    assert logged(tmp_path, "loss")[0] == pytest.approx(total, rel=1e-4)
    rows = run.trainer.train_dataset.rows
    silent = [index for index, row in enumerate(rows) if row["untranscribed"]][:3]
    batch = run.trainer.data_collator([run.trainer.train_dataset[index] for index in silent])
    output, signal = run.trainer._listen(run.student, batch), run.trainer._signal(batch)
    values = {item.name: item.loss(output, signal, batch, 1.0) for item in run.trainer.losses}
    assert all((values[name] > 0).all() for name in ("blank_mass", "pseudo_labels", "sequence_kd"))
    assert not values["ctc"].any() and not values["auxiliary_ctc"].any()


def test_sequence_kd_alone_teaches_without_labels_and_soft_targets(
    speech: Path, generalist: Path, tmp_path: Path
) -> None:
    options = {"alpha": 0.0, "beta": 0.0, "sequence_kd_weight": 1.0, "aggregation": "logprob_mean"}
    run = do_run(data_dir=speech, output_dir=tmp_path, teachers=[generalist], num_train_epochs=2, **options)
    assert [item.name for item in run.trainer.losses] == ["sequence_kd"]
    first, last = logged(tmp_path, "loss_sequence_kd")
    assert last < first


@pytest.mark.parametrize("option", OWN)
def test_without_teachers_they_are_refused_with_what_to_type(option: str, speech: Path, tmp_path: Path) -> None:
    run = assemble(data_dir=speech, output_dir=tmp_path, **{option: 1.0})
    with pytest.raises(UserError, match=rf"needs log_probs; .*recipes/distill.py.* --{option} 0"):
        check(run)


def test_an_auxiliary_loss_without_such_a_classifier_is_told_of_both(speech: Path, tmp_path: Path) -> None:
    run = assemble(data_dir=speech, output_dir=tmp_path, auxiliary_ctc_weight=1.0)
    with pytest.raises(UserError, match=r"intermediate_layer: N.*auxiliary_classifier: true"):
        check(run)
