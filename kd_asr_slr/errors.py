"""The one exception a user's mistake may raise, and the recipes' way of ending on it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from kd_asr_slr.progress import Progress


class UserError(Exception):
    """Something the user gave cannot be used: one clear sentence, no traceback, exit code 2.

    Args:
        found: what was found, with the value and where it stands.
        expected: what was expected instead.
        fix: what to type or change.

    Example:
        >>> str(UserError("row 7 has no 'speaker'", expected="a speaker in every row", fix="fill the column"))
        "row 7 has no 'speaker'; expected a speaker in every row. To fix it: fill the column."
    """

    def __init__(self, found: str, expected: str = "", fix: str = "") -> None:
        sentence = found.rstrip().rstrip(".")
        if expected:
            sentence += f"; expected {expected.rstrip('.')}"
        sentence += "."
        if fix:
            sentence += f" To fix it: {fix.rstrip('.')}."
        super().__init__(sentence)


def raise_all(problems: Sequence[str], title: str) -> None:
    """Raise one `UserError` that lists every problem; do nothing where there is none.

    Args:
        problems: one sentence a problem.
        title: what was being checked, e.g. "the manifest data/train.csv".

    Raises:
        UserError: if there is at least one problem.
    """
    if not problems:
        return
    if len(problems) == 1:
        raise UserError(f"{title}: {problems[0]}")
    lines = "\n".join(f"  {number}. {problem}" for number, problem in enumerate(problems, 1))
    raise UserError(f"{title}: {len(problems)} problems\n{lines}")


def run_recipe(main: Callable[[], None]) -> None:
    """Run a recipe's `main`; a `UserError` becomes one message on stderr and exit code 2.

    Args:
        main: the recipe, without arguments (it reads `sys.argv` itself).
    """
    try:
        main()
    except UserError as error:
        # A loader worker hands its error over as the text of its traceback; the sentence stands at the end of it.
        sentence = str(error).rpartition(f"{UserError.__module__}.UserError: ")[2].strip()
        Progress.close_all()
        print(f"error: {sentence}", file=sys.stderr, flush=True)
        sys.exit(2)
