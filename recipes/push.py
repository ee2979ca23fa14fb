"""Publish a finished run on the hub: student, processor, code, card, results; private unless told otherwise.

python recipes/push.py --run runs/fsdd/student --repository owner/fsdd-student --dry_run true
python recipes/push.py --run runs/fsdd/student --repository owner/fsdd-student --license cc-by-sa-4.0
"""

from __future__ import annotations

from kd_asr_slr.command_line import parse
from kd_asr_slr.errors import run_recipe
from kd_asr_slr.tool_arguments import PushArguments


def main() -> None:
    """Parse, list the files, send them in one commit."""
    (arguments,) = parse([PushArguments], description=__doc__)

    from kd_asr_slr.hub.destination import Destination
    from kd_asr_slr.hub.push import push_run
    from kd_asr_slr.reporting.run_folder import RunFolder
    from kd_asr_slr.training.terminal import quiet_libraries

    quiet_libraries()
    push_run(
        RunFolder(arguments.run),
        Destination(arguments.repository, private=arguments.private, update=arguments.update),
        dry_run=arguments.dry_run,
        predictions=arguments.predictions,
        licence=arguments.license,
    )


if __name__ == "__main__":
    run_recipe(main)
