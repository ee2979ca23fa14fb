"""From a YAML file and a command line to argument dataclasses, with every problem reported at once."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from transformers import HfArgumentParser

from kd_asr_slr.errors import UserError, raise_all


class _Parser(HfArgumentParser):
    """An `HfArgumentParser` whose errors can be collected instead of ending the program at the first one."""

    def error(self, message: str) -> NoReturn:
        raise _ArgumentProblem(message)


class _ArgumentProblem(Exception):
    pass


def parse(classes: Sequence[type], argv: Sequence[str] | None = None, description: str = "") -> tuple[Any, ...]:
    """Read `--config FILE.yaml` and the command line into one instance of each class.

    Values of the command line win over those of the YAML file; the classes hold every default.

    Args:
        classes: argument dataclasses, each with a method `problems() -> list[str]`.
        argv: the command line without the program's name; default `sys.argv[1:]`.
        description: first lines of `--help`.

    Returns:
        One instance per class, in their order.

    Raises:
        UserError: one error that lists every unknown key, every value of the wrong type, and every value that the
            classes refuse.

    Example:
        >>> data, = parse([DataArguments], ["--corpus", "synthetic_speech", "--data_dir", "data/speech"])
        >>> data.corpus
        'synthetic_speech'
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    usage = "%(prog)s --config FILE.yaml [--option value ...]"
    parser = _Parser(classes, usage=usage, description=description, formatter_class=argparse.HelpFormatter)
    parser.add_argument("--config", help="YAML file with any of the options below; the command line wins over it")
    if {"-h", "--help"} & set(argv):
        parser.print_help()
        sys.exit(0)
    groups, problems = _grouped(argv)
    config = next((values[-1] for key, values in reversed(groups) if key == "config" and values), None)
    tokens = _yaml_groups(Path(config)) if config else []
    tokens += [("the command line", key, values) for key, values in groups if key != "config"]
    values, found = _convert(parser, tokens)
    problems += found
    instances, found = _instantiate(classes, values)
    problems += found
    raise_all(problems, "the configuration")
    return tuple(instances)


def as_dict(value: dict[str, Any] | str | None) -> dict[str, Any]:
    """A dict-valued argument: a dict, its JSON, or nothing. (`parse` has checked that the JSON is an object.)"""
    if value is None or value == "":
        return {}
    return json.loads(value) if isinstance(value, str) else dict(value)


def resolved(*instances: Any) -> dict[str, Any]:
    """Every argument of a run as plain JSON values, to be written into its folder."""
    values: dict[str, Any] = {}
    for instance in instances:
        for item in dataclasses.fields(instance):
            if item.init:
                values[item.name] = _plain(getattr(instance, item.name))
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("{"):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    if hasattr(value, "value"):  # an enumeration of transformers
        return value.value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _grouped(argv: Sequence[str]) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """Split a command line into (key, values) groups, and name words that belong to no option."""
    groups: list[tuple[str, list[str]]] = []
    problems = []
    for word in argv:
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            groups.append((key.replace("-", "_"), [value] if equals else []))
        elif groups:
            groups[-1][1].append(word)
        else:
            problems.append(f"'{word}' stands before any option; expected --name value")
    return groups, problems


def _yaml_groups(path: Path) -> list[tuple[str, str, list[str]]]:
    """The YAML file as (origin, key, values) groups, in the form of a command line."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no configuration file {path}", fix="give an existing file to --config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the configuration file {path} cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}", expected="a mapping of option: value")
    return [(str(path), str(key), _words(value)) for key, value in content.items() if value is not None]


def _words(value: Any) -> list[str]:
    if isinstance(value, bool):
        return [str(value).lower()]
    if isinstance(value, dict):
        return [json.dumps(value)]
    if isinstance(value, list):
        return [str(item) for item in value]
    return [str(value)]


def _convert(parser: _Parser, tokens: Iterable[tuple[str, str, list[str]]]) -> tuple[dict[str, Any], list[str]]:
    """Each group through the parser on its own, so that one wrong value does not hide the next."""
    known = {option[2:] for option in parser._option_string_actions if option.startswith("--")}
    values: dict[str, Any] = {}
    problems = []
    for origin, key, words in tokens:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            problems.append(f"{origin}: unknown option '{key}'" + (f"; did you mean '{close[0]}'?" if close else ""))
            continue
        action = parser._option_string_actions[f"--{key}"]
        if not words and action.nargs == "+":
            values[action.dest] = []
            continue
        try:
            parsed, extra = parser.parse_known_args(
                [f"--{key}={words[0]}"] if len(words) == 1 else [f"--{key}", *words]
            )
        except _ArgumentProblem as problem:
            problems.append(f"{origin}: {problem}")
            continue
        if extra:
            problems.append(f"{origin}: '{key}' takes one value; found {' '.join(words)}")
            continue
        value = getattr(parsed, action.dest)
        problems += _json_problems(origin, key, action, value)
        values[action.dest] = value
    return values, problems


def _json_problems(origin: str, key: str, action: argparse.Action, value: Any) -> list[str]:
    if "as JSON" not in (action.help or "") or not isinstance(value, str):
        return []
    try:
        content = json.loads(value)
    except json.JSONDecodeError as error:
        return [f"{origin}: '{key}' is not valid JSON ({error})"]
    return [] if isinstance(content, dict) else [f"{origin}: '{key}' is not a JSON object: {value}"]


def _instantiate(classes: Sequence[type], values: dict[str, Any]) -> tuple[list[Any], list[str]]:
    instances, problems = [], []
    for cls in classes:
        names = {item.name for item in dataclasses.fields(cls) if item.init}
        try:
            instance = cls(**{name: value for name, value in values.items() if name in names})
        except (ValueError, TypeError) as error:  # transformers checks in its constructor and stops at the first
            problems.append(" ".join(str(error).split()))
            continue
        problems += instance.problems()
        instances.append(instance)
    return instances, problems
