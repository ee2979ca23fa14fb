"""The model card: read back with huggingface_hub, its numbers are those of results.json."""

from __future__ import annotations

import ast
import importlib.util
import re

import pytest
from huggingface_hub import ModelCard

from kd_asr_slr.errors import UserError
from kd_asr_slr.reporting.model_card import build_model_card, card_of, modality_of, write_model_card


def test_the_metadata_comes_back_through_the_hubs_own_reader(make_run, score):
    run = make_run(scores=[score, {**score, "decoder": "beam", "lm": "lm/4gram.arpa", "wra": 0.5}])
    file = write_model_card(run)
    assert file == run.path / "README.md"
    data = ModelCard.load(file).data
    assert data.library_name == "kd_asr_slr"
    assert data.pipeline_tag == "automatic-speech-recognition"
    assert data.tags == ["ctc", "bilstm_ctc", "knowledge-distillation", "automatic-speech-recognition"]
    assert data.model_name == "student"
    found = [
        (result.metric_type, result.metric_value, result.dataset_name, result.dataset_split, result.metric_name)
        for result in data.eval_results
    ]
    # huggingface_hub groups by dataset, so the order is its own
    assert sorted(found) == [
        ("wer", 25.69, "phoenix", "dev", "WER % (beam + 4gram.arpa, official-sclite)"),
        ("wer", 25.69, "phoenix", "dev", "WER % (greedy, official-sclite)"),
        ("wra", 12.96, "phoenix", "dev", "WRA % (greedy, official-sclite)"),
        ("wra", 50.0, "phoenix", "dev", "WRA % (beam + 4gram.arpa, official-sclite)"),
    ]


def test_the_text_says_how_it_was_made(make_run):
    text = write_model_card(make_run()).read_text()
    for sentence in (
        "distilled from 2 teachers on the corpus phoenix. 1,234,567 parameters, 4.94 MB of weights, seed 7.",
        "- Teachers: `jackson`, `nicolas`.",
        "- Aggregation of the teachers: `route`.",
        "- Temperature: 4, 3.5 from epoch 30, 3 from epoch 70 in training, 1 at evaluation.",
        "- Losses: `ctc_kd` on soft targets (weight 0.7), `ctc` on labels (weight 0.3).",
        "- Frames of CTC-KD: `threshold` (blank probability below 0.95).",
        "- Held-out speakers: theo.",
        "Scored with protocol `official-sclite`.",
    ):
        assert sentence in text
    assert re.search(r"\| dev +\| greedy +\| official-sclite \| +25.69 \| 24.37 to 27.01 \| +12.96 \|", text)
    assert re.search(r"\| phoenix/Signer05 \| +27.19 \| +11.23 \| +3,000 \|", text)


def test_a_transductive_run_says_so_loudly(make_run):
    heard = {"utterances": 1200, "transductive": True}
    text = write_model_card(make_run("heard", untranscribed=heard)).read_text()
    assert "**TRANSDUCTIVE: in training this student heard recordings" in text
    assert "- Recordings without text: 1,200; soft targets only." in text
    others = write_model_card(make_run("others", untranscribed={**heard, "transductive": False})).read_text()
    assert "TRANSDUCTIVE" not in others and "- Recordings without text: 1,200" in others
    assert "without text" not in write_model_card(make_run("none")).read_text()


def test_stages_and_curriculum_are_named(make_run, config):
    stages = [{"epochs": 5, "freeze": ["encoder"], "learning_rate": 3e-4}, {"epochs": 35, "learning_rate": 2e-4}]
    curriculum = {"curriculum": "sqrt", "curriculum_start": 0.3, "curriculum_epochs": 10}
    results = make_run().read_results()
    text = str(build_model_card(results, {**config, "stages": stages, **curriculum}))
    assert "- Stages: 5 epochs at 0.0003 (encoder frozen), then 35 epochs at 0.0002." in text
    assert "- Curriculum: `sqrt`, from the easiest 30 % of the utterances to all of them from epoch 10 on." in text
    assert "Learning rate" not in text


