"""Networks beside the BiLSTM: the hybrid with its decoder, and a Wav2Vec2 of transformers as teacher and as student."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import assemble, cache, check, do_run, largest_difference, logged, weights
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)

from kd_asr_slr.errors import UserError
from kd_asr_slr.models.auto import load_model
from kd_asr_slr.processing.auto import load_processor
from kd_asr_slr.processing.collator import Collator
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.tool_arguments import ScoreArguments
from kd_asr_slr.training.data import evaluation_items, load_data, scored_corpus
from kd_asr_slr.training.evaluation import build_decoding, predict, score_split

HYBRID: dict[str, Any] = {
    "model": "nemo_hybrid",
    "model_options": {
        "num_mel_bins": 16, "encoder_layers": 1, "d_model": 16, "encoder_heads": 2, "conv_kernel_size": 7,
        "decoder_layers": 1, "decoder_heads": 2, "decoder_ffn_dim": 16, "max_source_positions": 200,
        "max_target_positions": 16, "conv_norm_type": "layer_norm", "subsampling_factor": 4,
        "dropout": 0.0, "attention_dropout": 0.0,
    },
    "feature_options": None,
    "hard_losses": ["ctc", "cross_entropy"],
    "learning_rate": 3e-3,
}  # fmt: skip
LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABDKPT"]


@pytest.fixture(scope="module")
def hybrid_teacher(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny NeMo hybrid trained for two epochs."""
    folder = tmp_path_factory.mktemp("hybrid") / "teacher"
    do_run(data_dir=speech, output_dir=folder, num_train_epochs=2, seed=5, **HYBRID)
    return folder


@pytest.mark.slow
def test_a_hybrid_is_distilled_on_both_heads_live_and_cached(
    speech: Path, hybrid_teacher: Path, tmp_path: Path
) -> None:
    options = {**HYBRID, "data_dir": speech, "teachers": [hybrid_teacher], "soft_losses": ["ctc_kd", "decoder_kd"]}
    # One utterance at a time: then live and cached targets are the same bits. 6 steps of 4.
    options |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, "per_device_eval_batch_size": 1}
    options |= {"cache_dtype": "float32", "ctc_share": 0.25, "decoder_label_smoothing": 0.1}
    live = do_run(output_dir=tmp_path / "live", **options)
    assert live.trainer.state.global_step == 6
    shares = {"ctc_kd": 0.7 * 0.25, "decoder_kd": 0.7 * 0.75, "ctc": 0.3 * 0.25, "cross_entropy": 0.3 * 0.75}
    parts = {name: logged(tmp_path / "live", f"loss_{name}")[0] for name in shares}
    expected = sum(shares[name] * value for name, value in parts.items())
    assert logged(tmp_path / "live", "loss")[0] == pytest.approx(expected, rel=1e-4)
    assert all(value > 0 for value in parts.values())
    folder = cache(tmp_path / "targets", output_dir=tmp_path / "unused", **options)
    cached = do_run(output_dir=tmp_path / "cached", teacher_cache=folder, **options)
    assert "decoder_log_probs" in cached.teachers.provides
    assert largest_difference(weights(tmp_path / "live"), weights(tmp_path / "cached")) < 1e-6


@pytest.mark.slow
def test_a_hybrid_is_scored_by_its_decoder(hybrid_teacher: Path) -> None:
    run, score = RunFolder(hybrid_teacher), ScoreArguments(run=str(hybrid_teacher), decoder="attention", max_length=5)
    data, processor, model = scored_corpus(run.config(), score), load_processor(run.path), load_model(str(run.path))
    items = evaluation_items(load_data(data)["dev"], processor, data)
    decode = build_decoding(score, processor, model)
    together = predict(model, items, Collator(processor.input_name), decode, 16)
    alone = predict(model, items, Collator(processor.input_name), decode, 1)
    said = [item["hypothesis"].split() for item in together]
    assert said == [item["hypothesis"].split() for item in alone]
    assert len(said) == 16 and all(len(words) <= 5 for words in said) and any(said)
    assert {word for words in said for word in words} <= {"BATA", "PADA", "PATA", "TAPA"}
    score_split(run, together, "dev", "attention")
    decoders = {(item["split"], item["decoder"]) for item in run.read_results()["scores"]}
    assert decoders == {("dev", "greedy"), ("test", "greedy"), ("dev", "attention")}
    # More labels than the decoder has positions for are not an error: it stops there.
    longest = build_decoding(ScoreArguments(decoder="attention", max_length=500), processor, model)
    assert len(predict(model, items, Collator(processor.input_name), longest, 16)) == 16


