"""What a store says it was made from: every difference is named, and only what matters is compared."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
from fake_teachers import COUNT, TOKENS, ids_of, manifest_for, mean_pool, routed_pool, teacher, transcripts_of
from safetensors.torch import save_file

from kd_asr_slr.errors import UserError
from kd_asr_slr.teachers.aggregation import AggregationSettings
from kd_asr_slr.teachers.fingerprints import fingerprint_of_folder, fingerprint_of_weights
from kd_asr_slr.teachers.manifest import compare_manifest, fingerprint_of_texts, manifest_of, read_manifest
from kd_asr_slr.teachers.pool import TeacherPool

DIFFERENCES = {
    "nothing": (mean_pool, {}, None),
    "teachers": (lambda: TeacherPool([teacher(0)], AggregationSettings("logprob_mean")), {}, "teachers: t0, t1 in"),
    "weights": (
        lambda: TeacherPool([teacher(0), teacher(7, "t1")], AggregationSettings("logprob_mean")),
        {},
        "teacher t1: its weight fingerprint",
    ),
    "vocabulary": (
        lambda: mean_pool(tokens=["<blank>", "A", "B", "X", "D"]),
        {},
        "vocabulary: token 3 is 'C' in the store and 'X' in this run",
    ),
    "features": (lambda: mean_pool(features="features-b"), {}, "features (fingerprint): 'features-a' in the store"),
    "aggregation": (
        lambda: TeacherPool([teacher(0), teacher(1)], AggregationSettings("prob_mean")),
        {},
        "aggregation: {'name': 'logprob_mean'",
    ),
    "dtype": (mean_pool, {"dtype": "float32"}, "dtype: 'float16' in the store, 'float32' in this run"),
    "corpus": (mean_pool, {"corpus": "other"}, "name of the corpus: 'made-up' in the store, 'other' in this run"),
    "ids": (mean_pool, {"ids": "0" * 64}, "corpus: the same number of utterances, but other ids"),
    "count": (mean_pool, {"count": 12}, "corpus: 11 utterances in the store, 12 in this run"),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_what_differs_is_named(name):
    make, changes, message = DIFFERENCES[name]
    found, expected = manifest_for(mean_pool()), replace(manifest_for(make()), **changes)
    differences = compare_manifest(found, expected)
    if message is None:
        assert differences == []
    else:
        assert any(message in sentence for sentence in differences), differences


def test_a_run_may_compare_only_what_it_knows():
    found = manifest_for(mean_pool())
    assert compare_manifest(found, {"tokens": TOKENS, "blank_id": 0, "ids": fingerprint_of_texts(ids_of(COUNT))}) == []
    assert compare_manifest(found, {"tokens": TOKENS, "blank_id": 1}) == [
        "vocabulary: the blank is token 0 in the store and token 1 in this run"
    ]
    with pytest.raises(ValueError, match="no field colour"):
        compare_manifest(found, {"colour": "red"})


def test_transcripts_belong_to_the_manifest_only_where_targets_depend_on_them():
    assert manifest_for(mean_pool()).transcripts is None
    for pool in (mean_pool(decoder=True), TeacherPool([teacher(0), teacher(1)], AggregationSettings("gate"))):
        assert manifest_for(pool).transcripts == fingerprint_of_texts(transcripts_of(COUNT))


def test_a_manifest_survives_its_file(tmp_path):
    manifest = manifest_for(routed_pool(), hidden_layers=[0, 1])
    (tmp_path / "manifest.json").write_bytes(manifest.to_json())
    assert asdict(read_manifest(tmp_path / "manifest.json")) == json.loads(json.dumps(asdict(manifest)))
    assert compare_manifest(read_manifest(tmp_path / "manifest.json"), manifest) == []


def test_a_duplicate_id_and_hidden_states_of_several_teachers_are_refused():
    with pytest.raises(UserError, match="'a' occurs twice"):
        manifest_of(mean_pool(), "made-up", ["a", "b", "a"], ["", "", ""])
    with pytest.raises(UserError, match="several teachers speak"):
        manifest_for(mean_pool(), hidden_layers=[1])


def test_weight_fingerprints_of_a_model_and_of_its_folder(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    assert fingerprint_of_folder(tmp_path) == fingerprint_of_weights(model)
    with torch.no_grad():
        model[1].bias[1] += 1e-6
    assert fingerprint_of_folder(tmp_path) != fingerprint_of_weights(model)
    with pytest.raises(UserError, match="no .safetensors file"):
        fingerprint_of_folder(tmp_path / "nowhere")
