"""What a form of soft targets takes on disk and loses of the gradient, said before a whole corpus is cached."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kd_asr_slr.errors import UserError
from kd_asr_slr.losses.base import LossContext
from kd_asr_slr.losses.ctc_kd import CTCDistillation
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.losses.table import LOSSES, loss_weights
from kd_asr_slr.outputs import CTCOutput, SparseTargets, TeacherSignal
from kd_asr_slr.reporting.tables import markdown_table
from kd_asr_slr.teachers.batches import batch_to
from kd_asr_slr.teachers.cache import targets_of
from kd_asr_slr.teachers.formats import TargetFormat
from kd_asr_slr.teachers.manifest import StoreManifest
from kd_asr_slr.teachers.pool import TeacherPool
from kd_asr_slr.teachers.shards import StoredTarget
from kd_asr_slr.training.store_size import Probe, readable

logger = logging.getLogger(__name__)

PROBED = 16  # utterances, spread evenly over the corpus
FAITHFUL = 0.99  # cosine of the gradients below which the user is warned
NOISE = 1.0  # standard deviation, in nats, by which a trained student's logits differ from its teacher's


@dataclass(frozen=True)
class FormLoss:
    """What a form loses at one temperature.

    Attributes:
        temperature: of the loss.
        new: cosine between the gradients of CTC-KD on what is stored and on what the teachers said, for a student that
            knows nothing (uniform); NaN where no frame is matched.
        trained: the same for one that says what the teachers say, up to noise.
        unwritten: mean probability, softened, of the classes that are not written down one by one.
    """

    temperature: float
    new: float
    trained: float
    unwritten: float


def refuse_dense_losses(form: TargetFormat, settings: LossSettings, blank_id: int, frame_seconds: float) -> None:
    """Refuse a form that a loss of the run cannot use, before anything is cached.

    Raises:
        UserError: naming the losses.
    """
    context = LossContext(blank_id, frame_seconds=frame_seconds)
    taught = [name for name in loss_weights(settings) if LOSSES[name].kind != "hard"]
    names = [name for name in taught if "dense_log_probs" in LOSSES[name](settings, context).needs]
    if form.sparse and names:
        raise UserError(
            f"cache_format '{form.name}' holds some classes of each frame, and with rate_matching "
            f"'{settings.rate_matching}' {', '.join(names)} needs all of them",
            expected="a form that holds every class",
            fix="set --cache_format dense or quantised, or --rate_matching equal",
        )


def probe(pool: TeacherPool, items: Any, collate: Any, layers: Sequence[int] = ()) -> Probe:
    """What the teachers say of a few utterances, spread evenly over the corpus."""
    count = min(PROBED, len(items))
    chosen = [number * len(items) // count for number in range(count)]
    found: dict[str, StoredTarget] = {}
    for index in chosen:  # one at a time: no padding, and little memory
        batch = collate([items[index]])
        found |= dict(zip(batch["ids"], targets_of(pool.signal(batch_to(batch, pool.device), layers)), strict=True))
    return Probe(found, [items.length_of(index) for index in chosen], sum(map(items.length_of, range(len(items)))))


def form_losses(
    form: TargetFormat,
    said: Mapping[str, Any],
    temperatures: Sequence[float],
    settings: LossSettings,
    blank_id: int,
) -> list[FormLoss]:
    """What a form loses on some distributions, at each temperature.

    Args:
        form: that they would be stored in.
        said: the teachers' log-probabilities by utterance, [T, V] each.
        temperatures: of the run.
        settings: of the run: which frames CTC-KD matches.
        blank_id: index of the blank.
    """
    loss = CTCDistillation(dataclasses.replace(settings, rate_matching="equal"), LossContext(blank_id))
    return [_lost_at(temperature, form, said, loss) for temperature in temperatures]


def _lost_at(temperature: float, form: TargetFormat, said: Mapping[str, Any], loss: CTCDistillation) -> FormLoss:
    products = torch.zeros(2, 3, dtype=torch.float64)  # of a new and a trained student: u.v, u.u, v.v
    unwritten, frames = 0.0, 0
    for number, (name, log_probs) in enumerate(said.items()):
        stored = form.decode(form.encode(log_probs, name), log_probs.shape[1])
        noise = torch.randn(log_probs.shape, generator=torch.Generator().manual_seed(number))
        for row, logits in enumerate((torch.zeros_like(log_probs), log_probs + NOISE * noise)):
            u, v = (_gradient(logits, target, temperature, loss) for target in (stored, log_probs))
            products[row] += torch.stack([(u * v).sum(), (u * u).sum(), (v * v).sum()])
        if isinstance(stored, SparseTargets):
            softened = (log_probs / temperature).softmax(-1).gather(1, stored.ids)
            unwritten += float((1 - (softened * stored.written).sum(1)).sum())
        frames += len(log_probs)
    new, trained = (products[:, 0] / (products[:, 1] * products[:, 2]).sqrt()).tolist()
    return FormLoss(temperature, new, trained, unwritten / max(frames, 1))


def _gradient(
    logits: torch.Tensor, target: torch.Tensor | SparseTargets, temperature: float, loss: CTCDistillation
) -> torch.Tensor:
    """Of CTC-KD on one utterance with respect to its logits, [T, V], float64."""
    sparse = target.map(lambda part: part[None]) if isinstance(target, SparseTargets) else None
    lengths, leaf = torch.tensor([len(logits)]), logits[None].clone().requires_grad_()
    dense: Any = target[None] if isinstance(target, torch.Tensor) else None
    signal = TeacherSignal(dense, lengths, "", 1.0, torch.ones(1), sparse=sparse)
    value = loss(CTCOutput(logits=leaf, logit_lengths=lengths), signal, {}, temperature)
    return torch.autograd.grad(value.sum(), leaf)[0][0].double()


def forecast(manifest: StoreManifest, size: int, dense: float, losses: Sequence[FormLoss]) -> str:
    """The sentence and the table about a store that is to be written.

    Args:
        manifest: of the store.
        size: its bytes, estimated.
        dense: bytes of the float32 distributions of all its teachers, estimated.
        losses: what its form loses.
    """
    lines = [[_number(value) for value in dataclasses.astuple(item)] for item in losses]
    head = ["temperature", "gradient of a new student", "of a trained one", "mass not written down"]
    return (
        f"the soft targets of {manifest.count:,} utterances will take about {readable(size)} as "
        f"'{manifest.format['name']}'; all that its teachers ({len(manifest.teachers)}) say is {readable(dense)} in "
        f"float32. What the form keeps, as the cosine with the gradient of the dense targets:\n"
        f"{markdown_table(head, lines, [True] * len(head))}"
    )


def warn_of_loss(form: TargetFormat, losses: Sequence[FormLoss]) -> None:
    """Warn where the gradient of what is stored points elsewhere than that of what the teachers said."""
    poor = [item for item in losses if min(item.new, item.trained) < FAITHFUL]
    if poor:
        named = ", ".join(f"{item.temperature:g} ({min(item.new, item.trained):.3f})" for item in poor)
        logger.warning(
            "WARNING: '%s' keeps less than %g of the gradient's direction at temperature %s; --cache_format quantised "
            "or dense keeps more, and so does a lower temperature",
            *(form.name, FAITHFUL, named),
        )


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.5g}"
