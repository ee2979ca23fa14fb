"""Do all runs of a declared table: every row, for every held-out speaker and seed; finished ones are not done again.

python recipes/experiment.py configs/fsdd/leave_one_out.yaml --jobs 2
python recipes/compare.py runs/fsdd-loo/*-seed? --folds --baseline label-only
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from kd_asr_slr.errors import run_recipe
from kd_asr_slr.progress import Progress, say


def main() -> None:
    """Read the table, do its runs, say what failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path, metavar="FILE.yaml", help="the declared table")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="only these rows; default: all")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once (default: 1)")
    arguments = parser.parse_args()

    from kd_asr_slr.training import session  # noqa: F401  imported once, before the runs are forked
    from kd_asr_slr.training.experiment import chosen, read_experiment, run_all

    rows = chosen(read_experiment(arguments.experiment), arguments.rows)
    started = time.monotonic()
    failed = []
    done = Progress(run_all(rows, max(1, arguments.jobs)), "runs", "runs", total=sum(map(len, rows.values())))
    for run, succeeded in done:
        minutes = (time.monotonic() - started) / 60
        say(f"{minutes:6.1f} min  {run.folder}  {'done' if succeeded else 'FAILED'}")
        failed += [] if succeeded else [run]
    for run in failed:
        print(f"{run.folder} failed; what it said: {run.folder.parent}/logs/{run.folder.name}.log", file=sys.stderr)
    sys.exit(2 if failed else 0)


if __name__ == "__main__":
    run_recipe(main)
