"""Look at a corpus before training on it: counts against the known ones, every file read, a manifest of what is good.

python recipes/prepare_data.py --corpus phoenix2014 --data_dir phoenix2014-release \
  --corpus_options '{"features_dir": "features/npz"}' --output runs/phoenix/manifest.csv

Everything wrong is listed, then the exit code is 2. Keypoint pickles are converted to one file an utterance, once.
"""

from __future__ import annotations

import sys

from kd_asr_slr.arguments import DataArguments
from kd_asr_slr.command_line import parse
from kd_asr_slr.errors import run_recipe
from kd_asr_slr.tool_arguments import PrepareArguments


def main() -> None:
    """Parse, look, print, write the manifest where asked."""
    data, prepare_arguments = parse([DataArguments, PrepareArguments], description=__doc__)

    from kd_asr_slr.corpora.integrity import render
    from kd_asr_slr.training.preparation import prepare
    from kd_asr_slr.training.terminal import quiet_libraries

    quiet_libraries()
    report = prepare(data, prepare_arguments.output)
    print(render(report))
    if report.problems:
        sys.exit(2)


if __name__ == "__main__":
    run_recipe(main)
