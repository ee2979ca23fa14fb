"""The cost of matching frames of other rates: each way against the loss on frames that fit."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from common import Suite
from kd_loss import with_backward

from kd_asr_slr.losses.base import LossContext
from kd_asr_slr.losses.ctc_kd import CTCDistillation
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.losses.shifts import best_shifts
from kd_asr_slr.outputs import CTCOutput, TeacherSignal

UTTERANCES, FRAMES, LABELS, BLANK = 8, 60, 8, 0
TEMPERATURE, WINDOW, DELAY, SECONDS = 2.0, 5, 3, 0.04
# Teacher frames a student frame, by the way they are matched.
STRETCHES = {"equal": 1.0, "resample": 0.5, "resample 3:2": 2 / 3, "shift": 1.0, "tokens": 0.5}


def make_scene(
    matching: str, vocabulary: int, device: str = "cpu"
) -> tuple[CTCDistillation, torch.Tensor, TeacherSignal, dict[str, torch.Tensor]]:
    """A student whose labels are spikes between blanks, and a teacher at its own rate; "shift": the student is late."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(1, vocabulary, (UTTERANCES, LABELS), generator=generator)
    teacher_frames = round(FRAMES * STRETCHES[matching])
    delay = DELAY if matching == "shift" else 0
    sides = []
    for frames, late in ((FRAMES, delay), (teacher_frames, 0)):
        logits = torch.randn(UTTERANCES, frames, vocabulary, generator=generator)
        logits[..., BLANK] += 9
        places = ((torch.arange(LABELS) + 0.5) * (frames - 2 * DELAY) / LABELS).long() + late  # [U]
        logits[torch.arange(UTTERANCES)[:, None], places, labels] += 18
        sides.append(logits.to(device, torch.float32 if device == "cpu" else torch.bfloat16))
    settings = LossSettings(rate_matching=matching.split()[0], match_window=WINDOW)
    loss = CTCDistillation(settings, LossContext(BLANK, frame_seconds=SECONDS))
    lengths = torch.full((UTTERANCES,), teacher_frames, device=device)
    log_probs = sides[1].float().log_softmax(-1)
    seconds = SECONDS * FRAMES / teacher_frames
    signal = TeacherSignal(log_probs, lengths, "", seconds, torch.ones(UTTERANCES, device=device))
    return loss, sides[0], signal, {"labels": labels.to(device)}


def prepare(matching: str, vocabulary: int, device: str = "cpu") -> Callable[[], tuple]:
    """The loss and its gradient."""
    loss, student, signal, batch = make_scene(matching, vocabulary, device)
    lengths = torch.full((UTTERANCES,), FRAMES, device=device)
    return with_backward(
        student, lambda x: loss(CTCOutput(logits=x, logit_lengths=lengths), signal, batch, TEMPERATURE).mean()
    )


def prepare_every_shift(vocabulary: int, device: str = "cpu") -> Callable[[], torch.Tensor]:
    """The plain way to the best shift of each utterance: the aligned loss of every shift; [B]."""
    _, student, signal, _ = make_scene("shift", vocabulary, device)

    def shifts() -> torch.Tensor:
        costs = []
        for shift in range(-WINDOW, WINDOW + 1):
            first, last = max(0, shift), FRAMES + min(0, shift)
            ours = (student[:, first:last].float() / TEMPERATURE).log_softmax(-1)
            theirs = (signal.log_probs[:, first - shift : last - shift] / TEMPERATURE).log_softmax(-1)
            costs.append((theirs.exp() * (theirs - ours)).sum(-1).mean(1))  # [B]
        return torch.stack(costs).argmin(0) - WINDOW

    return shifts


def prepare_search(vocabulary: int, device: str = "cpu") -> Callable[[], torch.Tensor]:
    """The package's way."""
    _, student, signal, _ = make_scene("shift", vocabulary, device)
    lengths = torch.full((UTTERANCES,), FRAMES, device=device)
    counted = torch.ones(UTTERANCES, FRAMES, dtype=torch.bool, device=device)
    return lambda: best_shifts(student, signal.log_probs, counted, lengths, WINDOW, TEMPERATURE)


def searching(suite: Suite, vocabulary: int, device: str, aligned: Callable[[], tuple]) -> float:
    """What the search for the shifts costs, in aligned losses; it finds what the plain way finds."""
    sides = {"every shift": prepare_every_shift(vocabulary, device), "search": prepare_search(vocabulary, device)}
    suite.agree_exactly("shifts", sides["search"]().tolist(), sides["every shift"]().tolist())
    suite.agree_exactly("the delay", sides["search"]().tolist(), [DELAY] * UTTERANCES)
    timing = suite.time(sides | {"equal": aligned}, best_of=3)
    suite.show(f"V {vocabulary}: every shift over the search", timing.ratio("every shift", "search"), timing)
    ratio = timing.ratio("search", "equal")
    suite.show(f"V {vocabulary}: the search over the aligned loss", ratio)
    return ratio


def main() -> int:
    """The exit status: 1 where two sides disagree."""
    suite = Suite("rates", __doc__.splitlines()[0])
    device = str(suite.device)
    for vocabulary in (1229, 5000):
        sides = {matching: prepare(matching, vocabulary, device) for matching in STRETCHES}
        search = searching(suite, vocabulary, device, sides["equal"])
        timing = suite.time(sides, best_of=5)
        for matching in list(STRETCHES)[1:]:
            note = f"{1 + search:.2f}: the search and then the aligned loss" if matching == "shift" else ""
            ratio = timing.ratio(matching, "equal")
            suite.at_most(f"V {vocabulary}: {matching} over the aligned loss", ratio, 2, timing, note)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
