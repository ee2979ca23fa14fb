"""Tables for people and for programs: what a cell shows, and Markdown, LaTeX, CSV and JSON of the same lines."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kd_asr_slr.errors import UserError
from kd_asr_slr.files import plain, write_text
from kd_asr_slr.reporting.run_folder import RunFolder

NOTHING = "-"
MAX_TEACHERS = 3
UPRIGHT_COLUMNS = 8  # of a LaTeX table on an upright page
# What LaTeX reads as commands, and how it prints them.
LATEX = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_"}
LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}"}
LATEX |= {"|": r"\textbar{}\allowbreak{}", '"': r"\textquotedbl{}"}


class Table(NamedTuple):
    """Texts in rows and columns, as every form of the table shows them.

    Args:
        header: the columns' names.
        cells: one sequence of texts a line.
        numeric: which columns are right-aligned.
    """

    header: Sequence[str]
    cells: Sequence[Sequence[str]]
    numeric: Sequence[bool]


@dataclass(frozen=True)
class Page:
    """Tables with what is to be known about them, and the unrounded figures behind.

    Args:
        caption: what the figures are, and how sure.
        tables: (title, table); the first one has no title of its own.
        records: one object a line of the first table, unrounded: the CSV file.
        content: all there is, unrounded: the JSON file.
    """

    caption: str
    tables: tuple[tuple[str, Table], ...]
    records: tuple[dict[str, Any], ...]
    content: dict[str, Any]

    def markdown(self) -> str:
        """The caption and the tables; the columns align in a terminal too."""
        blocks = [self.caption] if self.caption else []
        for title, table in self.tables:
            blocks += [f"{title}:"] if title else []
            blocks.append(markdown_table(*table))
        return "\n\n".join(blocks) + "\n"

    def latex(self) -> str:
        """A table environment each, with the rules of booktabs; the first one has the caption."""
        tables = [latex_table(table, title or self.caption) for title, table in self.tables]
        return "% needs \\usepackage{booktabs, graphicx, rotating} and \\usepackage[T1]{fontenc}\n" + "\n".join(tables)

    def csv(self) -> str:
        """One line a record, unrounded."""
        return csv_text(self.records)

    def json(self) -> str:
        """Everything, unrounded."""
        return json.dumps(plain(self.content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def write(self, path: str | Path) -> Path:
        """Write the form that the file's suffix names; see `FORMS`."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        return write_text(target, getattr(self, FORMS[target.suffix])())


FORMS = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json"}


def markdown_table(header: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    """A Markdown table, padded so that its columns align in a terminal too.

    Args:
        header: the columns' names.
        cells: one sequence of texts a line.
        numeric: which columns are right-aligned.
    """
    lines = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in [header, *cells]]
    widths = [max(3, *(_width(line[column]) for line in lines)) for column in range(len(header))]
    rule = ["-" * (width - 1) + ":" if right else "-" * width for width, right in zip(widths, numeric, strict=True)]
    padded = [[_pad(*form) for form in zip(line, widths, numeric, strict=True)] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in [padded[0], rule, *padded[1:]])


