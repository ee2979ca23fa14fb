"""The cost of the soft loss: against the textbook, against the number of teachers, against a soft cross-entropy."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from common import Suite, copy_bandwidth

from kd_asr_slr.losses.base import LossContext
from kd_asr_slr.losses.ctc_kd import CTCDistillation
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.outputs import CTCOutput, TeacherSignal
from kd_asr_slr.teachers.streaming_mean import StreamingMean

UTTERANCES, FRAMES, VOCABULARY, TEACHERS = 8, 60, 5000, 13
BLANK, TEMPERATURE, THRESHOLD = 0, 2.0, 0.95
LOGITS_BYTES = 4 * UTTERANCES * FRAMES * VOCABULARY


@dataclass
class Scene:
    """A student's logits, the teachers' and the valid frames; half of the frames are surely blank."""

    student: torch.Tensor
    teachers: list[torch.Tensor]
    lengths: torch.Tensor


def make_scene(teachers: int = TEACHERS, device: str = "cpu", blanks: bool = True) -> Scene:
    """The shapes of the bars; lengths between half and all of the frames."""
    generator = torch.Generator().manual_seed(0)
    size = (UTTERANCES, FRAMES, VOCABULARY)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    common = 3 * torch.randn(size, generator=generator)
    if blanks:
        common[:, ::2, BLANK] += 20
    logits = [(common + torch.randn(size, generator=generator)).to(device, dtype) for _ in range(teachers)]
    student = (3 * torch.randn(size, generator=generator)).to(device, dtype)
    lengths = torch.linspace(FRAMES // 2, FRAMES, UTTERANCES).long().to(device)
    return Scene(student, logits, lengths)


# --- the textbook formulation ---


def textbook_loss(
    student: torch.Tensor, teachers: list[torch.Tensor], lengths: torch.Tensor, probabilities: bool = True
) -> torch.Tensor:
    """Distributions of all teachers side by side, frames chosen one by one in Python: the mean over the batch."""
    if probabilities:  # the two stacks that a loss for both kinds of mean keeps
        torch.stack([F.softmax(logits.float(), dim=-1) for logits in teachers])  # [K, B, T, V]
    log_probs = torch.stack([F.log_softmax(logits.float(), dim=-1) for logits in teachers])  # [K, B, T, V]
    combined = F.log_softmax(log_probs.mean(0), dim=-1)  # [B, T, V]
    mask = torch.zeros(combined.shape[:2], device=student.device)
    for row in range(len(lengths)):
        for frame in range(int(lengths[row])):
            if combined[row, frame, BLANK].exp().item() < THRESHOLD:
                mask[row, frame] = 1
    soft_targets = F.softmax(combined / TEMPERATURE, dim=-1)
    log_student = F.log_softmax(student.float() / TEMPERATURE, dim=-1)
    divergence = F.kl_div(log_student, soft_targets, reduction="none").sum(-1) * TEMPERATURE**2  # [B, T]
    return ((divergence * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()


# --- the package ---


def combine(teachers: list[torch.Tensor], lengths: torch.Tensor | None = None, held: int | None = None) -> torch.Tensor:
    """The log-prob mean of live teachers, [B, T, V]; all at once, since all of them are here, where `held` is None."""
    mean = StreamingMean(len(teachers[0]), "log", len(teachers) if held is None else held)
    for logits in teachers:
        mean.add(logits, torch.zeros(len(logits)), lengths=lengths)
    return mean.log_probs()


@functools.cache
def make_loss(**options: object) -> CTCDistillation:
    """CTC-KD, built once as in a run."""
    return CTCDistillation(LossSettings(**options), LossContext(blank_id=BLANK))


def package_loss(
    student: torch.Tensor,
    target: torch.Tensor,
    lengths: torch.Tensor,
    temperature: float = TEMPERATURE,
    **options: object,
) -> torch.Tensor:
    """CTC-KD against a combined target, the mean over the batch."""
    loss = make_loss(**options)
    signal = TeacherSignal(target, lengths, "", 0.04, torch.ones(len(lengths), device=lengths.device))
    return loss(CTCOutput(logits=student, logit_lengths=lengths), signal, {}, temperature).mean()


def with_backward(student: torch.Tensor, loss: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], tuple]:
    """A call that gives the value and the gradient with respect to the logits."""

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        leaf = student.detach().requires_grad_()
        value = loss(leaf)
        value.backward()
        return value.detach(), leaf.grad

    return call


# --- what is measured: prepare functions ---


def prepare_textbook(teachers: int = TEACHERS, device: str = "cpu", probabilities: bool = True) -> Callable[[], tuple]:
    """Live teachers, the textbook way."""
    scene = make_scene(teachers, device)
    return with_backward(scene.student, lambda x: textbook_loss(x, scene.teachers, scene.lengths, probabilities))


def prepare_package(teachers: int = TEACHERS, device: str = "cpu", held: int | None = None) -> Callable[[], tuple]:
    """Live teachers, by the package."""
    scene = make_scene(teachers, device)
    options = {"frame_selection": "threshold", "blank_threshold": THRESHOLD}
    return with_backward(
        scene.student, lambda x: package_loss(x, combine(scene.teachers, scene.lengths, held), scene.lengths, **options)
    )


def prepare_target(teachers: int = 1, device: str = "cpu", temperature: float = TEMPERATURE) -> Callable[[], tuple]:
    """A target that was combined before, every frame of it."""
    scene = make_scene(teachers, device, blanks=False)
    target, lengths = combine(scene.teachers), torch.full_like(scene.lengths, FRAMES)
    return with_backward(scene.student, lambda x: package_loss(x, target, lengths, temperature))


def prepare_cross_entropy(teachers: int = 1, device: str = "cpu") -> Callable[[], tuple]:
    """torch's cross-entropy with soft targets on the same logits."""
    scene = make_scene(teachers, device, blanks=False)
    probabilities = combine(scene.teachers).exp().flatten(0, 1)
    return with_backward(scene.student, lambda x: F.cross_entropy(x.float().flatten(0, 1), probabilities))


