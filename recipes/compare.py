"""One table over several runs, made from their folders.

python recipes/compare.py runs/fsdd/baseline runs/fsdd/student --split test
python recipes/compare.py runs/demo/speech-student runs/demo/sign-student --overview
python recipes/compare.py runs/fsdd-loo/*-seed? --folds --baseline label-only --output runs/fsdd-loo/table.md
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kd_asr_slr.errors import run_recipe
from kd_asr_slr.files import write_text
from kd_asr_slr.reporting.folds import fold_table
from kd_asr_slr.reporting.overview import overview_table
from kd_asr_slr.reporting.seeds import seed_table
from kd_asr_slr.reporting.tables import comparison_csv, comparison_table


def main() -> None:
    """Read the run folders, print their table, write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    parser.add_argument("--split", default="test", help="split whose scores are compared")
    parser.add_argument("--decoder", default="greedy", help="decoder whose scores are compared")
    parser.add_argument("--overview", action="store_true", help="list every score, of any corpora and decoders")
    parser.add_argument("--seeds", action="store_true", help="fold runs NAME-seedN into mean and spread")
    parser.add_argument("--folds", action="store_true", help="fold runs ROW-HELDOUT-seedN into a line a row")
    parser.add_argument("--baseline", metavar="ROW", help="folds: the row that every other one is compared with")
    parser.add_argument("--metric", default="wra", choices=("wra", "wer"), help="folds: what is tested (default: wra)")
    parser.add_argument("--oracle", metavar="PATTERN", help="folds: only the best of these rows, as 'teacher-*'")
    parser.add_argument("--output", type=Path, help="also write the table to this file (.md or .csv)")
    arguments = parser.parse_args()
    for name in ("baseline", "oracle"):
        if getattr(arguments, name) and not arguments.folds:
            parser.error(f"--{name} goes with --folds")
    table, lines = tables_of(arguments)
    print(table)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        write_text(arguments.output, lines if arguments.output.suffix == ".csv" else table)


def tables_of(arguments: argparse.Namespace) -> tuple[str, str]:
    """The table that is asked for, as Markdown and as CSV."""
    runs, split, decoder = arguments.runs, arguments.split, arguments.decoder
    if arguments.folds:
        chosen = {"metric": arguments.metric, "baseline": arguments.baseline, "oracle": arguments.oracle}
        table = fold_table(runs, split, decoder, **chosen)
        return table.markdown(), table.csv()
    wanted_csv = bool(arguments.output and arguments.output.suffix == ".csv")
    lines = comparison_csv(runs, split, decoder) if wanted_csv else ""
    if arguments.overview:
        return overview_table(runs, split), lines
    if arguments.seeds:
        return seed_table(runs, split), lines
    return comparison_table(runs, split, decoder), lines


if __name__ == "__main__":
    run_recipe(main)
