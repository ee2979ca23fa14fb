"""`python -m kd_asr_slr`: the version, and whether this installation can work."""

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
    parser.parse_args()

    from kd_asr_slr.installation import diagnose

    lines, ready = diagnose()
    print("\n".join(lines))
    sys.exit(0 if ready else 2)


if __name__ == "__main__":
    main()
