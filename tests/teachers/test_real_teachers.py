"""Real networks as teachers: BiLSTMs through the real loss, cached and live; a foreign network on its own view."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from kd_asr_slr.losses.base import LossContext
from kd_asr_slr.losses.ctc_kd import CTCDistillation
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.models.bilstm.configuration_bilstm import BiLstmConfig
from kd_asr_slr.models.bilstm.modeling_bilstm import BiLstmForCTC
from kd_asr_slr.models.forward import run_ctc
from kd_asr_slr.processing.collator import pad_inputs, pad_labels
from kd_asr_slr.processing.speech import SpeechFeatureExtractor, SpeechProcessor
from kd_asr_slr.processing.tokenization import LabelTokenizer
from kd_asr_slr.teachers.aggregation import AggregationSettings
from kd_asr_slr.teachers.cache import write_cache
from kd_asr_slr.teachers.cached import CachedTeachers
from kd_asr_slr.teachers.frozen import FrozenTeacher
from kd_asr_slr.teachers.manifest import manifest_of
from kd_asr_slr.teachers.pool import TeacherPool
from kd_asr_slr.teachers.store import StoreWriter

WORDS = ["NEIN", "JA", "VIELLEICHT", "JA NEIN", "NEIN", "JA"]
TOKENIZER = LabelTokenizer.from_texts(WORDS, kind="words")
MEL = SpeechProcessor(SpeechFeatureExtractor(feature_size=8), TOKENIZER)
WAVE = SpeechProcessor(SpeechFeatureExtractor(kind="waveform"), TOKENIZER)


def network(seed, hidden_size=6):
    torch.manual_seed(seed)
    config = BiLstmConfig(
        input_size=8, hidden_size=hidden_size, num_layers=2, stride=2, vocab_size=len(TOKENIZER.tokens)
    )
    return BiLstmForCTC(config)


def waveform(position):
    return np.random.default_rng(position).standard_normal(8000 + 500 * position).astype(np.float32)


def batch_of(positions):
    batch = pad_inputs([MEL.extract(waveform(position)) for position in positions], "input_features")
    batch["labels"] = pad_labels([TOKENIZER.encode_labels(WORDS[position]) for position in positions])
    batch["ids"] = [f"u{position}" for position in positions]
    batch["speakers"] = [f"s{position % 2}" for position in positions]
    waves = [WAVE.extract(waveform(position)) for position in positions]
    batch["views"] = {WAVE.fingerprint: pad_inputs(waves, "input_values")}
    return batch


def loss_and_gradient(student, source, batch):
    student.zero_grad()
    output = run_ctc(student, batch)
    loss = CTCDistillation(LossSettings(), LossContext(blank_id=0))(output, source.signal(batch), batch, 2.0)
    loss.sum().backward()
    return loss.detach(), torch.cat([parameter.grad.flatten() for parameter in student.parameters()])


@pytest.mark.parametrize("aggregation", ["route", "logprob_mean", "gate"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_cached_and_live_give_the_student_the_same_loss_and_gradient(tmp_path, aggregation, dtype):
    teachers = [FrozenTeacher(network(seed), MEL, f"t{seed}", {f"s{seed}"}) for seed in range(2)]
    pool = TeacherPool(teachers, AggregationSettings(aggregation))
    ids = [f"u{position}" for position in range(6)]
    writer = StoreWriter(tmp_path, manifest_of(pool, "noise", ids, WORDS, dtype=dtype, shard_size=3), ids)
    write_cache(pool, lambda positions: [batch_of(positions)], writer)
    writer.finish()
    cached = CachedTeachers(tmp_path)
    student = network(7, hidden_size=4).eval()
    batch = batch_of(range(3))
    live_loss, live_gradient = loss_and_gradient(student, pool, batch)
    loss, gradient = loss_and_gradient(student, cached, batch)
    assert live_loss.min() > 0 and live_gradient.abs().max() > 0
    if dtype == "float32":
        assert torch.equal(loss, live_loss) and torch.equal(gradient, live_gradient)
    else:
        torch.testing.assert_close(loss, live_loss, atol=1e-4, rtol=2e-3)
        assert torch.nn.functional.cosine_similarity(gradient, live_gradient, dim=0) > 0.9999
    other = batch_of([5, 0, 3])  # no batch of the cache: other padding, other rounding
    for one, another in zip(
        loss_and_gradient(student, cached, other), loss_and_gradient(student, pool, other), strict=True
    ):
        torch.testing.assert_close(one, another, atol=1e-4, rtol=5e-3)


def test_a_waveform_network_teaches_through_its_view_at_its_own_rate():
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(TOKENIZER.tokens), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=16, conv_dim=(8, 8, 8, 8, 8, 8, 8), num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, feat_extract_norm="layer", do_stable_layer_norm=True,
        pad_token_id=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    foreign = FrozenTeacher(Wav2Vec2ForCTC(config), WAVE, "wav2vec2", student_features=MEL.fingerprint)
    assert foreign.frame_seconds == pytest.approx(0.02)
    pool = TeacherPool([foreign], AggregationSettings("logprob_mean"))
    assert pool.views == {WAVE.fingerprint: WAVE}
    batch = batch_of([0, 2])
    signal = pool.signal(batch)
    for row, position in enumerate((0, 2)):
        single = pool.signal(batch_of([position]))
        frames = int(single.lengths[0])
        assert signal.lengths[row] == frames
        torch.testing.assert_close(signal.log_probs[row, :frames], single.log_probs[0], atol=1e-4, rtol=1e-4)
