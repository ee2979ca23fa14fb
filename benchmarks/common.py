"""What every benchmark shares: fair timing, peak memory, the table and the JSON file.

A benchmark is one script in this folder that answers one question:

    from common import Suite

    def plain(size: int):            # "prepare" functions return what is measured, a call without arguments
        x = torch.randn(size)
        return lambda: x.exp().sum()

    def main() -> int:
        suite = Suite("example", "exp with and without ...")          # reads --quick and --device
        size = 1_000 if suite.quick else 100_000
        sides = {"plain": plain(size), "ours": ours(size)}
        suite.agree("value", sides["ours"](), sides["plain"](), relative=1e-5)
        timing = suite.time(sides)                                    # interleaved, after a warm-up
        suite.at_least("times faster than plain", timing.ratio("plain", "ours"), 20, timing)
        peak = suite.peak("example:ours", size=size)                  # bytes, in a fresh process
        suite.at_most("peak over the input", peak / (4 * size), 3, note="floor: 1.0, the input is written once")
        return suite.finish()                                         # the table, and results/example.json

    if __name__ == "__main__":
        sys.exit(main())

Rules: both sides in one run and in turn, so that whatever else the machine does hits both; the ratio is what counts, an
absolute time is for orientation only; every comparison also checks with `agree` that both sides give the same answer.
A bar that is missed is shown, not an error: `finish` returns 1 only where two sides disagree. Where a bar is missed,
`note` says what the floor is: see `copy_bandwidth` and `matmul_rate`.

Run one with `python benchmarks/example.py [--quick]`, all of them with `make bench` (`make bench QUICK=1`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peak import peak_memory

RESULTS = Path(__file__).parent / "results"
MIN_REPEATS = 7
Side = Callable[[], Any]


@dataclass
class Timing:
    """Seconds of each side, round by round.

    Attributes:
        seconds: side -> one number per round; in each round every side ran once.
    """

    seconds: dict[str, list[float]]

    def median(self, side: str) -> float:
        """Median seconds of a side."""
        return statistics.median(self.seconds[side])

    def ratio(self, over: str, under: str) -> float:
        """How many times longer `over` takes than `under`: the median over rounds of the ratio within a round."""
        pairs = zip(self.seconds[over], self.seconds[under], strict=True)
        return statistics.median(a / b for a, b in pairs)

    def medians(self) -> dict[str, float]:
        """Side -> median seconds."""
        return {side: self.median(side) for side in self.seconds}


@dataclass
class Row:
    """One line of the table.

    Attributes:
        question: what was measured.
        reached: the ratio, or the number in the unit the question names.
        rule: "at least", "at most" or "" where there is no bar.
        bar: what it should be.
        seconds: side -> median seconds, for orientation.
        note: the floor, or what else one must know.
    """

    question: str
    reached: float
    rule: str = ""
    bar: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether the bar is met; None without a bar."""
        if self.bar is None:
            return None
        return self.reached >= self.bar if self.rule == "at least" else self.reached <= self.bar


def interleaved(
    sides: Mapping[str, Side],
    repeats: int = 9,
    warm_up: int = 2,
    device: torch.device | None = None,
    best_of: int = 1,
) -> Timing:
    """Time several sides in turn; every other round runs them in the opposite order.

    Each timed call follows an untimed one of the same side, so that none pays for the caches and the free memory that
    the other left behind.

    Args:
        sides: name -> call.
        repeats: rounds that count, at least 7.
        warm_up: rounds that do not.
        device: where it is a GPU, CUDA events measure.
        best_of: calls of a side within a round, of which the fastest counts. On a busy machine a call of 10 ms is
            interrupted more often than one of 3 ms, which is no property of the code: give 3 or 5 for short calls.
    """
    if repeats < MIN_REPEATS:
        raise ValueError(f"repeats is {repeats}; expected at least {MIN_REPEATS}")
    timer = _cuda_seconds if device is not None and device.type == "cuda" else _wall_seconds
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(warm_up + repeats):
        for name in names if number % 2 else reversed(names):
            sides[name]()
            taken = min(timer(sides[name]) for _ in range(best_of))
            if number >= warm_up:
                seconds[name].append(taken)
    return Timing(seconds)


def _wall_seconds(call: Side) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _cuda_seconds(call: Side) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def copy_bandwidth(device: torch.device | str = "cpu", size: int = 2**25) -> float:
    """Bytes per second that a copy of float32 moves, reading and writing: the floor of what only moves data."""
    source = torch.ones(size, device=device)
    target = torch.empty_like(source)
    timing = interleaved({"copy": lambda: target.copy_(source)}, device=torch.device(device))
    return 2 * source.numel() * source.element_size() / min(timing.seconds["copy"])


def matmul_rate(device: torch.device | str = "cpu", size: int = 512) -> float:
    """Float32 operations per second of a matrix product: the floor of what only multiplies."""
    matrix = torch.ones(size, size, device=device)
    timing = interleaved({"product": lambda: matrix @ matrix}, device=torch.device(device))
    return 2 * size**3 / min(timing.seconds["product"])


