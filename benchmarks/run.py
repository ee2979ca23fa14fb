"""Run every benchmark of this folder, one after the other, and say at the end which bars are met.

python benchmarks/run.py [--quick] [NAME ...]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The benchmarks: every other script of the folder that has a `main`."""
    scripts = sorted(path for path in FOLDER.glob("*.py") if path != Path(__file__))
    return [path.stem for path in scripts if "\ndef main(" in path.read_text(encoding="utf-8")]


def main() -> int:
    """The exit status: 1 where a benchmark failed or two sides disagreed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("names", nargs="*", help="all of them where none is named")
    options = parser.parse_args()
    failed = []
    for name in options.names or names():
        flags = ["--quick"] if options.quick else []
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, str(FOLDER / f"{name}.py"), *flags]).returncode:
            failed.append(name)
    passed = missed = 0
    for name in options.names or names():
        result = FOLDER / "results" / f"{name}.json"
        rows = json.loads(result.read_text(encoding="utf-8"))["rows"] if result.is_file() else []
        passed += sum(row["passed"] is True for row in rows)
        for row in rows:
            if row["passed"] is False:
                missed += 1
                print(f"missed  {name}: {row['question']}: {row['reached']:.4g}, {row['rule']} {row['bar']:g}")
    print(f"\n{passed} bars met, {missed} missed" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
