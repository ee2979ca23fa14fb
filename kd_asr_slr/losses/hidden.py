"""Matching of hidden states, with linear projections where the widths differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from kd_asr_slr.errors import raise_all
from kd_asr_slr.losses.base import Batch, Loss, LossContext
from kd_asr_slr.losses.masking import Rows, at_least_float32, mean_per_utterance, speaking_mask
from kd_asr_slr.losses.rates import RateMatcher
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.outputs import CTCOutput, TeacherSignal, given


class HiddenProjections(nn.Module):
    """From the student's width to the teacher's, one map per matched layer; the identity where they are equal.

    It is trained with the student and thrown away with the teachers.

    Args:
        widths: student layer -> (student width, teacher width).
    """

    def __init__(self, widths: Mapping[int, tuple[int, int]]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {
                str(layer): nn.Identity() if student == teacher else nn.Linear(student, teacher)
                for layer, (student, teacher) in widths.items()
            }
        )

    def forward(self, hidden: torch.Tensor, layer: int) -> torch.Tensor:
        """Project hidden states [..., D of the student] of a student layer: [..., D of the teacher]."""
        projection = self.layers[str(layer)]
        if isinstance(projection, nn.Linear):
            hidden = hidden.to(projection.weight.dtype)
        return projection(hidden)


def build_projections(
    student_widths: Sequence[int], teacher_widths: Sequence[int], layer_map: Mapping[int, int]
) -> HiddenProjections:
    """The projections for a layer map.

    Args:
        student_widths: width of each entry of the student's `hidden_states`.
        teacher_widths: the same of the teacher.
        layer_map: student layer -> teacher layer, as indices into the two.

    Raises:
        UserError: if the map names a layer that one of the two does not have.

    Example:
        >>> build_projections([256, 256], [512, 512, 256], {0: 1, 1: 2})
        HiddenProjections(
          (layers): ModuleDict(
            (0): Linear(in_features=256, out_features=512, bias=True)
            (1): Identity()
          )
        )
    """
    problems = [
        f"layer_map {student}: {teacher} names layer {layer} of the {side}, which has layers 0 to {len(widths) - 1}"
        for student, teacher in layer_map.items()
        for side, layer, widths in (("student", student, student_widths), ("teacher", teacher, teacher_widths))
        if not 0 <= layer < len(widths)
    ]
    raise_all(problems, "the layer map")
    return HiddenProjections(
        {student: (student_widths[student], teacher_widths[teacher]) for student, teacher in layer_map.items()}
    )


def normalised_mse(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of rows [N, D] after layer normalisation without parameters: [N]."""
    width = teacher.shape[-1:]
    return (F.layer_norm(student, width) - F.layer_norm(teacher, width)).square().mean(-1)


def cosine_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """1 - cosine of rows [N, D]: [N]."""
    return 1 - F.cosine_similarity(student, teacher, dim=-1)


HIDDEN_DISTANCES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mse": normalised_mse,
    "cosine": cosine_distance,
}


class HiddenStateMatching(Loss):
    """Distance between projected student states and teacher states, over a layer map.

    loss_b = weight_b / (|map| * T_b) * sum over (s -> t) in map, over frames, of d(project_s(student[s]), teacher[t])

    with d the mean squared difference of layer-normalised states ("mse") or 1 - cosine ("cosine"). Both ignore the
    scale of the states, which differs between networks.

    Raises:
        ValueError: on call, if a layer is missing or widths differ and no projections were given.
        UserError: on call, where teacher and student lengths differ and `rate_matching` cannot match them.

    Source:
        Romero et al. 2015, "FitNets" (1412.6550), equation 3, with a linear regressor; normalised states as in Sun et
        al. 2019, "Patient Knowledge Distillation" (1908.09355), equation 7; cosine as in Sanh et al. 2019,
        "DistilBERT" (1910.01108), section 3.

    Example::

        settings = LossSettings(gamma=0.1, feature_losses=("hidden",), layer_map={1: 3})
        projections = build_projections([64, 64], [128] * 4, settings.layer_map)
        loss = HiddenStateMatching(settings, LossContext(blank_id=0, projections=projections))
        loss(output, signal, batch)  # [B]
    """

    name = "hidden"
    kind = "feature"
    needs = frozenset({"hidden_states"})

    def __init__(self, settings: LossSettings, context: LossContext) -> None:
        super().__init__(settings, context)
        self.rates = RateMatcher(settings, context)
        self.distance = HIDDEN_DISTANCES[settings.hidden_distance]

    @property
    def teacher_layers(self) -> tuple[int, ...]:
        """The teacher layers a signal must carry."""
        return tuple(sorted(set(self.settings.layer_map.values())))

    def __call__(
        self, output: CTCOutput, signal: TeacherSignal | None, batch: Batch, temperature: float = 1.0
    ) -> torch.Tensor:
        signal = given(signal, "signal")
        lengths = self.rates.lengths(signal, output.logit_lengths, batch)
        mask = speaking_mask(lengths, signal.weight, output.logits.shape[1])  # [B, T]
        rows = mask.nonzero(as_tuple=True)
        pairs = self.settings.layer_map.items()
        distances = [self._distance(output, signal, student, teacher, rows, mask) for student, teacher in pairs]
        values = torch.stack(distances).mean(0)  # [N]
        return mean_per_utterance(values, rows, mask) * signal.weight.to(values.dtype)

    def _distance(
        self,
        output: CTCOutput,
        signal: TeacherSignal,
        student_layer: int,
        teacher_layer: int,
        rows: Rows,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        """The distance of one pair of layers at the selected rows, [N]."""
        hidden = self._project(_layer(output.hidden_states, student_layer, "student")[rows], student_layer)
        states = _layer(signal.hidden_states, teacher_layer, "teacher").detach()
        target = self.rates.frames(states, signal, mask.shape[1])[rows]  # [N, D]
        if hidden.shape != target.shape:
            raise ValueError(
                f"student layer {student_layer} has width {hidden.shape[-1]}, teacher layer {teacher_layer} "
                f"{target.shape[-1]}: give LossContext.projections from build_projections"
            )
        return self.distance(at_least_float32(hidden), at_least_float32(target))

    def _project(self, hidden: torch.Tensor, layer: int) -> torch.Tensor:
        projections = self.context.projections
        return hidden if projections is None else projections(hidden, layer)


def _layer(states: Sequence[torch.Tensor] | Mapping[int, torch.Tensor] | None, layer: int, side: str) -> torch.Tensor:
    known = states if isinstance(states, Mapping) else dict(enumerate(states or ()))
    if layer not in known:
        raise ValueError(f"the {side} gives hidden states {sorted(known)}, layer_map names {layer}")
    return known[layer]
