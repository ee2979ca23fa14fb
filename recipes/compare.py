"""One table over several runs, made from their folders.

python recipes/compare.py runs/fsdd/baseline runs/fsdd/student --baseline baseline
python recipes/compare.py runs/synthetic/*-seed? --seeds --baseline label-only --output table.md table.tex table.json
python recipes/compare.py runs/fsdd/* --baseline baseline --main_decoder beam
python recipes/compare.py runs/demo/speech-student runs/demo/sign-student --overview
python recipes/compare.py runs/fsdd-loo/*-seed? --folds --baseline label-only --output runs/fsdd-loo/table.md
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kd_asr_slr.errors import run_recipe
from kd_asr_slr.reporting.comparison import comparison
from kd_asr_slr.reporting.folds import fold_table
from kd_asr_slr.reporting.overview import overview
from kd_asr_slr.reporting.tables import FORMS, Page


def main() -> None:
    """Read the run folders, print their table, write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    parser.add_argument("--split", default="test", help="split whose scores are compared (default: test)")
    parser.add_argument("--decoder", help="only this decoder's scores; default: every one (folds: greedy)")
    parser.add_argument("--main_decoder", metavar="DECODER", help="whose WRA, errors and tests; default: one all have")
    parser.add_argument("--protocol", help="scoring protocol, where the runs were scored by several")
    parser.add_argument("--baseline", metavar="RUN", help="run (folds: row) that every other one is tested against")
    parser.add_argument("--seeds", action="store_true", help="fold runs NAME-seedN into mean and spread")
    parser.add_argument("--overview", action="store_true", help="list every score, of any corpora and decoders")
    parser.add_argument("--folds", action="store_true", help="fold runs ROW-HELDOUT-seedN into a line a row")
    parser.add_argument("--metric", default="wra", choices=("wra", "wer"), help="folds: what is tested (default: wra)")
    parser.add_argument("--oracle", metavar="PATTERN", help="folds: only the best of these rows, as 'teacher-*'")
    parser.add_argument(
        "--output", type=Path, nargs="+", default=[], metavar="FILE", help=f"write it too: {', '.join(FORMS)}"
    )
    arguments = parser.parse_args()
    if sum((arguments.overview, arguments.seeds, arguments.folds)) > 1:
        parser.error("--overview, --seeds and --folds are three tables; give one of them")
    if arguments.oracle and not arguments.folds:
        parser.error("--oracle goes with --folds")
    if arguments.main_decoder and (arguments.overview or arguments.folds):
        parser.error("--main_decoder is about a line a run with several decoders; leave out --overview and --folds")
    if arguments.baseline and arguments.overview:
        parser.error("--baseline does not go with --overview: nothing is computed between its lines")
    for path in arguments.output:
        if path.suffix not in FORMS:
            parser.error(f"--output {path} has no form; expected a file that ends in {', '.join(FORMS)}")
    page = page_of(arguments)
    print(page.markdown())
    for path in arguments.output:
        page.write(path)


def page_of(arguments: argparse.Namespace) -> Page:
    """The table that is asked for."""
    runs, split, baseline = arguments.runs, arguments.split, arguments.baseline
    if arguments.overview:
        return overview(runs, split)
    if arguments.folds:
        decoder, chosen = arguments.decoder or "greedy", {"metric": arguments.metric, "oracle": arguments.oracle}
        return fold_table(runs, split, decoder, arguments.protocol, baseline=baseline, **chosen).page()
    chosen = {"baseline": baseline, "seeds": arguments.seeds, "main": arguments.main_decoder}
    return comparison(runs, split, arguments.decoder, arguments.protocol, **chosen)


if __name__ == "__main__":
    run_recipe(main)
