"""One table over held-out speakers and seeds: a line a row, with intervals and tests that know of both.

Every rate is the mean over folds, each held-out speaker counting once, of the mean over seeds. The interval and the
test against the baseline draw the seeds of every fold and its utterances anew (`scoring.significance`). The speakers
are taken as they are: what they say of speakers who are in no fold is not computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from kd_asr_slr.errors import UserError
from kd_asr_slr.reporting.fold_runs import METRICS, FoldRow, FoldRun, read_rows
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.reporting.tables import NOTHING, Page, Table, percent, shown_p, shown_range
from kd_asr_slr.scoring.significance import Estimate, compare_systems, holm, rate_of_system


@dataclass(frozen=True)
class FoldLine:
    """The figures of one row.

    Args:
        row: the runs behind it.
        rates: metric -> mean over folds and seeds.
        spread: metric -> standard deviation over seeds of the mean over folds; None where folds have other seeds, or
            there is one seed.
        interval: of the table's metric, 95 %.
        difference: to the baseline, by the table's metric; None for the baseline, and where there is none.
        p_value: of the difference, corrected for the number of comparisons (Holm).
    """

    row: FoldRow
    rates: dict[str, float]
    spread: dict[str, float | None]
    interval: tuple[float, float]
    difference: Estimate | None = None
    p_value: float | None = None


@dataclass(frozen=True)
class FoldTable:
    """Lines over folds, ready to be shown.

    Args:
        lines: one a row.
        folds: names of the folds.
        metric: "wra" or "wer".
        baseline: name of the row that the others are compared with, or None.
        caption: what the figures are.
    """

    lines: tuple[FoldLine, ...]
    folds: tuple[str, ...]
    metric: str
    baseline: str | None
    caption: str

    def page(self) -> Page:
        """The caption, the table of the rows, and the table of the folds."""
        records = tuple(_csv_line(self, line) for line in self.lines)
        tables = (("", _row_columns(self)), (f"By fold, {self.metric.upper()} %", _fold_columns(self)))
        content = {"schema": 1, "caption": self.caption, "folds": self.folds, "metric": self.metric, "rows": records}
        return Page(self.caption, tables, records, content)


def fold_table(
    runs: Iterable[RunFolder | str | Path],
    split: str = "test",
    decoder: str = "greedy",
    protocol: str | None = None,
    *,
    metric: str = "wra",
    baseline: str | None = None,
    oracle: str | None = None,
) -> FoldTable:
    """Fold runs `<row>-<fold>-seed<N>` into one line a row.

    Args:
        runs: run folders.
        split: the split that was scored.
        decoder: the decoder that was used.
        protocol: which protocol, where runs were scored with several.
        metric: "wra" or "wer": of the intervals, the differences and the folds.
        baseline: the row that every other row is compared with.
        oracle: see `fold_runs.read_rows`.

    Raises:
        UserError: where the runs do not make a table (see `fold_runs.read_rows`), or no row is the baseline.

    Example:
        >>> print(fold_table(Path("runs/fsdd-loo").glob("*-seed?"), baseline="label-only").page().markdown())
    """
    if metric not in METRICS:
        raise UserError(f"unknown metric '{metric}'", expected=f"one of {', '.join(METRICS)}")
    rows = read_rows(runs, split, decoder, protocol, oracle, metric)
    folds = tuple(rows[0].runs)
    lines = [_line(row, folds, metric) for row in rows]
    if baseline is not None:
        lines = _compared(lines, folds, metric, baseline)
    return FoldTable(tuple(lines), folds, metric, baseline, _caption(rows, folds, decoder, split, metric, baseline))


# -- figures ---------------------------------------------------------------------------------------------------


def _line(row: FoldRow, folds: Sequence[str], metric: str) -> FoldLine:
    rates = {name: mean(row.rate(name, fold) for fold in folds) for name in METRICS}
    spread = {name: _spread(row, folds, name) for name in METRICS}
    low, high = rate_of_system([row.outcomes[metric][fold] for fold in folds]).interval
    low, high = max(0.0, low), high if metric == "wer" else min(1.0, high)
    return FoldLine(row, rates, spread, (1.0 - high, 1.0 - low) if metric == "wra" else (low, high))


def _spread(row: FoldRow, folds: Sequence[str], metric: str) -> float | None:
    seeds = [[run.seed for run in row.runs[fold]] for fold in folds]
    if any(other != seeds[0] for other in seeds) or len(seeds[0]) < 2:
        return None
    by_seed = zip(*(row.outcomes[metric][fold].rates for fold in folds), strict=True)
    return stdev(float(mean(rates)) for rates in by_seed)


def _compared(lines: Sequence[FoldLine], folds: Sequence[str], metric: str, baseline: str) -> list[FoldLine]:
    """The lines with their differences to the baseline, the p-values corrected for the number of rows."""
    names = [line.row.name for line in lines]
    if baseline not in names:
        raise UserError(f"no row is called '{baseline}'", expected=f"one of {', '.join(names)}", fix="name one of them")
    base = lines[names.index(baseline)]
    others = [line for line in lines if line is not base]
    differences = [_difference(line.row, base.row, folds, metric) for line in others]
    adjusted = holm([difference.p_value for difference in differences])
    found = {
        line.row.name: replace(line, difference=difference, p_value=p_value)
        for line, difference, p_value in zip(others, differences, adjusted, strict=True)
    }
    return [found.get(line.row.name, line) for line in lines]


def _difference(ours: FoldRow, theirs: FoldRow, folds: Sequence[str], metric: str) -> Estimate:
    pairs = [(ours.outcomes[metric][fold], theirs.outcomes[metric][fold]) for fold in folds]
    # The errors' difference, turned round: more words right is a plus.
    return compare_systems([pair[::-1] for pair in pairs] if metric == "wra" else pairs)


# -- showing ---------------------------------------------------------------------------------------------------


def _caption(
    rows: Sequence[FoldRow], folds: Sequence[str], decoder: str, split: str, metric: str, baseline: str | None
) -> str:
    first = rows[0].runs[folds[0]][0]
    sizes = ", ".join(f"{fold} {rows[0].runs[fold][0].score['utterances']:,}" for fold in folds)
    text = (
        f"Corpus {first.results['corpus']}, split {split}, decoder {decoder}, protocol {first.score['protocol']}; "
        f"utterances by fold: {sizes}. Rates in %, means over folds of the means over seeds; "
        f"+- is the standard deviation over seeds; the interval of the {metric.upper()} (95 %) and the tests draw "
        "seeds and utterances anew, for the speakers as they are."
    )
    shared = any(len(set(run.units.values())) < len(run.units) for row in rows for run in row.runs[folds[0]])
    text += " Recordings of one utterance are drawn together." if shared else ""
    if baseline is not None:
        count = len(rows) - 1
        text += (
            f" Differences are to {baseline}, with their own interval; p is Holm's, for {count} "
            f"comparison{'' if count == 1 else 's'}."
        )
    if any(len(runs) < 2 for row in rows for runs in row.runs.values()):
        text += " Rows with a single seed: nothing is known of the chance of the seed, p is too small there."
    return text


def _row_columns(table: FoldTable) -> Table:
    header = ["row", "parameters", "teachers", "aggregation", "epochs", "steps", "seconds", "runs"]
    header += ["WRA", "+-", "WER", "+-", f"{table.metric.upper()} 95 % interval"]
    header += ["difference", "its interval", "p"] if table.baseline else []
    numeric = [False, True, True, False] + [True] * (len(header) - 4)
    return Table(header, [_cells(table, line) for line in table.lines], numeric)


def _cells(table: FoldTable, line: FoldLine) -> list[str]:
    facts = facts_of(line)
    cells = [line_name(line), f"{facts['parameters']:,}", str(facts["teachers"] or NOTHING)]
    cells += [facts["aggregation"] or NOTHING, _number(facts["epochs"]), _number(facts["steps"])]
    cells += [_number(facts["seconds"]), str(facts["runs"])]
    for metric in METRICS:
        spread = line.spread[metric]
        cells += [percent(line.rates[metric]), NOTHING if spread is None else percent(spread)]
    cells.append(shown_range(line.interval))
    if table.baseline:
        cells += [NOTHING] * 3 if line.difference is None else _difference_cells(line)
    return cells


def _difference_cells(line: FoldLine) -> list[str]:
    assert line.difference is not None and line.p_value is not None
    shown = f"{100 * line.difference.value:+.2f}"
    return [shown, shown_range(line.difference.interval), shown_p(line.p_value)]


def _fold_columns(table: FoldTable) -> Table:
    cells = []
    for line in table.lines:
        shown = [percent(line.row.rate(table.metric, fold)) for fold in table.folds]
        if line.row.chosen:
            shown = [f"{rate} ({line.row.chosen[fold]})" for rate, fold in zip(shown, table.folds, strict=True)]
        cells.append([line_name(line), *shown])
    return Table(["row", *table.folds], cells, [False] + [True] * len(table.folds))


def line_name(line: FoldLine) -> str:
    """The row's name; said loudly where its training has heard the speakers it is tested on."""
    heard = any(run.results.get("untranscribed", {}).get("transductive") for run in runs_of(line))
    return line.row.name + (" (transductive)" if heard else "")


