"""Who runs, on what, and what comes out: routing, decoders, hidden states, refusals."""

from __future__ import annotations

import json
import math

import pytest
import torch
from fake_teachers import TOKENS, batch_of, fake_processor, teacher

from kd_asr_slr.errors import UserError
from kd_asr_slr.teachers.aggregation import AggregationSettings
from kd_asr_slr.teachers.diagnosis import diagnose
from kd_asr_slr.teachers.frozen import FrozenTeacher
from kd_asr_slr.teachers.pool import TeacherPool

ROUTED = AggregationSettings("route")


def speaker_teachers(**options):
    return [teacher(0, "zero", {"s0"}, **options), teacher(1, "one", {"s1"}, **options)]


def alone(one, batch, row):
    return torch.log_softmax(one(batch).logits[row], -1)


def test_route_gives_each_utterance_its_own_teacher_and_runs_it_on_nothing_else():
    teachers = [*speaker_teachers(), teacher(2, "two", {"s2"})]
    batch = batch_of(range(5))  # speakers s0 s1 s0 s1 s0
    signal = TeacherPool(teachers, ROUTED).signal(batch)
    assert [one.model.calls for one in teachers] == [[3], [2], []]
    for row in range(5):
        frames = int(signal.lengths[row])
        assert torch.equal(signal.log_probs[row, :frames], alone(teachers[row % 2], batch, row)[:frames])
        assert torch.all(signal.log_probs[row, frames:] == -math.log(len(TOKENS)))


def test_route_with_an_unknown_speaker_is_an_error_that_names_the_known_ones():
    pool = TeacherPool(speaker_teachers(), ROUTED)
    with pytest.raises(UserError, match="speaker 'stranger'.*s0, s1"):
        pool.signal(batch_of([0, 1], ["s0", "stranger"]))
    assert pool.unknown_speakers(["s0", "stranger", "s1"]) == ["stranger"]


def test_unknown_speaker_generalist():
    generalist = teacher(9, "everyone")
    teachers = speaker_teachers()
    pool = TeacherPool(teachers, AggregationSettings("route", "generalist"), generalist)
    batch = batch_of([0, 1], ["s0", "stranger"])
    signal = pool.signal(batch)
    assert torch.equal(signal.log_probs[1], alone(generalist, batch, 1))
    assert torch.equal(signal.log_probs[0, :5], alone(teachers[0], batch, 0)[:5])
    assert generalist.model.calls[0] == 1
    assert signal.weight.tolist() == [1, 1]


def test_unknown_speaker_logprob_mean():
    teachers = speaker_teachers()
    batch = batch_of([0, 1], ["s0", "stranger"])
    signal = TeacherPool(teachers, AggregationSettings("route", "logprob_mean")).signal(batch)
    mean = torch.log_softmax((alone(teachers[0], batch, 1) + alone(teachers[1], batch, 1)) / 2, -1)
    torch.testing.assert_close(signal.log_probs[1], mean)
    torch.testing.assert_close(signal.log_probs[0, :5], alone(teachers[0], batch, 0)[:5])


@pytest.mark.parametrize("name", ["s0", "stranger"])
def test_unknown_speaker_skip_has_weight_zero_and_the_right_length(name):
    signal = TeacherPool(speaker_teachers(), AggregationSettings("route", "skip")).signal(
        batch_of([0, 3], [name, "stranger"])
    )
    assert signal.weight.tolist() == [float(name == "s0"), 0.0]
    assert signal.lengths.tolist() == [5, 8]
    assert torch.all(signal.log_probs[1] == -math.log(len(TOKENS)))


@pytest.mark.parametrize("mean", ["logprob_mean", "prob_mean"])
def test_decoders_are_combined_with_the_same_shares(mean):
    teachers = [teacher(seed, decoder=True) for seed in range(3)]
    batch = batch_of(range(4))
    pool = TeacherPool(teachers, AggregationSettings(mean))
    signal = pool.signal(batch)
    outputs = torch.stack([one(batch).decoder_logits.double() for one in teachers])
    if mean == "prob_mean":
        expected = torch.softmax(outputs, -1).mean(0).log()
    else:
        expected = torch.log_softmax(torch.log_softmax(outputs, -1).mean(0), -1)
    assert signal.decoder_lengths.tolist() == [2, 3, 2, 3]
    for row, length in enumerate(signal.decoder_lengths.tolist()):
        torch.testing.assert_close(
            signal.decoder_log_probs[row, :length].double(), expected[row, :length], atol=2e-6, rtol=0
        )
    assert "decoder_log_probs" in pool.provides


