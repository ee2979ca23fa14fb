"""Two masked views of every utterance, as one batch of twice the rows for the student.

Row b is the first view of utterance b, row B + b the second. Teachers are asked once, before: what they say belongs to
both views. A loss is a mean over the views, so that an utterance counts once, however often the student hears it.
"""

from __future__ import annotations

from typing import Any

import torch

from kd_asr_slr.outputs import CTCOutput, TeacherSignal
from kd_asr_slr.processing.collator import SECOND_VIEW
from kd_asr_slr.teachers.batches import select_rows


def views_of(batch: dict[str, Any]) -> int:
    """How many views of each utterance a collated batch has."""
    return 2 if SECOND_VIEW in batch else 1


def both_views(
    batch: dict[str, Any], signal: TeacherSignal | None, input_name: str
) -> tuple[dict[str, Any], TeacherSignal | None]:
    """The rows the student trains on, and the teachers' signal for each of them.

    Args:
        batch: collated, of B utterances.
        signal: of these utterances.
        input_name: the student's.

    Returns:
        Both as they are, where there is one view; else with 2B rows, the second views after the first. The teachers'
        views, which have been used, are left out.
    """
    if views_of(batch) == 1:
        return batch, signal
    own = {name: value for name, value in batch.items() if name not in (SECOND_VIEW, "views", input_name)}
    rows = torch.arange(len(batch["ids"])).repeat(2)
    inputs = torch.cat([batch[input_name], batch[SECOND_VIEW]])  # [2B, T, F]
    return {**select_rows(own, rows), input_name: inputs}, None if signal is None else repeated(signal)


def repeated(signal: TeacherSignal) -> TeacherSignal:
    """A signal for two views of each of its utterances."""
    return signal.map(lambda value: torch.cat([value, value]))


def add_other_view(output: CTCOutput) -> None:
    """Give an output of 2B rows, in place, what the student says of each row's other view; no gradient flows there."""
    output.other_view_logits = output.logits.detach().roll(len(output.logits) // 2, 0)  # [2B, T, V]