def facts_of(line: FoldLine) -> dict[str, Any]:
    """What the row cost, means over its runs: parameters, teachers, epochs, steps, seconds; None where not known."""
    runs = runs_of(line)
    costs = [run.results.get("training", {}) for run in runs]
    return {
        "parameters": round(mean(run.results["model"]["parameters"] for run in runs)),
        "teachers": round(mean(len(run.results["teachers"]) for run in runs)),
        "aggregation": "/".join(dict.fromkeys(run.aggregation for run in runs if run.aggregation)),
        "runs": len(runs),
        **{key: _mean([cost.get(key) for cost in costs]) for key in ("epochs", "steps", "seconds")},
    }


def runs_of(line: FoldLine) -> list[FoldRun]:
    """All runs of a line."""
    return [run for runs in line.row.runs.values() for run in runs]


def _csv_line(table: FoldTable, line: FoldLine) -> dict[str, Any]:
    found: dict[str, Any] = {"row": line_name(line), **facts_of(line)}
    for metric in METRICS:
        found |= {metric: line.rates[metric], f"{metric}_seed_sd": line.spread[metric]}
    found |= {f"{table.metric}_ci95_low": line.interval[0], f"{table.metric}_ci95_high": line.interval[1]}
    if table.baseline:
        difference = line.difference
        low, high = difference.interval if difference else (None, None)
        found |= {"baseline": table.baseline, "difference": difference.value if difference else None}
        found |= {"difference_ci95_low": low, "difference_ci95_high": high}
        found |= {"p": difference.p_value if difference else None, "p_holm": line.p_value}
    return found | {f"{metric}_{fold}": line.row.rate(metric, fold) for metric in METRICS for fold in table.folds}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.1f}".removesuffix(".0")
