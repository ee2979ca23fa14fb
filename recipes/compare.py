"""One table over several runs, made from their folders.

python recipes/compare.py runs/fsdd/baseline runs/fsdd/student --split test
python recipes/compare.py runs/demo/speech-student runs/demo/sign-student --overview
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kd_asr_slr.errors import run_recipe
from kd_asr_slr.files import write_text
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
    parser.add_argument("--output", type=Path, help="also write the table to this file (.md or .csv)")
    arguments = parser.parse_args()
    if arguments.overview:
        table = overview_table(arguments.runs, arguments.split)
    elif arguments.seeds:
        table = seed_table(arguments.runs, arguments.split)
    else:
        table = comparison_table(arguments.runs, arguments.split, arguments.decoder)
    print(table)
    if arguments.output and arguments.output.suffix == ".csv":
        table = comparison_csv(arguments.runs, arguments.split, arguments.decoder)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        write_text(arguments.output, table)


if __name__ == "__main__":
    run_recipe(main)
