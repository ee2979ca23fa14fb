"""Settings, the table, the weights, and the temperature schedule."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from kd_asr_slr.errors import UserError
from kd_asr_slr.losses.schedules import TemperatureSchedule, temperature_problems
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.losses.table import build_losses


def weights(eos_id: int | None = 2, **options: object) -> dict[str, float]:
    return {part.name: part.weight for part in build_losses(LossSettings(**options), blank_id=0, eos_id=eos_id)}


def test_defaults_are_fine_and_have_a_label_loss() -> None:
    settings = LossSettings()
    assert settings.problems() == []
    assert not settings.is_pure_kd
    assert weights() == {"ctc_kd": 0.7, "ctc": 0.3}


def test_ctc_share_splits_soft_and_hard_alike() -> None:
    found = weights(
        alpha=0.8,
        beta=0.4,
        ctc_share=0.25,
        soft_losses=["ctc_kd", "decoder_kd"],
        hard_losses=["cross_entropy", "ctc"],
    )
    assert found == pytest.approx({"ctc_kd": 0.2, "decoder_kd": 0.6, "ctc": 0.1, "cross_entropy": 0.3})


def test_ctc_share_is_ignored_where_one_side_is_alone() -> None:
    assert weights(ctc_share=0.25, soft_losses=["decoder_kd"]) == {"decoder_kd": 0.7, "ctc": 0.3}


def test_weights_of_each_kind_add_up() -> None:
    found = weights(gamma=0.5, feature_losses="hidden", layer_map={"1": 2}, alpha=0)
    assert found == {"ctc": 0.3, "hidden": 0.5}


def test_a_loss_of_weight_zero_is_left_out() -> None:
    assert weights(alpha=0, beta=1) == {"ctc": 1}
    assert weights(ctc_share=1, hard_losses=["ctc", "cross_entropy"]) == {"ctc_kd": 0.7, "ctc": 0.3}


def test_auxiliary_losses_have_weights_of_their_own() -> None:
    found = weights(alpha=0, beta=1, auxiliary_ctc_weight=1, auxiliary_kd_weight=25)
    assert found == {"ctc": 1, "auxiliary_ctc": 1, "auxiliary_kd": 25}


def test_soft_losses_with_weights_of_their_own_stand_beside_alpha() -> None:
    own = {"blank_mass_weight": 0.5, "pseudo_label_weight": 0.2, "sequence_kd_weight": 0.1}
    parts = {"blank_mass": 0.5, "pseudo_labels": 0.2, "sequence_kd": 0.1}
    assert weights(**own) == {"ctc_kd": 0.7, "ctc": 0.3} | parts
    assert weights(alpha=0, beta=0, **own) == parts


@pytest.mark.parametrize(
    ("options", "pure", "teachers"),
    [
        ({}, False, True),
        ({"beta": 0}, True, True),
        ({"alpha": 0, "beta": 1}, False, False),
        ({"alpha": 0, "beta": 1, "auxiliary_ctc_weight": 1, "auxiliary_kd_weight": 25}, False, False),
        ({"beta": 0, "auxiliary_kd_weight": 25}, True, True),
        ({"beta": 0, "auxiliary_ctc_weight": 1}, False, True),
        ({"alpha": 0, "beta": 0, "gamma": 1, "feature_losses": ["hidden"], "layer_map": {0: 0}}, True, True),
        ({"beta": 0.1, "hard_losses": []}, True, True),
        ({"alpha": 0, "beta": 1, "blank_mass_weight": 1}, False, True),
        ({"alpha": 0, "beta": 0, "sequence_kd_weight": 1}, True, True),
    ],
)
def test_pure_distillation_is_detected(options: dict[str, object], pure: bool, teachers: bool) -> None:
    settings = LossSettings(**options)
    assert settings.is_pure_kd is pure
    assert settings.uses_teachers is teachers


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": -0.1}, "alpha is -0.1"),
        ({"beta": math.nan}, "beta is nan"),
        ({"gamma": "much"}, "gamma is 'much'"),
        ({"alpha": True}, "alpha is True"),
        ({"beta": math.inf}, "beta is inf"),
        ({"ctc_share": 1.5}, "ctc_share is 1.5"),
        ({"blank_threshold": 0}, "blank_threshold is 0"),
        ({"blank_threshold": 95}, "blank_threshold is 95"),
        ({"neighbours": -1}, "neighbours is -1"),
        ({"label_smoothing": 1}, "label_smoothing is 1"),
        ({"layer_map": {0: "last"}}, "layer_map is {0: 'last'}"),
        ({"layer_map": {-1: 0}}, "layer_map is {-1: 0}"),
        ({"frame_selection": "some"}, "expected one of all, threshold, symmetric"),
        ({"rate_matching": "stretch"}, "expected one of equal, resample"),
        ({"hidden_distance": "l1"}, "expected one of mse, cosine"),
        ({"drop_blank_class": "no"}, "drop_blank_class is 'no'"),
        ({"soft_losses": ["ctc"]}, "soft_losses names 'ctc'; expected one of ctc_kd, decoder_kd"),
        ({"hard_losses": ["ctc", "ctc"]}, "expected each name once"),
        ({"hard_losses": ["ctc", "auxiliary_ctc"]}, "expected auxiliary_ctc_weight instead"),
        ({"soft_losses": ["auxiliary_kd"]}, "expected auxiliary_kd_weight instead"),
        ({"soft_losses": ["ctc_kd", "blank_mass"]}, "expected blank_mass_weight instead"),
        ({"auxiliary_kd_weight": -1}, "auxiliary_kd_weight is -1"),
        ({"pseudo_label_weight": math.nan}, "pseudo_label_weight is nan"),
        ({"pseudo_label_confidence": 0}, "pseudo_label_confidence is 0"),
        ({"sequence_confidence": 1.5}, "sequence_confidence is 1.5"),
        ({"auxiliary_temperature": 0}, "auxiliary_temperature is 0"),
        ({"soft_losses": []}, "soft_losses is empty"),
        ({"alpha": 0, "beta": 0}, "none of alpha, beta and gamma is above 0"),
        ({"gamma": 1, "feature_losses": ["hidden"]}, "layer_map is empty"),
    ],
)
def test_each_problem_is_named_alone(options: dict[str, object], words: str) -> None:
    problems = LossSettings(**options).problems()
    assert len(problems) == 1
    assert words in problems[0]


def test_all_problems_are_reported_at_once() -> None:
    settings = LossSettings(alpha=-1, frame_selection="some", hard_losses=["crf"])
    with pytest.raises(UserError, match="3 problems") as caught:
        build_losses(settings, blank_id=0)
    assert all(word in str(caught.value) for word in ("alpha", "frame_selection", "crf"))


def test_decoder_labels_need_an_end_of_sequence() -> None:
    with pytest.raises(UserError, match="no end of sequence"):
        weights(eos_id=None, hard_losses=["cross_entropy"])


def test_settings_import_no_torch() -> None:
    program = "import sys, kd_asr_slr.losses.settings, kd_asr_slr.losses.schedules; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


# --- temperature ---


def test_temperature_at_the_borders() -> None:
    schedule = TemperatureSchedule(4.0, {30: 3.5, 70: 3.0})
    found = {epoch: schedule.at(epoch) for epoch in (0, 0.5, 29, 29.999, 30, 30.001, 69.99, 70, 70.5, 1000)}
    assert found == {
        0: 4.0,
        0.5: 4.0,
        29: 4.0,
        29.999: 4.0,
        30: 3.5,
        30.001: 3.5,
        69.99: 3.5,
        70: 3.0,
        70.5: 3.0,
        1000: 3.0,
    }


def test_a_milestone_is_reached_by_the_epochs_the_trainer_counts() -> None:
    """Epochs are summed in floating point: ten tenths are a little less than one."""
    epoch = sum([0.1] * 10)
    assert epoch < 1
    assert TemperatureSchedule(2.0, {1: 1.0}).at(epoch) == 1.0


def test_constant_schedule_and_text_keys() -> None:
    assert TemperatureSchedule(2).at(50) == 2.0
    assert TemperatureSchedule(2, {"10": "1.5"}).at(10) == 1.5


@pytest.mark.parametrize(
    ("start", "milestones", "words"),
    [
        (0, {}, "temperature is 0"),
        (math.nan, {}, "temperature is nan"),
        ("warm", {}, "temperature is 'warm'"),
        (2, {30: 0}, "temperature 0 at epoch 30"),
        (2, {30: -1.0}, "temperature -1.0 at epoch 30"),
        (2, {0: 1}, "milestone at epoch 0"),
        (2, {70: 3, 30: 2}, "expected increasing epochs"),
    ],
)
def test_impossible_schedules(start: object, milestones: dict[float, float], words: str) -> None:
    assert len(temperature_problems(start, milestones)) == 1
    with pytest.raises(UserError, match=words):
        TemperatureSchedule(start, milestones)


def test_every_problem_of_a_schedule_at_once() -> None:
    assert len(temperature_problems(0, {70: 0, 30: 1})) == 3
