"""One table over several runs, made from their folders.

python recipes/compare.py runs/fsdd/baseline runs/fsdd/student --split test
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kd_asr_slr.errors import run_recipe
from kd_asr_slr.reporting.tables import comparison_table


def main() -> None:
    """Read the run folders, print their table, write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    parser.add_argument("--split", default="test", help="split whose scores are compared")
    parser.add_argument("--decoder", default="greedy", help="decoder whose scores are compared")
    parser.add_argument("--output", type=Path, help="also write the table to this file (.md or .csv)")
    arguments = parser.parse_args()
    print(comparison_table(arguments.runs, split=arguments.split, decoder=arguments.decoder))


if __name__ == "__main__":
    run_recipe(main)