def prepare_plain_target(teachers: int = 1, device: str = "cpu") -> Callable[[], tuple]:
    """The formula of the loss on a combined target, written with torch's functions."""
    scene = make_scene(teachers, device, blanks=False)
    target = combine(scene.teachers)

    def plain(student: torch.Tensor) -> torch.Tensor:
        soft_targets = F.softmax(target / TEMPERATURE, dim=-1)
        log_student = F.log_softmax(student.float() / TEMPERATURE, dim=-1)
        return F.kl_div(log_student, soft_targets, reduction="none").sum(-1).mean() * TEMPERATURE**2

    return with_backward(scene.student, plain)


def live_teachers(suite: Suite) -> None:
    """Bar 1: many live teachers."""
    device = str(suite.device)
    sides = {
        "textbook": prepare_textbook(device=device),
        "log-softmax only": prepare_textbook(device=device, probabilities=False),
        "package": prepare_package(device=device),
        "two kept back": prepare_package(device=device, held=2),
    }
    compare(suite, "multi-teacher loss", sides["package"], sides["textbook"])
    timing = suite.time(sides, repeats=7, warm_up=1, best_of=3)
    floor = (TEACHERS + 3) * sides["package"]()[1].nbytes / copy_bandwidth(suite.device)
    suite.at_least(
        f"multi-teacher loss (K {TEACHERS}): times faster than the textbook's",
        timing.ratio("textbook", "package"),
        20,
        timing,
        f"floor: {1000 * floor:.1f} ms to read the teachers and write the gradient once",
    )
    suite.show("the same against a textbook without the probabilities", timing.ratio("log-softmax only", "package"))
    suite.show("the same as live teachers come, at most two kept back", timing.ratio("textbook", "two kept back"))
    peak = suite.peak("kd_loss:prepare_package") / LOGITS_BYTES
    plain = suite.peak("kd_loss:prepare_textbook") / LOGITS_BYTES
    suite.at_most("multi-teacher loss: peak over the student's logits", peak, 3, note=f"textbook {plain:.1f}")