def test_one_teacher_without_a_decoder_silences_the_decoders():
    pool = TeacherPool([teacher(0, decoder=True), teacher(1)], AggregationSettings("logprob_mean"))
    assert pool.provides == {"log_probs", "dense_log_probs"}
    assert pool.signal(batch_of([0])).decoder_log_probs is None


def test_hidden_states_are_those_of_the_routed_teacher():
    teachers = speaker_teachers()
    pool = TeacherPool(teachers, ROUTED)
    batch = batch_of([0, 1])
    hidden = pool.signal(batch, hidden_layers=(1,)).hidden_states
    assert set(hidden) == {1} and "hidden_states" in pool.provides
    for row, frames in enumerate((5, 6)):
        expected = teachers[row](batch, output_hidden_states=True).hidden_states[1][row]
        assert torch.equal(hidden[1][row, :frames], expected[:frames])
        assert torch.all(hidden[1][row, frames:] == 0)
    with pytest.raises(UserError, match="hidden layer 7 .*between 0 and 1"):
        pool.signal(batch, hidden_layers=(7,))


@pytest.mark.parametrize(
    "settings", [AggregationSettings("logprob_mean"), AggregationSettings("route", "logprob_mean")]
)
def test_hidden_states_of_several_teachers_are_refused(settings):
    pool = TeacherPool(speaker_teachers(), settings)
    assert "hidden_states" not in pool.provides
    with pytest.raises(UserError, match="one teacher that speaks alone"):
        pool.signal(batch_of([0, 1]), hidden_layers=(0,))


def test_everything_that_keeps_teachers_apart_is_reported_at_once():
    other = teacher(1, "other", tokens=["<blank>", "A", "X", "C", "D"])
    slower = teacher(2, "slower", subsampling=2)
    with pytest.raises(UserError) as caught:
        TeacherPool([teacher(0, "first"), other, slower], AggregationSettings("logprob_mean"))
    assert "token 2 is 'B' in teacher first and 'X' in teacher other" in str(caught.value)
    assert "teacher slower every 0.02 s" in str(caught.value)


def test_route_needs_one_teacher_a_speaker():
    with pytest.raises(UserError) as caught:
        TeacherPool([teacher(0, "a", {"s0"}), teacher(1, "b", {"s0"}), teacher(2, "c")], ROUTED)
    assert "speaker 's0' is bound to two teachers, a and b" in str(caught.value)
    assert "c has none" in str(caught.value)


def test_teachers_of_different_lengths_are_refused_by_name():
    teachers = [teacher(0, "long"), teacher(1, "short")]
    teachers[1].model.output_lengths = lambda lengths: lengths - 1
    with pytest.raises(UserError, match="corpus/000: teacher short gives 4 frames, long 5"):
        TeacherPool(teachers, AggregationSettings("logprob_mean")).signal(batch_of([0, 1]))


def test_teachers_may_pad_to_other_sizes():
    teachers = [teacher(0), teacher(1)]
    forward = teachers[1].model.forward

    def padding_forward(**inputs):
        output = forward(**inputs)
        output.logits = torch.nn.functional.pad(output.logits, (0, 0, 0, 2), value=float("nan"))
        return output

    expected = TeacherPool(teachers, AggregationSettings("prob_mean")).signal(batch_of([0, 1])).log_probs
    teachers[1].model.forward = padding_forward
    for order in (teachers, teachers[::-1]):
        found = TeacherPool(order, AggregationSettings("prob_mean")).signal(batch_of([0, 1]))
        torch.testing.assert_close(found.log_probs[:, :6], expected)
        assert torch.isfinite(found.log_probs).all()


def test_a_frozen_teacher_has_no_gradients_and_stays_in_evaluation_mode():
    frozen = teacher(0)
    assert not isinstance(frozen, torch.nn.Module)
    assert all(not parameter.requires_grad for parameter in frozen.model.parameters())
    frozen.model.train()
    output = frozen(batch_of([0]))
    assert not frozen.model.training
    assert not output.logits.requires_grad
    # The signal takes part in a loss: what autograd has to keep must not be an inference tensor.
    student = torch.zeros(1, 5, len(TOKENS), requires_grad=True)
    signal = TeacherPool([frozen], AggregationSettings("logprob_mean")).signal(batch_of([0]))
    (student * signal.log_probs).sum().backward()
    assert torch.equal(student.grad, signal.log_probs)