class Suite:
    """One benchmark: its options, rows, agreements, table and JSON.

    Args:
        name: of the JSON file, and of the script.
        description: what the table is about, one line.
        arguments: the command line; None takes the process's own.
    """

    def __init__(self, name: str, description: str, arguments: Sequence[str] | None = None) -> None:
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--quick", action="store_true", help="smaller or fewer measurements, under a minute")
        parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
        options = parser.parse_args(arguments)
        self.name = name
        self.description = description
        self.quick: bool = options.quick
        self.device = torch.device(options.device)
        self.rows: list[Row] = []
        self.disagreements: list[str] = []
        self._start = time.perf_counter()

    @property
    def repeats(self) -> int:
        """Rounds of a timing: 7, or 15 without --quick."""
        return MIN_REPEATS if self.quick else 15

    @property
    def dtype(self) -> torch.dtype:
        """What a student's outputs are in: float32, and bfloat16 on a GPU."""
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def time(self, sides: Mapping[str, Side], repeats: int | None = None, warm_up: int = 2, best_of: int = 1) -> Timing:
        """`interleaved` on this suite's device."""
        return interleaved(sides, repeats or self.repeats, warm_up, self.device, best_of)

    def peak(self, target: str, **arguments: Any) -> int:
        """`peak_memory` on this suite's device."""
        return peak_memory(target, str(self.device), **arguments)

    def agree(self, what: str, ours: Any, reference: Any, relative: float = 1e-5, absolute: float = 0.0) -> float:
        """Check that two sides give the same numbers.

        Args:
            what: of the message.
            ours, reference: numbers or tensors.
            relative: allowed norm of the difference over the norm of the reference.
            absolute: allowed norm of the difference, where the reference may be 0.

        Returns:
            The difference's norm over the reference's.
        """
        ours, reference = (torch.as_tensor(side).detach().double().cpu().flatten() for side in (ours, reference))
        if ours.shape != reference.shape:
            self.disagreements.append(f"{what}: {tuple(ours.shape)} numbers against {tuple(reference.shape)}")
            return float("nan")
        difference, size = (ours - reference).norm().item(), reference.norm().item()
        if not difference <= max(relative * size, absolute):
            self.disagreements.append(f"{what}: differs by {difference:.3g}, the reference is {size:.3g}")
        return difference / size if size else difference

    def agree_exactly(self, what: str, ours: Any, reference: Any) -> None:
        """Check that two sides give equal objects (texts, lists, counts)."""
        if ours != reference:
            self.disagreements.append(f"{what}: {str(ours)[:80]!r} against {str(reference)[:80]!r}")

    def at_least(self, question: str, reached: float, bar: float, timing: Timing | None = None, note: str = "") -> Row:
        """A row whose number must be at least the bar."""
        return self._add(Row(question, reached, "at least", bar, timing.medians() if timing else {}, note))

    def at_most(self, question: str, reached: float, bar: float, timing: Timing | None = None, note: str = "") -> Row:
        """A row whose number must be at most the bar."""
        return self._add(Row(question, reached, "at most", bar, timing.medians() if timing else {}, note))

    def show(self, question: str, reached: float, timing: Timing | None = None, note: str = "") -> Row:
        """A row without a bar."""
        return self._add(Row(question, reached, seconds=timing.medians() if timing else {}, note=note))

    def _add(self, row: Row) -> Row:
        self.rows.append(row)
        return row

    def finish(self) -> int:
        """Print the table, write the JSON; the exit status: 1 where two sides disagree."""
        taken = time.perf_counter() - self._start
        print(f"\n{self.name}: {self.description} ({self.device}, {taken:.0f} s{', quick' if self.quick else ''})")
        print(table([row_cells(row) for row in self.rows]))
        for problem in self.disagreements:
            print(f"THE TWO SIDES DISAGREE  {problem}")
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{self.name}.json").write_text(json.dumps(self._facts(taken), indent=2) + "\n", encoding="utf-8")
        return 1 if self.disagreements else 0

    def _facts(self, taken: float) -> dict[str, Any]:
        return {
            "name": self.name,
            "description": self.description,
            "quick": self.quick,
            "seconds": round(taken, 1),
            "machine": machine(self.device),
            "agree": not self.disagreements,
            "disagreements": self.disagreements,
            "rows": [vars(row) | {"passed": row.passed} for row in self.rows],
        }


def machine(device: torch.device) -> dict[str, Any]:
    """What the numbers were taken on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def row_cells(row: Row) -> list[str]:
    """The cells of one line of the table."""
    verdict = {True: "pass", False: "FAIL", None: ""}[row.passed]
    bar = "" if row.bar is None else f"{row.rule} {row.bar:g}"
    seconds = ", ".join(f"{side} {readable(value)}" for side, value in row.seconds.items())
    return [row.question, f"{row.reached:.4g}", bar, verdict, seconds, row.note]


def readable(seconds: float) -> str:
    """Seconds with a unit that suits them."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def table(lines: Sequence[Sequence[str]]) -> str:
    """Aligned columns under their names."""
    lines = [["question", "reached", "bar", "", "median", "note"], *lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
