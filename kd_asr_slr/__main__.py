"""`python -m kd_asr_slr`: the version, whether this installation can work, where its configs and recipes lie."""

from __future__ import annotations

import argparse
import sys

from kd_asr_slr import __version__


def main() -> None:
    """Print what is asked for; exit code 2 where the installation is not ready."""
    parser = argparse.ArgumentParser(prog="python -m kd_asr_slr", description="About this installation.")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--version", action="version", version=f"kd_asr_slr {__version__}")
    asked.add_argument(
        "--doctor", action="store_true", help="versions, devices, and what is missing for what; exit code 2: not ready"
    )
    for name in ("configs", "recipes"):
        asked.add_argument(
            f"--{name}", dest="folder", action="store_const", const=name, help=f"the folder that holds the {name}"
        )
    arguments = parser.parse_args()

    from kd_asr_slr.installation import diagnose, folder_of

    if arguments.folder:
        folder = folder_of(arguments.folder)
        print(
            folder or f"error: this installation has no {arguments.folder}", file=sys.stdout if folder else sys.stderr
        )
        sys.exit(0 if folder else 2)
    lines, ready = diagnose()
    print("\n".join(lines))
    sys.exit(0 if ready else 2)


if __name__ == "__main__":
    main()