def test_a_teacher_takes_its_own_view_of_the_batch():
    frozen = teacher(0, features="mine", student_features="students")
    batch = batch_of([0, 1])
    own = batch_of([1, 0])
    with pytest.raises(ValueError, match="needs the view mine"):
        frozen(batch)
    batch["views"] = {"mine": {key: own[key] for key in ("input_features", "attention_mask")}}
    assert torch.equal(frozen(batch).logits, teacher(0)(own).logits)
    assert list(TeacherPool([frozen], AggregationSettings("logprob_mean")).views) == ["mine"]
    routed = TeacherPool(
        [teacher(1, speakers={"s0"}), teacher(0, speakers={"s1"}, features="mine", student_features="students")], ROUTED
    ).signal(batch)
    assert routed.lengths.tolist() == [5, 5]  # the second row came from the second teacher's view


def test_half_precision_is_near_and_the_signal_is_float32():
    batch = batch_of(range(3))
    exact = TeacherPool([teacher(0, "t", {"s0", "s1"})], ROUTED).signal(batch).log_probs
    half = TeacherPool([teacher(0, "t", {"s0", "s1"}, precision="bfloat16")], ROUTED).signal(batch).log_probs
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, atol=0.1, rtol=0.05)


def test_autocast_of_the_student_does_not_reach_a_float32_teacher():
    linear = torch.nn.Linear(3, len(TOKENS))
    frozen = teacher(0)
    frozen.model.forward = lambda input_features, attention_mask, **_: type(
        "Output", (), {"logits": linear(input_features), "logit_lengths": attention_mask.sum(-1)}
    )()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert frozen(batch_of([0])).logits.dtype == torch.float32


def test_a_model_and_a_tokenizer_that_do_not_belong_together_are_refused():
    model = teacher(0).model
    with pytest.raises(UserError, match="5 outputs and its tokenizer 4 tokens"):
        FrozenTeacher(model, fake_processor(TOKENS[:4]), "t")
    model.config.pad_token_id = 4
    with pytest.raises(UserError, match="output 4 in its model and token 0"):
        FrozenTeacher(model, fake_processor(), "t")


def test_description_is_json_and_names_the_weights():
    pool = TeacherPool(speaker_teachers(), ROUTED)
    described = json.loads(json.dumps(pool.describe()))
    assert [one["name"] for one in described["teachers"]] == ["zero", "one"]
    assert described["aggregation"] == {"name": "route", "generalist_weight": 0.0, "unknown_speaker": "error"}
    fingerprints = [one["fingerprint"] for one in described["teachers"]]
    assert fingerprints[0] != fingerprints[1]
    assert fingerprints[0] == teacher(0).fingerprint


def test_diagnosis_of_equal_and_of_contrary_teachers():
    batches = [batch_of([0, 1]), batch_of([2])]
    same = diagnose(TeacherPool([teacher(0, "a"), teacher(0, "b")], AggregationSettings("logprob_mean")), batches)
    assert same["teacher_agreement"] == 1.0
    assert same["uniform_mean_mass"] == pytest.approx(1.0, abs=1e-5)
    assert same["frames"] == 5 + 6 + 7 and same["utterances"] == 3
    teachers = [teacher(seed) for seed in range(3)]
    found = diagnose(TeacherPool(teachers, AggregationSettings("logprob_mean")), batches)
    agreement, mass, blanks, frames = 0.0, 0.0, 0.0, 0
    for batch in batches:
        for row, length in enumerate(batch["attention_mask"].sum(-1).tolist()):
            rows = torch.stack([alone(one, batch, row)[:length] for one in teachers]).double()
            best = rows.argmax(-1)
            agreement += sum((best[i] == best[j]).sum().item() for i, j in ((0, 1), (0, 2), (1, 2))) / 3
            mass += rows.mean(0).exp().sum().item()
            blanks += (rows.mean(0).argmax(-1) == 0).sum().item()
            frames += length
    assert found["teacher_agreement"] == pytest.approx(agreement / frames)
    assert found["uniform_mean_mass"] == pytest.approx(mass / frames, rel=1e-5)
    assert found["blank_ratio"] == pytest.approx(blanks / frames)
