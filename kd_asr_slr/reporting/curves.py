"""`training_curves.png` and `.pdf`: a 2 x 2 page of losses, error rates, learning rate and an overview."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_asr_slr.files import write_bytes
from kd_asr_slr.reporting.history import Series, best, loss_names, read_history, series, write_history
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.reporting.tables import aggregation_of, shown_teachers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 300
PAGE = (11.0, 8.0)  # inches
# Okabe and Ito's colours: told apart by colour-blind readers too.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F")
MAX_MARKED = 15  # more points than this are drawn as a line only
DASHED = (0, (4, 1.5))
LOG_RANGE = 50.0  # losses that span more than this factor are drawn on a log scale

LOSS_LABELS = {
    "loss": "total",
    "loss_ctc": "CTC",
    "loss_ctc_kd": "CTC-KD",
    "loss_decoder_kd": "decoder-KD",
    "loss_hidden": "hidden states",
    "loss_cross_entropy": "cross-entropy",
    "loss_auxiliary_ctc": "auxiliary CTC",
    "loss_auxiliary_kd": "self-distillation",
    "loss_blank_mass": "blank mass",
    "loss_pseudo_labels": "pseudo-labels",
    "loss_sequence_kd": "sequence-KD",
}


def write_curves(
    run: RunFolder | str | Path,
    target_wer: float | None = None,
    records: Sequence[Mapping[str, Any]] | None = None,
) -> list[Path]:
    """Draw a finished run's curves from its files, and write `history.json` beside them.

    Args:
        run: the run folder; it needs `results.json` and `resolved_config.yaml`, and a training log.
        target_wer: a fraction, drawn as a line (the WER to reach).
        records: the log, where the trainer is still there; default: the one in the folder.

    Returns:
        The three files.

    Raises:
        UserError: where one of them is missing.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    records = read_history(folder if records is None else records)
    results = folder.read_results()
    facts = {"parameters": f"{results['model']['parameters']:,}", "teachers": shown_teachers(results)}
    aggregation = aggregation_of(results, folder.config())
    if aggregation:
        facts["aggregation"] = aggregation
    files = draw_curves(records, folder.path, title=results["name"], facts=facts, target_wer=target_wer)
    return [*files, write_history(records, folder.path)]


def draw_curves(
    records: Sequence[Mapping[str, Any]],
    folder: str | Path,
    *,
    title: str = "",
    facts: Mapping[str, str] | None = None,
    target_wer: float | None = None,
) -> list[Path]:
    """Draw the page from log records; may be called again and again while training goes on.

    Args:
        records: the trainer's `log_history` (see `history.read_history`).
        folder: where `training_curves.png` (300 dpi) and `training_curves.pdf` go.
        title: the run's name.
        facts: lines of the overview beside what the log says (parameters, teachers, ...).
        target_wer: a fraction, drawn as a line.

    Returns:
        The two files.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # No pyplot: it keeps every figure it ever made, and would choose a window where there is a screen.
    figure = Figure(figsize=PAGE, layout="constrained")
    FigureCanvasAgg(figure)
    losses, rates, learning_rate, overview = figure.subplots(2, 2).flatten()
    if title:
        figure.suptitle(title, fontsize=13, fontweight="bold")
    _draw_losses(losses, records)
    _draw_rates(rates, records, target_wer)
    _draw_learning_rate(learning_rate, records)
    _write_overview(overview, overview_lines(records, facts or {}))
    return [_save(figure, Path(folder) / f"training_curves.{kind}", kind) for kind in ("png", "pdf")]


def overview_lines(records: Sequence[Mapping[str, Any]], facts: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the overview says, as (name, value) lines.

    Args:
        records: see `draw_curves`.
        facts: lines that the log does not know.
    """
    lines = []
    wer, wra = series(records, "eval_wer"), series(records, "eval_wra")
    lowest = best(wer)
    if lowest:
        lines.append(("best WER", f"{100 * lowest[1]:.2f} % (epoch {lowest[0]:g})"))
        lines.append(("last WER", f"{100 * wer[-1][1]:.2f} % (epoch {wer[-1][0]:g})"))
    if wra:
        epoch, value = max(wra, key=lambda point: point[1])
        lines.append(("best WRA", f"{100 * value:.2f} % (epoch {epoch:g})"))
    epochs = [record["epoch"] for record in records if "epoch" in record]
    if epochs:
        lines.append(("epochs", f"{max(epochs):g}"))
    steps = [record["step"] for record in records if "step" in record]
    if steps:
        lines.append(("steps", f"{max(steps):,}"))
    lines += list(facts.items())
    frames = series(records, "valid_frame_ratio")
    if frames:
        lines.append(("frames in KD", f"{100 * frames[-1][1]:.1f} % of the valid ones"))
    return lines


# -- panels ----------------------------------------------------------------------------------------------------