def latex_table(table: Table, caption: str) -> str:
    """A LaTeX table with the rules of booktabs, no wider than the page: many columns lie sideways, and shrink to fit.

    Args:
        table: its texts are escaped here.
        caption: what stands above it.

    Example:
        >>> print(latex_table(Table(["run", "WER"], [["a_b", "25.69"]], [False, True]), "Two runs"))
    """
    rows = [" & ".join(map(latex_text, line)) + r" \\" for line in (table.header, *table.cells)]
    columns = "".join("r" if right else "l" for right in table.numeric)
    place = "sidewaystable" if len(columns) > UPRIGHT_COLUMNS else "table"
    lines = [rf"\begin{{{place}}}", r"  \centering", rf"  \caption{{{latex_text(caption)}}}"]
    lines += [r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"]
    lines += [rf"  \begin{{tabular}}{{{columns}}}", r"    \toprule", f"    {rows[0]}", r"    \midrule"]
    lines += [f"    {row}" for row in rows[1:]]
    return "\n".join([*lines, r"    \bottomrule", r"  \end{tabular}}", rf"\end{{{place}}}"]) + "\n"


def latex_text(text: str) -> str:
    r"""A text as LaTeX prints it: special characters escaped, "24.37 to 27.01" with a dash, "+-" as one sign.

    Example:
        >>> print(latex_text("a_b & 50 %"))
        a\_b \& 50 \%
    """
    escaped = "".join(LATEX.get(character, character) for character in text.replace("\n", " "))
    return re.sub(r"(?<=\d) to (?=-?\d)", "--", escaped).replace("+-", r"$\pm$")


def percent(rate: float) -> str:
    """0.48413 -> "48.41"."""
    return f"{100 * rate:.2f}"


def shown_p(value: float | None) -> str:
    """A p-value: three decimals, or "< 0.001"; a dash where there is none."""
    if value is None:
        return NOTHING
    return f"{value:.3f}" if value >= 0.0005 else "< 0.001"


def shown_range(interval: Sequence[float]) -> str:
    """An interval of rates: "46.90 to 49.82"."""
    return f"{percent(interval[0])} to {percent(interval[1])}"


def shown_interval(score: dict[str, Any]) -> str:
    """The 95 % interval of the WER: "46.90 to 49.82"."""
    return shown_range(score["wer_ci95"])


def shown_counts(score: dict[str, Any]) -> str:
    """Substitutions, deletions, insertions: "710 / 538 / 175"."""
    return f"{score['substitutions']} / {score['deletions']} / {score['insertions']}"


def teacher_names(results: dict[str, Any]) -> list[str]:
    """The names of a run's teachers."""
    return [teacher if isinstance(teacher, str) else teacher["name"] for teacher in results["teachers"]]


def aggregation_of(results: dict[str, Any], config: dict[str, Any]) -> str | None:
    """The name of the aggregation of a run's teachers: as its results say, else its config; None without teachers."""
    if not results["teachers"]:
        return None
    aggregation = results.get("aggregation") or config.get("aggregation")
    return aggregation["name"] if isinstance(aggregation, dict) else aggregation


def shown_teachers(results: dict[str, Any]) -> str:
    """The teachers' names, or their number and the first of them where they are many."""
    names = [Path(name).name for name in teacher_names(results)]
    if len(names) > MAX_TEACHERS:
        return f"{len(names)} ({names[0]}, ...)"
    return ", ".join(names) or NOTHING


def scores_of(
    folder: RunFolder, results: dict[str, Any], split: str, decoder: str | None, protocol: str | None
) -> list[dict[str, Any]]:
    """The scores asked for, of one decoder or (None) of all; of one decoder, they differ in their language model.

    Raises:
        UserError: if there are none, or of several protocols and none is named.
    """
    found = [score for score in results["scores"] if score["split"] == split and decoder in (None, score["decoder"])]
    protocols = list(dict.fromkeys(score["protocol"] for score in found))
    if len(protocols) > 1 and protocol is None:
        raise UserError(
            f"{folder.path} has scores by {' and '.join(protocols)}", "one protocol", "name one of them (--protocol)"
        )
    found = [score for score in found if protocol in (None, score["protocol"])]
    if not found:
        asked = f"split {split}" + (f", decoder {decoder}" if decoder else "")
        asked += f", protocol {protocol}" if protocol else ""
        there = "; ".join(f"{s['split']}, {s['decoder']}, {s['protocol']}" for s in results["scores"])
        raise UserError(
            f"{folder.path} has no score for {asked} (it has: {there or 'none'})",
            fix=f"score it: recipes/score.py --run {folder.path} --split {split} --decoder {decoder or 'greedy'}",
        )
    return found


def csv_text(lines: Sequence[dict[str, Any]]) -> str:
    """Lines with the same or other columns as CSV; what a line lacks, and None, is empty."""
    stream = io.StringIO()
    names = list(dict.fromkeys(name for line in lines for name in line))
    writer = csv.DictWriter(stream, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue()


def _width(text: str) -> int:
    """Columns a text takes in a terminal: wide characters take two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space
