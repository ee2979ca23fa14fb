"""A table of runs, declared in one YAML file: rows of one recipe each, for every fold (held-out speaker) and seed.

Runs are folders `<runs>/<row>-<fold>-seed<seed>`, so that `recipes/compare.py --folds` makes the table. A row may use
what the rows above it have made: `{runs}`, `{fold}` and `{seed}` are filled in, and so is `{next}`, the fold after the
run's own, the first after the last. "{others}" in a list is all other folds, "{rest}" those of them that are not
`{next}`. A finished run is not done again.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import runpy
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kd_asr_slr.corpora.row_folder import discard_rows
from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.files import write_text

KEYS = ("runs", "folds", "seeds", "common", "rows")
ROW_KEYS = ("recipe", "folds", "seeds", "options")


@dataclass(frozen=True)
class PlannedRun:
    """One run of the table.

    Attributes:
        row: name of the row.
        fold: what is held out.
        seed: the run's seed.
        recipe: name of a file in recipes, without its suffix.
        options: what the recipe is told, as a YAML file would.
        folder: the run folder.
    """

    row: str
    fold: str
    seed: int
    recipe: str
    options: Mapping[str, Any]
    folder: Path


def read_experiment(path: str | Path) -> dict[str, list[PlannedRun]]:
    """The runs of each row, in the order of the file.

    Args:
        path: YAML with `runs` (a folder), `folds`, `seeds`, `common` (options of every run) and `rows`: name ->
            `recipe`, `options` and, where they differ, its own `folds` and `seeds`.

    Raises:
        UserError: for a file that cannot be read, unknown keys, a recipe that is not there, or a placeholder that is
            not known.

    Example:
        >>> rows = read_experiment("configs/fsdd/leave_one_out.yaml")
        >>> [run.folder.name for run in rows["generalist"]][:2]
        ['generalist-jackson-seed1', 'generalist-jackson-seed2']
    """
    plan = _read(Path(path))
    raise_all(_problems(plan), f"the experiment {path}")
    return {
        name: [
            _planned(plan, name, str(fold), int(seed))
            for fold, seed in itertools.product(row.get("folds", plan["folds"]), row.get("seeds", plan["seeds"]))
        ]
        for name, row in plan["rows"].items()
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        plan = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"the experiment {path} cannot be read ({reason})", expected="a YAML file") from error
    if not isinstance(plan, dict):
        raise UserError(f"the experiment {path} is no mapping", expected=f"the keys {', '.join(KEYS)}")
    return plan


def _problems(plan: Mapping[str, Any]) -> list[str]:
    missing = [f"'{key}' is missing" for key in KEYS if not plan.get(key)]
    unknown = [f"unknown key '{key}'; expected {', '.join(KEYS)}" for key in plan if key not in KEYS]
    if missing or unknown or not isinstance(plan["rows"], dict):
        return missing + unknown or ["'rows' is no mapping of names to rows"]
    problems = []
    for name, row in plan["rows"].items():
        if not isinstance(row, dict) or "recipe" not in row:
            problems.append(f"row '{name}' names no recipe")
            continue
        problems += [
            f"row '{name}': unknown key '{key}'; expected {', '.join(ROW_KEYS)}" for key in set(row) - {*ROW_KEYS}
        ]
        if not recipe_file(str(row["recipe"])).is_file():
            problems.append(f"row '{name}': there is no recipe '{row['recipe']}'")
    return problems


def recipe_file(name: str) -> Path:
    """The program of a recipe, beside the one that runs."""
    return Path(sys.argv[0]).resolve().parent / f"{name}.py"


def _planned(plan: Mapping[str, Any], name: str, fold: str, seed: int) -> PlannedRun:
    row = plan["rows"][name]
    folder = Path(plan["runs"]) / f"{name}-{fold}-seed{seed}"
    options = {**plan["common"], **row.get("options", {}), "seed": seed, "output_dir": str(folder)}
    folds = [str(other) for other in plan["folds"]]
    after = folds[(folds.index(fold) + 1) % len(folds)] if fold in folds else folds[0]
    others = [other for other in folds if other != fold]
    marks = {"{runs}": str(plan["runs"]), "{fold}": fold, "{next}": after, "{seed}": str(seed)}
    lists = {"{others}": others, "{rest}": [other for other in others if other != after]}
    return PlannedRun(name, fold, seed, row["recipe"], _filled(options, marks, lists), folder)


def _filled(value: Any, marks: Mapping[str, str], lists: Mapping[str, Sequence[str]]) -> Any:
    """The value with its placeholders filled in, wherever a text stands in it; some are several items of a list."""
    if isinstance(value, str):
        for mark, text in marks.items():
            value = value.replace(mark, text)
        return value
    if isinstance(value, dict):
        return {key: _filled(item, marks, lists) for key, item in value.items()}
    if isinstance(value, list):
        return [part for item in value for part in _items(item, marks, lists)]
    return value


def _items(item: Any, marks: Mapping[str, str], lists: Mapping[str, Sequence[str]]) -> Sequence[Any]:
    """What stands for one item of a list."""
    return lists[item] if isinstance(item, str) and item in lists else [_filled(item, marks, lists)]


def chosen(rows: Mapping[str, list[PlannedRun]], names: Sequence[str] | None) -> dict[str, list[PlannedRun]]:
    """The rows of these names, in the order of the file; all of them where none are named.

    Raises:
        UserError: for a name that is no row.
    """
    unknown = [name for name in names or () if name not in rows]
    if unknown:
        raise UserError(f"there is no row {', '.join(unknown)}", expected=f"one of {', '.join(rows)}")
    return {name: runs for name, runs in rows.items() if not names or name in names}


def run_all(rows: Mapping[str, Sequence[PlannedRun]], jobs: int) -> Iterator[tuple[PlannedRun, bool]]:
    """Do the runs, row by row (a row may need the ones above it), several of a row at once.

    Each run is a process forked from this one, so that the libraries are imported once; what it prints is in
    `<runs>/logs/<name of the run folder>.log`.

    Args:
        rows: from `read_experiment`.
        jobs: runs at once.

    Yields:
        Each run, and whether it came to its end. A row with a run that failed is the last one.
    """
    fork = multiprocessing.get_context("fork")
    for runs in rows.values():
        whole = True
        with ProcessPoolExecutor(jobs, mp_context=fork) as pool:
            for run, succeeded in zip(runs, pool.map(run_one, runs), strict=True):
                whole = whole and succeeded
                yield run, succeeded
        if not whole:
            return


def run_one(run: PlannedRun) -> bool:
    """Do one run in a process of its own; true where it came to its end."""
    logs = run.folder.parent / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    config = logs / f"{run.folder.name}.yaml"
    write_text(config, yaml.safe_dump(dict(run.options), sort_keys=False))
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            code = _run_here(run, config, logs / f"{run.folder.name}.log")
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _run_here(run: PlannedRun, config: Path, log: Path) -> int:
    program = recipe_file(run.recipe)
    with log.open("a", encoding="utf-8") as stream, redirect_stdout(stream), redirect_stderr(stream):
        os.dup2(stream.fileno(), 1)  # what libraries in C write goes there too
        os.dup2(stream.fileno(), 2)
        sys.argv = [str(program), "--config", str(config)]
        try:
            runpy.run_path(str(program), run_name="__main__")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:
            traceback.print_exc()
            return 1
        finally:
            discard_rows()
            stream.flush()
    return 0
