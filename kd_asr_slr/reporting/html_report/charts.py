"""Charts as SVG inside the page.

Drawn here and not by matplotlib: lines take the page's colours in light and dark mode, a chart is some kilobytes, and
every line has a dash pattern and every point a text of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from kd_asr_slr.reporting.history import Series

WIDTH, HEIGHT = 560, 280
LEFT, RIGHT, TOP, BOTTOM = 62, 52, 12, 40  # margins
COLOURS = 8  # classes c0 to c7 of the style sheet
DASHES = ("", "7 4", "2 3", "9 3 2 3")
MAX_POINTS = 120  # of a line; longer ones are thinned, first and last point kept


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        label: how the legend calls it.
        points: (x, y).
        colour: number of its colour; lines of one thing share it.
        dash: number of its dash pattern, so that colour is not all that tells lines apart.
        right: whether it belongs to the axis on the right.
        steps: whether values hold until the next one.
    """

    label: str
    points: Series
    colour: int = 0
    dash: int = 0
    right: bool = False
    steps: bool = False


def line_chart(
    title: str,
    lines: Sequence[Line],
    axis: str,
    *,
    log: bool = False,
    right_axis: str = "",
    target: tuple[float, str] | None = None,
    star: tuple[float, float, str] | None = None,
) -> Markup:
    """A chart over epochs with its legend; a sentence where there is nothing to draw.

    Args:
        title: what it shows.
        lines: lines without a point are left out.
        axis: name of the left axis.
        log: whether the left axis is logarithmic; values of 0 or less are left out then.
        right_axis: name of the right axis, where a line belongs to it.
        target: a value drawn across the chart, and its name.
        star: x, y and name of a point that is marked.
    """
    shown = [_thinned(line, log and not line.right) for line in lines]
    shown = [line for line in shown if line.points]
    if not shown:
        empty = Markup('<figure><figcaption>{}</figcaption><p class="note">nothing was logged</p></figure>')
        return empty.format(title)
    across = [x for line in shown for x, _ in line.points]
    to_x = _scale(min(across), max(across), LEFT, WIDTH - RIGHT)
    left = [y for line in shown if not line.right for _, y in line.points] + ([target[0]] if target else [])
    right = [y for line in shown if line.right for _, y in line.points]
    parts = [_horizontal_axis(across, to_x)]
    to_left, marks = _vertical(left or [0.0, 1.0], log)
    parts.append(_vertical_axis(marks, to_left, axis, side="left"))
    to_right = to_left
    if right:
        to_right, marks = _vertical([0.0, *right], log=False)
        parts.append(_vertical_axis(marks, to_right, right_axis, side="right"))
    parts += [_drawn(line, to_x, to_right if line.right else to_left) for line in shown]
    if target:
        y = to_left(target[0])
        parts.append(
            Markup('<line class="target" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, WIDTH - RIGHT, y, y)
        )
    if star:
        parts.append(Markup('<g class="star" transform="translate({:.1f} {:.1f})"><title>{}</title>'
                            '<path d="M0-9 2.6-2.8 9-2.8 4 1.4 5.8 8 0 4.2-5.8 8-4 1.4-9-2.8-2.6-2.8Z"/></g>').format(
            to_x(star[0]), to_left(star[1]), star[2]))  # fmt: skip
    spoken = "; ".join(
        f"{line.label} from {number(line.points[0][1])} to {number(line.points[-1][1])}" for line in shown
    )
    entries = [(line.label, line.colour, line.dash) for line in shown]
    notes = [note for note in (target and target[1], star and f"★ {star[2]}") if note]
    return _figure(title, f"{title} over epochs: {spoken}", Markup("").join(parts), entries, notes)


def bar_chart(
    title: str, groups: Sequence[str], bars: Sequence[tuple[str, Sequence[float | None]]], axis: str
) -> Markup:
    """Bars in groups, one of each group for every run.

    Args:
        title: what it shows.
        groups: names below the bars.
        bars: (label, one value a group; None where there is none).
        axis: name of the left axis.
    """
    values = [value for _, heights in bars for value in heights if value is not None]
    to_y, marks = _vertical([0.0, *values], log=False)
    room = (WIDTH - LEFT - RIGHT) / max(1, len(groups))
    width = min(36.0, 0.8 * room / max(1, len(bars)))
    parts = [_vertical_axis(marks, to_y, axis, side="left")]
    for place, group in enumerate(groups):
        middle = LEFT + (place + 0.5) * room
        parts.append(
            Markup('<text class="tick" text-anchor="middle" x="{:.1f}" y="{}">{}</text>').format(
                middle, HEIGHT - BOTTOM + 16, group
            )
        )
        for number_of_run, (label, heights) in enumerate(bars):
            value = heights[place]
            if value is None:
                continue
            x, y = middle + (number_of_run - len(bars) / 2) * width, to_y(value)
            parts.append(Markup(
                '<rect class="bar c{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}, {}: {}</title>'
                "</rect>").format(number_of_run % COLOURS, x, y, max(1.0, width - 2), to_y(0.0) - y, label, group,
                                  number(value)))  # fmt: skip
    spoken = "; ".join(
        f"{label}: " + ", ".join(f"{g} {number(v)}" for g, v in zip(groups, heights, strict=True) if v is not None)
        for label, heights in bars
    )
    entries = [(label, place, -1) for place, (label, _) in enumerate(bars)]
    return _figure(title, f"{title}. {spoken}", Markup("").join(parts), entries, [])


def number(value: float) -> str:
    """A value as a person reads it: four digits, small ones in scientific form.

    Example:
        >>> number(0.00012345), number(12.3456), number(0.0)
        ('1.2e-4', '12.35', '0')
    """
    if value and abs(value) < 1e-2:
        return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-")
    return f"{value:.4g}"


# -- inside ----------------------------------------------------------------------------------------------------


def _figure(
    title: str, spoken: str, drawing: Markup, entries: Sequence[tuple[str, int, int]], notes: list[str]
) -> Markup:
    legend = Markup("").join(_entry(*entry) for entry in entries)
    legend += Markup("").join(Markup("<li>{}</li>").format(note) for note in notes)
    return Markup(
        '<figure><figcaption>{}</figcaption><svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
        '<ul class="legend">{}</ul></figure>'
    ).format(title, WIDTH, HEIGHT, spoken, drawing, legend)


def _entry(label: str, colour: int, dash: int) -> Markup:
    """A line of the legend with a sample; a square for bars (dash -1)."""
    sample = '<rect class="bar c{0}" width="14" height="14" x="8"/>' if dash < 0 else (
        '<line class="line c{0}" x1="0" x2="30" y1="7" y2="7" stroke-dasharray="{1}"/>'
    )  # fmt: skip
    drawn = Markup(sample).format(colour % COLOURS, DASHES[dash % len(DASHES)])
    return Markup('<li><svg width="30" height="14" aria-hidden="true">{}</svg> {}</li>').format(drawn, label)


def _thinned(line: Line, positive: bool) -> Line:
    points = [point for point in line.points if not positive or point[1] > 0]
    if len(points) > MAX_POINTS:
        points = [points[round(place * (len(points) - 1) / (MAX_POINTS - 1))] for place in range(MAX_POINTS)]
    return Line(line.label, points, line.colour, line.dash, line.right, line.steps)


def _drawn(line: Line, to_x: Callable[[float], float], to_y: Callable[[float], float]) -> Markup:
    places = [(to_x(x), to_y(y)) for x, y in line.points]
    text = f"M{places[0][0]:.1f} {places[0][1]:.1f}"
    for x, y in places[1:]:
        text += f"H{x:.1f}V{y:.1f}" if line.steps else f"L{x:.1f} {y:.1f}"
    path = Markup('<path class="line c{}" stroke-dasharray="{}" d="{}"/>').format(
        line.colour % COLOURS, DASHES[line.dash % len(DASHES)], text
    )
    dots = Markup("").join(
        Markup(
            '<circle class="dot c{}" cx="{:.1f}" cy="{:.1f}" r="3"><title>{}, epoch {:g}: {}</title></circle>'
        ).format(line.colour % COLOURS, x, y, line.label, epoch, number(value))
        for (x, y), (epoch, value) in zip(places, line.points, strict=True)
    )
    return path + dots


def _vertical(values: Sequence[float], log: bool) -> tuple[Callable[[float], float], list[float]]:
    """From values to places on the page, and the values that are named at the axis."""
    low, high = min(values), max(values)
    if log and low > 0:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        last = max(last, first + 1)
        marks = [10.0**power for power in range(first, last + 1)]
        scale = _scale(float(first), float(last), HEIGHT - BOTTOM, TOP)
        return lambda value: scale(math.log10(value)), marks
    marks = _ticks(min(0.0, low), high)
    return _scale(marks[0], marks[-1], HEIGHT - BOTTOM, TOP), marks


def _vertical_axis(marks: Sequence[float], to_y: Callable[[float], float], name: str, side: str) -> Markup:
    left = side == "left"
    edge, anchor = (LEFT - 6, "end") if left else (WIDTH - RIGHT + 6, "start")
    parts = [
        Markup('<text class="axis" text-anchor="middle" transform="translate({} {}) rotate(-90)">{}</text>').format(
            13 if left else WIDTH - 8, (TOP + HEIGHT - BOTTOM) / 2, name
        )
    ]
    for mark in marks:
        y = to_y(mark)
        if left:
            parts.append(
                Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, WIDTH - RIGHT, y, y)
            )
        parts.append(
            Markup('<text class="tick" text-anchor="{}" x="{}" y="{:.1f}">{}</text>').format(
                anchor, edge, y + 4, number(mark)
            )
        )
    return Markup("").join(parts)


def _horizontal_axis(values: Sequence[float], to_x: Callable[[float], float]) -> Markup:
    marks = [mark for mark in _ticks(min(values), max(values), whole=True) if min(values) <= mark <= max(values)]
    parts = [
        Markup('<text class="tick" text-anchor="middle" x="{:.1f}" y="{}">{:g}</text>').format(
            to_x(mark), HEIGHT - BOTTOM + 16, mark
        )
        for mark in marks
    ]
    name = Markup('<text class="axis" text-anchor="middle" x="{}" y="{}">epoch</text>')
    return Markup("").join([*parts, name.format((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6)])


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = high - low
    return lambda value: start + (end - start) * ((value - low) / span if span else 0.5)


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Round values from at most `low` to at least `high`, about five of them."""
    span = (high - low) or abs(high) or 1.0
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    step = max(1.0, round(step)) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 12) for place in range(first, max(last, first + 1) + 1)]