def test_the_lines_to_load_it_are_python(make_run):
    blocks = re.findall(r"```python\n(.*?)```", write_model_card(make_run()).read_text(), re.DOTALL)
    assert len(blocks) == 3  # transformers, its pipeline, this package
    for code in blocks:
        assert '"FOLDER"' in code
        modules = [node.module for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
        assert modules and all(importlib.util.find_spec(module) for module in modules)
        assert "trust_remote_code" not in code  # there is no code beside this student


def test_code_beside_the_weights_is_trusted_and_its_packages_are_named(make_run):
    run = make_run(config={"features": "raw"})
    (run.path / "modeling_i3d.py").write_text("import torch\nfrom .kd_asr_slr_sign import x\n")
    (run.path / "kd_asr_slr_sign.py").write_text("def f():\n    import json\n    from scipy.linalg import blas\n")
    (run.path / "processor_config.json").write_text('{"feature_extractor": {"sampling_rate": 0}}')
    text = write_model_card(run).read_text()
    assert "(`pip install torch transformers scipy`)" in text
    assert 'from_pretrained("FOLDER", trust_remote_code=True)' in text
    assert "pipeline(" not in text and "frames of a video" in text  # sign has no pipeline
    assert "NeMo" not in text
    (run.path / "modeling_nemo_hybrid.py").write_text("try:\n    import nemo.core\nexcept ImportError:\n    raise\n")
    text = write_model_card(run).read_text()
    assert "(`pip install torch transformers 'nemo_toolkit[asr]' scipy`)" in text
    assert "without NeMo the model cannot be built" in text


def test_teachers_on_the_hub_are_linked(make_run, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    local = make_run("teacher")
    (local.path / "published.json").write_text(f'{{"repository": "me/teacher", "commit": "{commit}"}}')
    teachers = [{"name": "you/teacher@v1", "revision": commit}, {"name": str(local.path)}, {"name": "runs/gone"}]
    text = write_model_card(make_run(teachers=teachers)).read_text()
    for owner in ("you", "me"):
        assert f"[`{owner}/teacher`](https://huggingface.co/{owner}/teacher/tree/{commit}) (commit 01234567)" in text
    assert "`runs/gone`" in text and "huggingface.co/runs" not in text


def test_licence_and_citation(make_run):
    run = make_run()
    assert "None was stated for the weights" in write_model_card(run).read_text()
    card = card_of(run, place="me/student", licence="cc-by-4.0")
    assert card.data.license == "cc-by-4.0"
    assert "The weights: `cc-by-4.0`." in card.text and "hinton2015" in card.text
    assert card.text.count("{") == card.text.count("}")
    assert "hinton2015" not in str(card_of(make_run("labels", teachers=[])))


def test_a_label_only_run_speaks_of_no_teacher(make_run):
    text = write_model_card(make_run(teachers=[])).read_text()
    assert "trained on labels only" in text
    assert "## How it was trained" in text
    assert "- Losses: `ctc` on labels." in text
    for word in ("distilled", "knowledge-distillation", "Temperature", "Aggregation", "ctc_kd"):
        assert word not in text


def test_sign_has_no_pipeline_on_the_hub(make_run):
    data = ModelCard.load(write_model_card(make_run(config={"features": "mediapipe_holistic"}))).data
    assert data.pipeline_tag is None
    assert "sign-language-recognition" in data.tags
    assert {result.task_type for result in data.eval_results} == {"sign-language-recognition"}


@pytest.mark.parametrize(
    ("config", "modality"),
    [
        ({"features": "waveform"}, "speech"),
        ({"features": None, "corpus": "synthetic_sign"}, "sign"),
        ({"features": "raw", "corpus": "manifest"}, "sign"),
        ({"corpus": "manifest"}, None),
    ],
)
def test_modality_by_features_or_corpus(config, modality):
    assert modality_of(config) == modality


def test_an_unscored_run_has_a_card_without_scores(make_run):
    card = build_model_card(make_run(scores=[]).read_results(), {})
    assert "This run has not been scored yet." in card.text
    assert card.data.eval_results is None


def test_an_odd_corpus_name_still_makes_valid_metadata(make_run):
    data = ModelCard.load(write_model_card(make_run(corpus="my corpus: take 2"))).data
    assert data.eval_results[0].dataset_name == "my corpus: take 2"
    assert data.eval_results[0].dataset_type == "my-corpus-take-2"


def test_no_results_no_card(make_run):
    run = make_run()
    (run.path / "results.json").unlink()
    with pytest.raises(UserError, match="has no results.json"):
        write_model_card(run)
    assert not (run.path / "README.md").exists()