def floor_of_combined(suite: Suite) -> str:
    """What a loss on a combined target cannot do without: three tensors moved, two exponentials a number."""
    size = LOGITS_BYTES // 4
    moved = 3 * LOGITS_BYTES / copy_bandwidth(suite.device)
    block = torch.zeros(2**16 * max(torch.get_num_threads(), 1), device=suite.device)  # stays in the cache
    timing = suite.time({"exp": lambda: torch.exp(block, out=block.zero_())}, repeats=9, best_of=5)
    exponentials = 2 * size / (len(block) / timing.median("exp"))
    return f"floor: {1000 * moved:.1f} ms to move both sides and the gradient, {1000 * exponentials:.1f} ms of exp"


def combined_target(suite: Suite) -> None:
    """Bars 1 and 2: a target that stands for all teachers."""
    device = str(suite.device)
    sides = {f"K {count}": prepare_target(count, device) for count in (1, TEACHERS)}
    timing = suite.time(sides, repeats=2 * suite.repeats, best_of=5)
    suite.at_most(f"combined target: K {TEACHERS} over K 1", timing.ratio(f"K {TEACHERS}", "K 1"), 1.05, timing)
    sides = {
        "cross-entropy": prepare_cross_entropy(device=device),
        "plain": prepare_plain_target(device=device),
        "package": prepare_target(device=device),
        "package at T 1": prepare_target(device=device, temperature=1.0),
    }
    compare(suite, "loss on a combined target", sides["package"], sides["plain"])
    timing = suite.time(sides, repeats=suite.repeats, best_of=5)
    ratio = timing.ratio("package", "cross-entropy")
    question = f"combined target: loss at T {TEMPERATURE:g} over a soft cross-entropy"
    floor = floor_of_combined(suite)
    suite.at_most(question, ratio, 1.5, timing, floor)
    ratio = timing.ratio("package at T 1", "cross-entropy")
    suite.at_most("combined target: loss at T 1 over a soft cross-entropy", ratio, 1.5, note=floor)
    suite.show("the same formula in plain torch over a soft cross-entropy", timing.ratio("plain", "cross-entropy"))
    peak, plain = (suite.peak(f"kd_loss:{name}") / LOGITS_BYTES for name in ("prepare_target", "prepare_plain_target"))
    suite.at_most("combined target: peak over the logits", peak, 1.5, note=f"plain torch {plain:.1f}")


def compare(suite: Suite, what: str, ours: Callable[[], tuple], reference: Callable[[], tuple]) -> None:
    """Value to 1e-5 and gradient to 1e-4; on a GPU within what bfloat16 gradients allow."""
    (value, gradient), (expected, expected_gradient) = ours(), reference()
    suite.agree(f"{what}: value", value, expected, relative=1e-5)
    tolerance = 1e-4 if suite.device.type == "cpu" else 2e-2
    suite.agree(f"{what}: gradient", gradient, expected_gradient, relative=tolerance)


def main() -> int:
    """The exit status: 1 where two sides disagree."""
    suite = Suite("kd_loss", __doc__.splitlines()[0])
    live_teachers(suite)
    combined_target(suite)
    if importlib.util.find_spec("speechbrain") is not None:
        speechbrain_loss(suite)
    return suite.finish()


def speechbrain_loss(suite: Suite) -> None:
    """SpeechBrain's KL on a combined target, where it is installed."""
    from speechbrain.nnet.losses import kldiv_loss

    device = str(suite.device)
    scene = make_scene(1, device, blanks=False)
    soft_targets = F.softmax(combine(scene.teachers) / TEMPERATURE, dim=-1)

    def speechbrain(student: torch.Tensor) -> torch.Tensor:
        log_student = F.log_softmax(student.float() / TEMPERATURE, dim=-1)
        return kldiv_loss(log_student, soft_targets, reduction="none").mean()

    sides = {"speechbrain": with_backward(scene.student, speechbrain), "package": prepare_target(device=device)}
    timing = suite.time(sides, best_of=5)
    suite.show("combined target: SpeechBrain's kldiv_loss over ours", timing.ratio("speechbrain", "package"), timing)


if __name__ == "__main__":
    sys.exit(main())
