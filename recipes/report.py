"""One HTML file about a run, or about several side by side: tables, curves, errors, teachers, utterances.

python recipes/report.py runs/demo/speech-student
python recipes/report.py runs/fsdd/baseline runs/fsdd/student --baseline baseline --output runs/fsdd/report.html
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kd_asr_slr.errors import run_recipe
from kd_asr_slr.reporting.html_report.contents import Limits, report_contents
from kd_asr_slr.reporting.html_report.page import write_report
from kd_asr_slr.reporting.run_folder import RunFolder


def main() -> None:
    """Read the run folders, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="run folders; the first decides what is shown"
    )
    parser.add_argument("--split", default="test", help="split whose scores are shown (default: test)")
    parser.add_argument("--decoder", default="greedy", help="decoder whose output is aligned (default: greedy)")
    parser.add_argument("--protocol", help="scoring protocol, where the runs were scored by several")
    parser.add_argument("--baseline", metavar="RUN", help="run that every other one is tested against")
    parser.add_argument("--target_wer", type=float, metavar="RATE", help="WER to reach, a fraction; default: the run's")
    parser.add_argument("--worst", type=int, default=30, metavar="N", help="utterances with the most errors (30)")
    parser.add_argument("--best", type=int, default=10, metavar="N", help="utterances with the fewest errors (10)")
    parser.add_argument("--media_mb", type=float, default=4.0, metavar="MB", help="recordings and drawings in all (4)")
    parser.add_argument("--no_media", action="store_true", help="leave out recordings and drawings of landmarks")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the file (default: report.html in the first run)")
    arguments = parser.parse_args()
    if arguments.target_wer is not None and not 0 <= arguments.target_wer <= 1:
        parser.error(f"--target_wer is {arguments.target_wer:g}; expected a fraction between 0 and 1")
    if min(arguments.worst, arguments.best, arguments.media_mb) < 0:
        parser.error("--worst, --best and --media_mb are amounts; expected 0 or more")
    output = arguments.output or arguments.runs[0] / "report.html"
    if output.suffix != ".html" or output.is_dir():
        parser.error(f"--output is {output}; expected a file that ends in .html")
    contents = report_contents(
        arguments.runs,
        arguments.split,
        arguments.decoder,
        arguments.protocol,
        baseline=arguments.baseline,
        media=None if arguments.no_media else media_of(arguments.runs[0]),
        limits=Limits(worst=arguments.worst, best=arguments.best, media_mb=arguments.media_mb),
        target_wer=arguments.target_wer,
    )
    write_report(contents, output)
    for note in contents.notes:
        print(f"not shown: {note}")
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, {len(contents.utterances)} of {contents.total} utterances")


def media_of(path: Path) -> dict[str, str]:
    """The files of a run's utterances; a folder that is no run is named by what reads it next."""
    if not (path / "resolved_config.yaml").is_file():
        return {}
    from kd_asr_slr.training.media_files import media_files

    return media_files(RunFolder(path).config())


if __name__ == "__main__":
    run_recipe(main)