@pytest.mark.slow
@pytest.mark.parametrize("losses", [["ctc"], ["cross_entropy"]])
def test_a_head_without_a_loss_is_left_out(losses: list[str], speech: Path, tmp_path: Path) -> None:
    run = assemble(output_dir=tmp_path, data_dir=speech, **{**HYBRID, "hard_losses": losses})
    check(run)
    batch = run.trainer.data_collator([run.trainer.train_dataset[index] for index in range(2)])
    run.student.train()
    run.trainer.compute_loss(run.student, batch).backward()
    grads = dict.fromkeys(("decoder", "ctc_head", "encoder"), 0.0)
    for name, value in run.student.named_parameters():
        if value.grad is not None:
            grads[name.split(".")[0]] += float(value.grad.abs().sum())
    assert grads["encoder"] > 0
    assert (grads["decoder"] > 0, grads["ctc_head"] > 0) == (losses == ["cross_entropy"], losses == ["ctc"])
    # DistributedDataParallel fails where an output of the forward pass gets no gradient at all.
    assert run.student.ctc_head.weight.grad is not None


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Wav2Vec2 with its processor, as transformers saves them."""
    folder = tmp_path_factory.mktemp("wav2vec2")
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(LETTERS)}))
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), word_delimiter_token="|")
    extractor = Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=16000, return_attention_mask=True)
    Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(LETTERS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, feat_extract_norm="layer",
        do_stable_layer_norm=True, pad_token_id=0, layerdrop=0.0, mask_time_prob=0.0,
    )  # fmt: skip
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    return folder


SPELLING = {"vocabulary": None, "feature_options": {"feature_size": 16}, "rate_matching": "resample"}
SPELLING |= {"model_options": {"hidden_size": 8, "num_layers": 1, "stride": 2}}


def test_a_wav2vec2_teaches_a_bilstm_by_its_letters(speech: Path, wav2vec2: Path, tmp_path: Path) -> None:
    """The student takes over the teacher's labels; the teacher hears the waveform, the student log-mel frames."""
    options = {**SPELLING, "vocabulary": wav2vec2, "data_dir": speech, "teachers": [wav2vec2], "num_train_epochs": 2}
    run = do_run(output_dir=tmp_path / "live", **options)
    assert run.processor.tokens == LETTERS and run.processor.tokenizer.kind == "characters"
    assert list(run.teachers.views) and run.teachers.frame_seconds == pytest.approx(0.02)
    assert all(value > 0 for value in logged(tmp_path / "live", "loss_ctc_kd"))
    again = load_processor(tmp_path / "live")
    assert again.encode_labels("PATA BATA") == [LETTERS.index(letter) for letter in "PATA|BATA"]
    assert again.decode_labels(again.encode_labels("PATA BATA")) == "PATA BATA"
    folder = cache(tmp_path / "targets", output_dir=tmp_path / "unused", **options)
    cached = do_run(output_dir=tmp_path / "cached", teacher_cache=folder, **options)
    assert cached.teachers.views == {}
    one, other = (logged(tmp_path / name, "loss_ctc_kd") for name in ("live", "cached"))
    assert one == pytest.approx(other, rel=0.02)


def test_frames_that_do_not_line_up_are_refused_unless_resampled(speech: Path, wav2vec2: Path, tmp_path: Path) -> None:
    """Both have a frame every 20 ms, but Wav2Vec2 does not pad its convolutions: some frames fewer."""
    options = {**SPELLING, "rate_matching": "equal", "vocabulary": wav2vec2, "teachers": [wav2vec2]}
    with pytest.raises(UserError, match=r"student frames, \d+ teacher frames"):
        do_run(data_dir=speech, output_dir=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_wav2vec2_is_trained_from_its_folder(speech: Path, wav2vec2: Path, tmp_path: Path) -> None:
    start = {"model": wav2vec2, "model_options": None, "feature_options": None, "learning_rate": 1e-3}
    run = do_run(data_dir=speech, output_dir=tmp_path / "labels", **start)
    assert largest_difference(weights(wav2vec2), weights(tmp_path / "labels")) > 1e-4
    results = json.loads((tmp_path / "labels" / "results.json").read_text())
    assert results["model"]["type"] == "wav2vec2" and len(results["scores"]) == 2
    assert load_processor(tmp_path / "labels").fingerprint == run.processor.fingerprint
    taught = do_run(data_dir=speech, output_dir=tmp_path / "taught", teachers=[tmp_path / "labels"], **start)
    assert taught.teachers.views == {}  # the same features for both
    assert type(load_model(str(tmp_path / "taught"))).__name__ == "Wav2Vec2ForCTC"


def test_labels_that_are_pieces_of_words_cannot_be_shared(speech: Path, wav2vec2: Path, tmp_path: Path) -> None:
    pieces = [*LETTERS, "TION"]
    (tmp_path / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(pieces)}))
    tokenizer = Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"), word_delimiter_token="|")
    Wav2Vec2Processor(load_processor(wav2vec2).feature_extractor, tokenizer).save_pretrained(tmp_path / "pieces")
    with pytest.raises(UserError, match=r"are not characters \(TION\)"):
        assemble(data_dir=speech, output_dir=tmp_path / "run", vocabulary=tmp_path / "pieces")
