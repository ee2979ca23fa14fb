"""Building networks from options, saving them and reading them back; and every way reading can fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from buffer_models import Careful, CarefulConfig, Forgetful, ForgetfulConfig
from transformers import AutoConfig, AutoModelForCTC, BertConfig, BertModel, Wav2Vec2Config, Wav2Vec2ForCTC

from kd_asr_slr.errors import UserError
from kd_asr_slr.models.auto import MODELS, build_model, load_model, register_models, takes_waveform
from kd_asr_slr.models.bilstm.configuration_bilstm import BiLstmConfig
from kd_asr_slr.models.bilstm.modeling_bilstm import BiLstmForCTC

DATA = {"vocab_size": 7, "pad_token_id": 0, "input_size": 5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    build_model("bilstm", {"hidden_size": 8, "num_layers": 2, "stride": 2}, **DATA).save_pretrained(tmp_path / "run")
    return tmp_path / "run"


def test_build_model_takes_options_and_what_the_data_say() -> None:
    model = build_model("bilstm", {"hidden_size": 8, "dropout": 0}, **DATA)
    assert (model.config.hidden_size, model.config.vocab_size, model.config.input_size) == (8, 7, 5)
    assert model.head.out_features == 7 and model.projection.in_features == 5


def test_the_same_seed_builds_the_same_network() -> None:
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(build_model("bilstm", {"hidden_size": 8}, **DATA).head.weight)
    assert torch.equal(models[0], models[1]) and not torch.equal(models[0], models[2])


def test_bad_options_are_named_all_at_once() -> None:
    options = {"hiden_size": 8, "num_layers": "4", "stride": True, "vocab_size": 9, "architectures": ["x"]}
    with pytest.raises(UserError) as error:
        build_model("bilstm", options, **DATA)
    message = str(error.value)
    assert "5 problems" in message
    assert "no option 'hiden_size', did you mean 'hidden_size'?" in message
    assert "conv_kernel, conv_layers, dropout, front, hidden_size, intermediate_layer" in message
    assert "option 'num_layers' is '4' (str); expected int" in message
    assert "option 'stride' is True (bool); expected int" in message
    assert "'vocab_size' follows from the data" in message
    assert "no option 'architectures'" in message


def test_unknown_model_names_the_known_ones() -> None:
    for function in (build_model, takes_waveform):
        with pytest.raises(UserError, match=r"no model 'lstm'.*bilstm or .*nemo_hybrid"):
            function("lstm")


def test_the_table_says_what_the_configurations_say() -> None:
    for name, entry in MODELS.items():
        assert entry.has_decoder == entry.config_class().has_decoder
        assert entry.model_class.main_input_name == ("input_values" if takes_waveform(name) else "input_features")


def test_registering_twice_is_harmless() -> None:
    register_models()
    register_models()
    assert type(AutoConfig.for_model("bilstm_ctc")) is BiLstmConfig


def test_read_in_a_fresh_process_bit_for_bit_without_nemo_where_unsaved_buffers_are_rebuilt(
    tmp_path: Path, folder: Path, read_in_fresh_process, differing_tensors
) -> None:
    careful, forgetful = Careful(CarefulConfig()), Forgetful(ForgetfulConfig())
    careful.save_pretrained(tmp_path / "careful")
    forgetful.save_pretrained(tmp_path / "forgetful")
    bilstm = load_model(str(folder))
    batch = {"input_features": torch.randn(2, 9, 5), "attention_mask": torch.ones(2, 9, dtype=torch.long)}
    batches = {folder: batch, tmp_path / "careful": {}, tmp_path / "forgetful": {}}
    (tensors, logits), (rebuilt, _), (forgotten, _) = read_in_fresh_process(batches, modules=("buffer_models",))
    assert differing_tensors(bilstm, tensors) == []
    with torch.no_grad():
        assert torch.equal(bilstm(**batch).logits, logits)
    assert differing_tensors(careful, rebuilt) == []
    assert differing_tensors(forgetful, forgotten) == ["inner.positions"]


def test_read_back_is_what_was_saved(tmp_path: Path, differing_tensors) -> None:
    model = build_model("bilstm", {"hidden_size": 8, "stride": 4}, **DATA)
    model.save_pretrained(tmp_path)
    for loaded in (load_model(str(tmp_path)), AutoModelForCTC.from_pretrained(tmp_path)):
        assert type(loaded) is BiLstmForCTC and not loaded.training
        assert differing_tensors(model, dict(loaded.state_dict())) == []
        assert loaded.config.to_dict() == model.config.to_dict() | {"_name_or_path": loaded.config._name_or_path}


@pytest.mark.parametrize("name", ["runs/none/here", "./none", "/none", "a b"])
def test_no_such_folder(name: str) -> None:
    with pytest.raises(UserError, match="there is no model folder"):
        load_model(name)


def test_an_offline_hub_name_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="the model facebook/no-such-model-here cannot be read"):
        load_model("facebook/no-such-model-here", revision="main")


def test_damaged_folders_are_told_apart(folder: Path) -> None:
    weights, config = folder / "model.safetensors", folder / "config.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged"):
        load_model(str(folder))
    weights.unlink()
    with pytest.raises(UserError, match="no weights"):
        load_model(str(folder))
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin, a pickle"):
        load_model(str(folder))
    config.write_text(json.dumps({"model_type": "lstm_of_mine"}))
    with pytest.raises(UserError, match=r"unknown model_type 'lstm_of_mine'.*bilstm_ctc"):
        load_model(str(folder))
    config.write_text("{")
    with pytest.raises(UserError, match="no JSON"):
        load_model(str(folder))
    config.unlink()
    with pytest.raises(UserError, match=r"no config\.json"):
        load_model(str(folder))
    with pytest.raises(UserError, match="is a file"):
        load_model(str(folder / "pytorch_model.bin"))


def test_weights_that_do_not_fill_the_network(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    safetensors.torch.save_file({k: v for k, v in tensors.items() if k != "head.bias"}, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"head\.bias is missing"):
        load_model(str(folder))
    safetensors.torch.save_file(tensors | {"head.bias": torch.zeros(9)}, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"head\.bias is \[9\], not \[7\]"):
        load_model(str(folder))
    safetensors.torch.save_file(tensors | {"head.bias": torch.full((7,), torch.nan)}, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"NaN or infinity in head\.bias"):
        load_model(str(folder))


def test_a_network_without_ctc_head_is_refused(tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=5, **sizes)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a bert, no CTC network"):
        load_model(str(tmp_path))


def test_a_pretrained_encoder_without_its_head_is_refused(tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = Wav2Vec2Config(**sizes, conv_dim=[8], conv_kernel=[4], conv_stride=[4], num_conv_pos_embeddings=4,
                            num_conv_pos_embedding_groups=1, num_feat_extract_layers=1)  # fmt: skip
    Wav2Vec2ForCTC(config).wav2vec2.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"lm_head\.bias is missing; lm_head\.weight is missing"):
        load_model(str(tmp_path))
