"""What a divergence compares, row by row, and what comes out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from kd_asr_slr.blocks import rows_at_once
from kd_asr_slr.kernels.dispatch import has_class, within
from kd_asr_slr.losses.row_sources import RowsBetween, RowSource


@dataclass(frozen=True)
class Sides:
    """What is compared with what.

    Attributes:
        student: [N, V] rows of M, raw, each once.
        teacher: [N, V] rows, log-probabilities at temperature 1.
        temperature: T > 0.
        drop_class: class left out on both sides; None keeps all.
    """

    student: RowSource
    teacher: RowSource
    temperature: float
    drop_class: int | None

    @property
    def count(self) -> int:
        """N."""
        return len(self.student)

    @property
    def dtype(self) -> torch.dtype:
        """At least float32, whatever the sides are in."""
        both = torch.promote_types(self.student.scores.dtype, self.teacher.scores.dtype)
        return torch.promote_types(both, torch.float32)

    @property
    def compact(self) -> bool:
        """Whether the gradient is [N, V] and not [M, V]: where that is at most half of it."""
        return self.student.places is not None and 2 * self.count <= len(self.student.scores)

    @property
    def scattered(self) -> bool:
        """Whether a block of rows is not a block of the gradient."""
        return self.student.places is not None and not self.compact

    @property
    def within(self) -> bool:
        """Whether rows and class exist. Where they do not it is left to torch to say so, or to count from the end."""
        student, teacher = self.student, self.teacher
        later = [teacher.later] if isinstance(teacher, RowsBetween) else []
        theirs = [places for places in (teacher.places, *later) if places is not None]
        return (
            within(len(student.scores), *([] if student.places is None else [student.places]))
            and within(len(teacher.scores), *theirs)
            and has_class(self.drop_class, student.scores.shape[1])
        )

    def blocks(self, buffers: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """Slices of the N rows, and room for that many blocks of them: [buffers, R, V]."""
        scores = self.student.scores
        step = max(1, min(rows_at_once(scores, buffers), self.count))
        room = scores.new_empty(buffers, step, scores.shape[1], dtype=self.dtype)
        for start in range(0, self.count, step):
            rows = slice(start, min(start + step, self.count))
            yield rows, room[:, : rows.stop - rows.start]


@dataclass(frozen=True)
class Divergence:
    """What came out.

    Attributes:
        values: [N], KL(teacher_T || student_T) * T^2.
        gradient: T * (student_T - teacher_T), each row divided by its `scale`: [M, V] with its rows in their places,
            so that no second one is needed to spread it out, or [N, V] (see `Sides.compact`); for `spread` only. None
            where it was not asked for.
        scale: [N].
    """

    values: torch.Tensor
    gradient: torch.Tensor | None
    scale: torch.Tensor
