"""What a user may choose about the losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

RATE_MATCHINGS = ("equal", "resample", "shift", "tokens")
# Weights of losses on teacher distributions that stand beside alpha.
OWN_SOFT_WEIGHTS = ("blank_mass_weight", "pseudo_label_weight", "sequence_kd_weight")


@dataclass
class LossSettings:
    """Which losses a run uses, how they are weighted, and their options.

    total = alpha * soft + beta * hard + gamma * feature + each loss with a weight of its own * that weight
    (`auxiliary_ctc`, `auxiliary_kd`, `consistency`, `blank_mass`, `pseudo_labels`, `sequence_kd`), each a mean over the
    batch of one value per utterance. Where a kind has losses on the CTC output and on the decoder, the CTC side gets
    `ctc_share` of the kind's weight and the decoder the rest; losses on the same side share equally.

    Args:
        alpha: weight of the soft losses (teacher distributions), >= 0.
        beta: weight of the hard losses (labels), >= 0; 0 makes a pure distillation run.
        gamma: weight of the feature losses (hidden states), >= 0.
        soft_losses: names of kind "soft" in `table.LOSSES`.
        hard_losses: names of kind "hard".
        feature_losses: names of kind "feature".
        ctc_share: 0 to 1.
        frame_selection: "all", "threshold" or "symmetric"; frames that CTC-KD matches.
        blank_threshold: "threshold" drops frames whose combined blank probability is at least this; above 0, up to 1.
        neighbours: "symmetric" keeps this many frames on both sides of a non-blank frame, >= 0.
        drop_blank_class: leave the blank out of CTC-KD and renormalise over the labels.
        rate_matching: "equal" (teacher and student must have as many frames), "resample" (by the known ratio), "shift"
            (resampled, then the best shift of each utterance) or "tokens" (one distribution per label).
        match_window: "shift" tries this many frames of the student to both sides, >= 0.
        layer_map: student layer -> teacher layer, indices into `hidden_states`.
        hidden_distance: "mse" (on layer-normalised states) or "cosine".
        label_smoothing: of the decoder's cross-entropy, 0 to below 1.
        ctc_label_smoothing: of the CTC loss on labels, 0 to below 1.
        auxiliary_ctc_weight: of the CTC loss of the student's auxiliary classifier, >= 0; 0 leaves it out.
        auxiliary_kd_weight: of the self-distillation from the student's output to that classifier, >= 0.
        auxiliary_temperature: T of that self-distillation, > 0.
        consistency_weight: of the consistency between two masked views of each utterance, >= 0; 0: one view.
        blank_mass_weight: of the match of teachers' and student's blank probability, >= 0; 0 leaves it out.
        pseudo_label_weight: of the cross-entropy on the classes that the teachers are sure of, >= 0.
        pseudo_label_confidence: probability of the combined teacher's best class from which on it is one of them;
            above 0, up to 1.
        sequence_kd_weight: of the CTC loss on the label sequence that the teachers hear, >= 0.
        sequence_confidence: geometric mean over the frames of the teachers' best probability that an utterance must
            have for it, 0 to 1; 0 takes every utterance.

    Example:
        >>> LossSettings(alpha=-1, neighbours=1.5).problems()
        ['alpha is -1; expected a number of at least 0', 'neighbours is 1.5; expected a whole number of at least 0']
    """

    alpha: float = 0.7
    beta: float = 0.3
    gamma: float = 0.0
    soft_losses: Sequence[str] = ("ctc_kd",)
    hard_losses: Sequence[str] = ("ctc",)
    feature_losses: Sequence[str] = ()
    ctc_share: float = 0.5
    frame_selection: str = "all"
    blank_threshold: float = 0.95
    neighbours: int = 1
    drop_blank_class: bool = False
    rate_matching: str = "equal"
    match_window: int = 5
    layer_map: Mapping[int, int] = field(default_factory=dict)
    hidden_distance: str = "mse"
    label_smoothing: float = 0.0
    ctc_label_smoothing: float = 0.0
    auxiliary_ctc_weight: float = 0.0
    auxiliary_kd_weight: float = 0.0
    auxiliary_temperature: float = 8.0
    consistency_weight: float = 0.0
    blank_mass_weight: float = 0.0
    pseudo_label_weight: float = 0.0
    pseudo_label_confidence: float = 0.9
    sequence_kd_weight: float = 0.0
    sequence_confidence: float = 0.0

    def __post_init__(self) -> None:
        # YAML and JSON give "1": 3 for a layer map, and a single name for a list of one.
        self.layer_map = {_as_integer(key): _as_integer(value) for key, value in self.layer_map.items()}
        for kind in ("soft_losses", "hard_losses", "feature_losses"):
            names = getattr(self, kind)
            setattr(self, kind, (names,) if isinstance(names, str) else tuple(names))

    @property
    def is_pure_kd(self) -> bool:
        """Whether the run learns from teachers only, without a label loss."""
        labels = (self.beta > 0 and self.hard_losses) or self.auxiliary_ctc_weight > 0
        return self.uses_teachers and not labels

    @property
    def uses_teachers(self) -> bool:
        """Whether any term needs a teacher."""
        own = any(getattr(self, name) > 0 for name in OWN_SOFT_WEIGHTS)
        return bool(own or (self.alpha > 0 and self.soft_losses) or (self.gamma > 0 and self.feature_losses))

    def names_and_weights(self) -> dict[str, tuple[Sequence[str], float]]:
        """Kind -> (names of its losses, its weight)."""
        return {
            "soft": (self.soft_losses, self.alpha),
            "hard": (self.hard_losses, self.beta),
            "feature": (self.feature_losses, self.gamma),
        }

    def problems(self) -> list[str]:
        """Every value that cannot be used, one sentence a problem; empty where all is well."""
        return [*self._number_problems(), *self._choice_problems(), *self._name_problems(), *self._weight_problems()]

    def _number_problems(self) -> list[str]:
        own = ("auxiliary_ctc_weight", "auxiliary_kd_weight", "consistency_weight", *OWN_SOFT_WEIGHTS)
        weights = ("alpha", "beta", "gamma", *own)
        checks = {name: (_weight(getattr(self, name)), "a number of at least 0") for name in weights} | {
            **{
                name: (_number(getattr(self, name)) and 0 <= getattr(self, name) <= 1, "a number from 0 to 1")
                for name in ("ctc_share", "sequence_confidence")
            },
            **{
                name: (_in_unit(getattr(self, name)), "a probability above 0, up to 1")
                for name in ("blank_threshold", "pseudo_label_confidence")
            },
            **{
                name: (_index(getattr(self, name)), "a whole number of at least 0")
                for name in ("neighbours", "match_window")
            },
            **{
                name: (_number(getattr(self, name)) and 0 <= getattr(self, name) < 1, "a number of at least 0, below 1")
                for name in ("label_smoothing", "ctc_label_smoothing")
            },
            "auxiliary_temperature": (
                _weight(self.auxiliary_temperature) and self.auxiliary_temperature > 0,
                "a number above 0",
            ),
            "layer_map": (
                all(_index(key) and _index(value) for key, value in self.layer_map.items()),
                "student layer: teacher layer, whole numbers of at least 0",
            ),
        }
        return [
            f"{name} is {getattr(self, name)!r}; expected {expected}"
            for name, (fine, expected) in checks.items()
            if not fine
        ]

    def _choice_problems(self) -> list[str]:
        from kd_asr_slr.losses.frame_selection import FRAME_SELECTIONS
        from kd_asr_slr.losses.hidden import HIDDEN_DISTANCES

        choices: dict[str, Sequence[object]] = {
            "frame_selection": list(FRAME_SELECTIONS),
            "rate_matching": list(RATE_MATCHINGS),
            "hidden_distance": list(HIDDEN_DISTANCES),
            "drop_blank_class": [True, False],
        }
        return [
            f"{name} is {getattr(self, name)!r}; expected one of {', '.join(map(str, known))}"
            for name, known in choices.items()
            if getattr(self, name) not in known
        ]

    def _name_problems(self) -> list[str]:
        from kd_asr_slr.losses.table import LOSSES

        problems = []
        for kind, (names, _) in self.names_and_weights().items():
            known = [name for name, loss in LOSSES.items() if loss.kind == kind and loss.weight_option is None]
            for name in dict.fromkeys(names):
                if name in known:
                    continue
                own = getattr(LOSSES.get(name), "weight_option", None)
                wanted = f"{own} instead, it has a weight of its own" if own else f"one of {', '.join(known)}"
                problems.append(f"{kind}_losses names {name!r}; expected {wanted}")
            if len(set(names)) < len(names):
                problems.append(f"{kind}_losses is {list(names)}; expected each name once")
        return problems

    def _weight_problems(self) -> list[str]:
        weights = {"alpha": "soft", "beta": "hard", "gamma": "feature"}
        positive = [name for name in weights if _number(getattr(self, name)) and getattr(self, name) > 0]
        problems = [
            f"{name} is {getattr(self, name)!r} and {weights[name]}_losses is empty; "
            f"expected a loss for the weight, or {name}: 0"
            for name in positive
            if not getattr(self, f"{weights[name]}_losses")
        ]
        own = any(_number(getattr(self, name)) and getattr(self, name) > 0 for name in OWN_SOFT_WEIGHTS)
        if not positive and not own:
            problems.append("none of alpha, beta and gamma is above 0; expected at least one")
        if "gamma" in positive and "hidden" in self.feature_losses and not self.layer_map:
            problems.append("layer_map is empty; the feature loss 'hidden' expects student layer: teacher layer")
        if "gamma" in positive and "hidden" in self.feature_losses and self.rate_matching in ("shift", "tokens"):
            problems.append(
                f"rate_matching is '{self.rate_matching}'; the feature loss 'hidden' compares frames and expects equal "
                "or resample"
            )
        return problems


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _weight(value: object) -> bool:
    return _number(value) and 0 <= value < math.inf  # type: ignore[operator]


def _index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _in_unit(value: object) -> bool:
    return _number(value) and 0 < value <= 1  # type: ignore[operator]


def _as_integer(value: Any) -> Any:
    """The whole number that a text spells; anything else as it is, for `problems` to name."""
    return int(value) if isinstance(value, str) and value.strip().lstrip("-").isdigit() else value