def _draw_losses(axes: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    axes.set_title("Losses")
    names = loss_names(records)
    if not names:
        return _say(axes, "no loss was logged")
    # A part keeps its colour in training (solid) and evaluation (dashed).
    parts = list(dict.fromkeys(name.removeprefix("eval_") for name in names))
    values: list[float] = []
    for name in names:
        part = name.removeprefix("eval_")
        style = {"color": COLOURS[parts.index(part) % len(COLOURS)], "linewidth": 2.0 if part == "loss" else 1.3}
        kind = "dev" if name.startswith("eval_") else "train"
        label = f"{LOSS_LABELS.get(part, part.removeprefix('loss_').replace('_', ' '))}, {kind}"
        points = series(records, name)
        values += [value for _, value in points]
        _line(axes, points, label=label, linestyle=DASHED if kind == "dev" else "-", **style)
    _axis_names(axes, "loss")
    if min(values) > 0 and max(values) / min(values) > LOG_RANGE:
        axes.set_yscale("log")
        axes.set_ylabel("loss (log scale)")
    _legend_below(axes, columns=3)
    return None


def _draw_rates(axes: Axes, records: Sequence[Mapping[str, Any]], target_wer: float | None) -> None:
    axes.set_title("WER and WRA on dev")
    wer = [(epoch, 100 * value) for epoch, value in series(records, "eval_wer")]
    wra = [(epoch, 100 * value) for epoch, value in series(records, "eval_wra")]
    if not wer and not wra:
        return _say(axes, "no WER or WRA was logged")
    _line(axes, wer, label="WER", color=COLOURS[2])
    _line(axes, wra, label="WRA", color=COLOURS[1], linestyle=DASHED)
    if target_wer is not None:
        axes.axhline(100 * target_wer, color="0.4", linestyle=":", label=f"target WER {100 * target_wer:.2f} %")
    lowest = best(wer)
    _axis_names(axes, "%")
    axes.set_ylim(0, max([100.0] + [value for _, value in wer]) * 1.03)
    if lowest:
        axes.plot(*lowest, marker="*", markersize=14, color=COLOURS[2], markeredgecolor="black", linestyle="none",
                  label=f"best WER {lowest[1]:.2f} % (epoch {lowest[0]:g})", zorder=5)  # fmt: skip
    _legend_below(axes, columns=2)
    return None


def _draw_learning_rate(axes: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    axes.set_title("Schedule")
    # A log scale has no zero, and a linear schedule ends there.
    rates = [(epoch, value) for epoch, value in series(records, "learning_rate") if value > 0]
    temperatures = series(records, "temperature")
    if not rates and not temperatures:
        return _say(axes, "no learning rate was logged")
    _line(axes, rates, label="learning rate", color=COLOURS[3])
    _axis_names(axes, "learning rate (log scale)")
    axes.set_yscale("log")
    _readable_log_axis(axes, [value for _, value in rates])
    handles, labels = axes.get_legend_handles_labels()
    if temperatures:
        right = axes.twinx()
        _line(right, temperatures, label="temperature", color=COLOURS[5], drawstyle="steps-post", linestyle=DASHED)
        right.set_ylabel("temperature")
        right.set_ylim(0, 1.15 * max(value for _, value in temperatures))
        handles, labels = handles + right.get_legend_handles_labels()[0], labels + right.get_legend_handles_labels()[1]
        right.legend(handles, labels, fontsize=8, loc="lower left")
    elif handles:
        axes.legend(handles, labels, fontsize=8, loc="lower left")
    return None


def _write_overview(axes: Axes, lines: Sequence[tuple[str, str]]) -> None:
    axes.set_title("Overview")
    axes.axis("off")
    if not lines:
        return _say(axes, "nothing was logged")
    height = 0.94
    for name, value in lines:
        wrapped = textwrap.wrap(value, 40) or [""]
        axes.text(0.05, height, name, fontsize=11, color="0.35", va="top", transform=axes.transAxes)
        axes.text(0.36, height, "\n".join(wrapped), fontsize=11, va="top", transform=axes.transAxes)
        height -= 0.085 * len(wrapped)
    return None


# -- drawing ---------------------------------------------------------------------------------------------------


def _line(axes: Axes, points: Series, **style: Any) -> None:
    if not points:
        return
    style.setdefault("linewidth", 1.6)
    marker = "o" if len(points) <= MAX_MARKED else None
    axes.plot([epoch for epoch, _ in points], [value for _, value in points], marker=marker, markersize=3, **style)


def _axis_names(axes: Axes, vertical: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylabel(vertical)
    axes.grid(True, color="0.9")
    axes.set_axisbelow(True)
    axes.spines["top"].set_visible(False)


def _readable_log_axis(axes: Axes, values: Sequence[float]) -> None:
    """A log axis over a narrow range carries no number at all: show at least a decade, and name 1, 2 and 5 of each."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if not values:
        return
    low, high = min(values), max(values)
    axes.set_ylim(min(low / 1.5, high / 10), high * 1.5)
    subs = (1.0, 2.0, 5.0) if high / low < 100 else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}".replace("e-0", "e-")))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _legend_below(axes: Axes, columns: int) -> None:
    """Below the panel: with many lines there is no free corner inside."""
    where = (0.5, -0.13)
    axes.legend(fontsize=8, ncols=columns, handlelength=3, frameon=False, loc="upper center", bbox_to_anchor=where)


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", color="0.4", transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("0.85")


def _save(figure: Figure, path: Path, kind: str) -> Path:
    content = io.BytesIO()
    # No date and no version inside: the same log gives the same bytes.
    metadata = {"Software": None} if kind == "png" else {"CreationDate": None}
    figure.savefig(content, format=kind, dpi=DPI, metadata=metadata)
    return write_bytes(path, content.getvalue())
