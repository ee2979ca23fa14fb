"""The HTML file: contents into a template; styles, scripts and data stand inside it, and nothing is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from kd_asr_slr.files import plain, write_text
from kd_asr_slr.reporting.curves import LOSS_LABELS
from kd_asr_slr.reporting.history import Record, best, loss_names, series
from kd_asr_slr.reporting.html_report.charts import Line, bar_chart, line_chart, number
from kd_asr_slr.reporting.html_report.contents import Contents, RunPart
from kd_asr_slr.reporting.html_report.errors import KINDS, Aligned, kind_of
from kd_asr_slr.reporting.tables import Table, percent

HERE = Path(__file__).parent
GAP = "***"  # stands for no token, as in sclite's alignments
HEAT_CLASSES = 9  # h0 to h8 of the style sheet
MAX_LOGGED = 200  # lines of the table of a log


def write_report(contents: Contents, path: str | Path) -> Path:
    """Write a report; the file appears whole or not at all.

    Args:
        contents: see `contents.report_contents`.
        path: the .html file; its folder is made where it is not there.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    return write_text(target, render_report(contents))


def render_report(contents: Contents) -> str:
    """The report as one HTML page.

    Args:
        contents: see `contents.report_contents`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.jinja").render(
        contents=contents,
        style=Markup((HERE / "report.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "report.js").read_text(encoding="utf-8")),
        data=_data(contents),
        tables=[(title or "Runs", table) for title, table in contents.page.tables],
        joint=_joint_curves(contents) if len(contents.runs) > 1 else None,
        curves={part.name: _curves(part, contents.target_wer) for part in contents.runs},
        logs={part.name: _log_table(part.history) for part in contents.runs if part.history},
        confusions=_confusion_table(contents.runs),
        lengths=_length_chart(contents.runs),
        heat=_heat,
        percent=percent,
        pairs=_pairs,
        spoken=_spoken,
        kinds=KINDS,
        gap=GAP,
    )


# -- curves ----------------------------------------------------------------------------------------------------


def _curves(part: RunPart, target_wer: float | None) -> list[Markup]:
    """Losses, rates on dev, schedule."""
    if not part.history:
        return []
    names = loss_names(part.history)
    parts = list(dict.fromkeys(name.removeprefix("eval_") for name in names))
    losses = [
        Line(
            f"{LOSS_LABELS.get(name.removeprefix('eval_'), name.removeprefix('eval_').removeprefix('loss_'))}, "
            f"{'dev' if name.startswith('eval_') else 'train'}",
            series(part.history, name),
            parts.index(name.removeprefix("eval_")),
            int(name.startswith("eval_")),
        )
        for name in names
    ]
    rates = [Line(label, _in_percent(part.history, name), place, place) for place, (label, name) in enumerate(
        (("WER", "eval_wer"), ("WRA", "eval_wra")))]  # fmt: skip
    lowest = best(rates[0].points)
    star = (*lowest, f"best WER {lowest[1]:.2f} % (epoch {lowest[0]:g})") if lowest else None
    target = (100 * target_wer, f"target WER {100 * target_wer:.2f} % (dotted)") if target_wer is not None else None
    schedule = [
        Line("learning rate", series(part.history, "learning_rate"), 2, 0),
        Line("temperature", series(part.history, "temperature"), 3, 1, right=True, steps=True),
    ]
    return [
        line_chart("Losses and their parts", losses, "loss"),
        line_chart("WER and WRA on dev", rates, "%", target=target, star=star),
        line_chart(
            "Learning rate and temperature", schedule, "learning rate (log)", log=True, right_axis="temperature"
        ),
    ]


def _joint_curves(contents: Contents) -> Markup:
    lines = [
        Line(part.name, _in_percent(part.history, "eval_wer"), place, place) for place, part in enumerate(contents.runs)
    ]
    target = None
    if contents.target_wer is not None:
        target = (100 * contents.target_wer, f"target WER {100 * contents.target_wer:.2f} % (dotted)")
    return line_chart("WER on dev, all runs", lines, "WER %", target=target)


def _in_percent(history: Sequence[Record], name: str) -> list[tuple[float, float]]:
    return [(epoch, 100 * value) for epoch, value in series(history, name)]


def _log_table(history: Sequence[Record]) -> Table:
    """The log as a table: what the curves show, for those who cannot see them."""
    names = ["loss", "eval_loss", "eval_wer", "eval_wra", "learning_rate", "temperature"]
    names = [name for name in names if series(history, name)]
    names += [name for name in loss_names(history) if name not in names]
    by_epoch: dict[float, dict[str, float]] = {}
    for name in names:
        for epoch, value in series(history, name):
            by_epoch.setdefault(epoch, {})[name] = value
    epochs = sorted(by_epoch)
    step = -(-len(epochs) // MAX_LOGGED) or 1
    cells = [
        [f"{epoch:g}", *(number(by_epoch[epoch][name]) if name in by_epoch[epoch] else "-" for name in names)]
        for epoch in epochs[::step]
    ]
    return Table(["epoch", *names], cells, [True] * (len(names) + 1))


# -- errors ----------------------------------------------------------------------------------------------------


def _confusion_table(runs: Sequence[RunPart]) -> Table:
    several = len(runs) > 1
    cells = [
        [part.name] * several + [truth or GAP, guess or GAP, kind, str(count)]
        for part in runs
        for kind, (truth, guess), count in part.confusions
    ]
    header = ["run"] * several + ["reference", "recognised", "kind", "times"]
    return Table(header, cells, [False] * (len(header) - 1) + [True])


def _length_chart(runs: Sequence[RunPart]) -> Markup | None:
    known = [(part.name, part.lengths) for part in runs if part.lengths]
    if not known or len(known[0][1]["bins"]) < 2:  # references that are all as long say nothing here
        return None
    first = known[0][1]
    groups = [entry["name"] for entry in first["bins"]]
    bars = []
    for name, lengths in known:
        rates = {entry["name"]: 100 * entry["wer"] for entry in lengths["bins"]}
        bars.append((name, [rates.get(group) for group in groups]))
    return bar_chart(f"WER by the length of the reference in {first['unit']}", groups, bars, "WER %")


def _pairs(item: Aligned) -> list[tuple[str, str, str]]:
    """(kind, reference, hypothesis) of every pair, with stars where a side has no token."""
    return [(kind_of(pair), pair[0] or GAP, pair[1] or GAP) for pair in item.pairs]


def _spoken(item: Aligned) -> str:
    """The errors as a sentence."""
    said = {"S": "'{}' recognised as '{}'", "D": "'{}' left out", "I": "'{1}' put in"}
    found = [said[kind].format(truth, guess) for kind, truth, guess in _pairs(item) if kind != "C"]
    return "; ".join(found) or "all right"


def _heat(value: float | None) -> str:
    """The class of a cell's colour: a rate from 0 (h0) to 1 and above (h8)."""
    return "" if value is None else f"h{min(HEAT_CLASSES - 1, round(value * (HEAT_CLASSES - 1)))}"


# -- data ------------------------------------------------------------------------------------------------------


def _data(contents: Contents) -> dict[str, Any]:
    """What the page shows, for programs; recordings and drawings are not repeated."""
    return plain({
        "schema": 1,
        "title": contents.title,
        "comparison": contents.page.content,
        "runs": [
            {"name": part.name, "history": _finite(part.history), "confusions": part.confusions,
             "lengths": part.lengths, "who_teaches_whom": part.matrix}
            for part in contents.runs
        ],
        "utterances": [
            {"id": item.id, "speaker": item.speaker, "order": item.order,
             "outputs": {name: _output(output) for name, output in (item.outputs | item.teachers).items()}}
            for item in contents.utterances
        ],
    })  # fmt: skip


def _output(item: Aligned) -> dict[str, Any]:
    return {"hypothesis": item.hypothesis, "wer": item.wer, "pairs": [list(pair) for pair in item.pairs]}


def _finite(history: Sequence[Record]) -> list[Record]:
    """JSON has no NaN: a loss that became none is null."""
    return [
        {name: None if isinstance(value, float) and value - value != 0 else value for name, value in record.items()}
        for record in history
    ]
