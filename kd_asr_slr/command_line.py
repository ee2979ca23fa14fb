"""From a YAML file and a command line to argument dataclasses, with every problem reported at once."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

from transformers import HfArgumentParser

from kd_asr_slr.errors import raise_all
from kd_asr_slr.yaml_options import Words, read_yaml_options


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
    style = argparse.ArgumentDefaultsHelpFormatter
    parser = _Parser(cast(Any, list(classes)), usage=usage, description=description, formatter_class=style)
    parser.add_argument("--config", help="YAML file with any of the options below; the command line wins over it")
    if {"-h", "--help"} & set(argv):
        parser.print_help()
        sys.exit(0)
    groups, problems = _grouped(argv)
    config, found = _configuration(groups)
    problems += found
    tokens: list[tuple[str, str, Words]] = []
    if config is not None:
        options, found = read_yaml_options(config)
        problems += [f"{config}: {problem}" for problem in found]
        tokens += [(str(config), key, words) for key, words in options.items()]
    tokens += [("the command line", key, words) for key, words in groups if key != "config"]
    hints = {name: hint for item in classes for name, hint in typing.get_type_hints(item).items()}
    values, found = _convert(parser, hints, tokens)
    problems += found
    instances, found = _instantiate(classes, values)
    problems += found
    raise_all(problems, "the configuration")
    return tuple(instances)


def as_dict(value: dict[str, Any] | str | None) -> dict[Any, Any]:
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
    if hasattr(value, "to_dict"):  # its AcceleratorConfig
        return _plain(value.to_dict())
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


def _configuration(groups: Sequence[tuple[str, list[str]]]) -> tuple[Path | None, list[str]]:
    """The file that `--config` names, and what is wrong with how it does."""
    given = [word for key, words in groups if key == "config" for word in words]
    if not any(key == "config" for key, _ in groups):
        return None, []
    if len(given) != 1 or not given[0]:
        return None, [f"the command line: --config takes one YAML file; found {' '.join(given) or 'none'}"]
    return Path(given[0]), []


def _convert(
    parser: _Parser, hints: Mapping[str, Any], tokens: Iterable[tuple[str, str, Words]]
) -> tuple[dict[str, Any], list[str]]:
    """Each option through the parser on its own, so that one wrong value does not hide the next."""
    flags = {option[2:] for option in parser._option_string_actions if option.startswith("--")}
    known = {flag for flag in flags - {"config", "help"} if "-" not in flag}
    values: dict[str, Any] = {}
    problems = []
    for origin, key, words in tokens:
        if key not in known:
            problems.append(f"{origin}: unknown option '{key}'{_closest(key, known)}")
            continue
        action = parser._option_string_actions[f"--{key}"]
        try:
            value = None if words is None else _typed(parser, action, key, words, hints.get(action.dest))
        except _ArgumentProblem as problem:
            problems.append(f"{origin}: {problem}")
            continue
        if value is None and not _allows(hints.get(action.dest), type(None)):
            problems.append(f"{origin}: '{key}' is empty; give it a value, or leave it out")
            continue
        values[action.dest] = value
    return values, problems


def _typed(parser: _Parser, action: argparse.Action, key: str, words: list[str], hint: Any) -> Any:
    """The value of one option from its words.

    Raises:
        _ArgumentProblem: if they are none of its type.
    """
    as_json = "as JSON" in (action.help or "")
    if any(word.startswith("{") for word in words) and not as_json and not _allows(hint, dict):
        wanted = "one value" if action.nargs != "+" else "a list" if len(words) == 1 else "one value an item"
        raise _ArgumentProblem(f"'{key}' {'is' if len(words) == 1 else 'has'} a mapping; expected {wanted}")
    if action.nargs == "+":  # word by word, so that one may begin with a dash
        parts = [parser.parse_known_args([f"--{key}={word}"])[0] for word in words]
        items = [item for part in parts for item in getattr(part, action.dest)]
        for item in items if as_json else ():
            _check_json(key, item)
        return items
    if len(words) > 1:
        raise _ArgumentProblem(f"'{key}' takes one value; found {' '.join(words)}")
    value = getattr(parser.parse_known_args([f"--{key}={words[0]}" if words else f"--{key}"])[0], action.dest)
    # transformers takes a file or a preset's name for some of its dictionaries
    if isinstance(value, str) and (as_json or value.startswith("{")):
        _check_json(key, value)
    return value


def _check_json(key: str, value: str) -> None:
    try:
        content = json.loads(value)
    except json.JSONDecodeError as error:
        raise _ArgumentProblem(f"'{key}' is not valid JSON ({error}): {value}") from None
    if not isinstance(content, dict):
        raise _ArgumentProblem(f"'{key}' is not a JSON object: {value}")


def _closest(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key.replace("-", "_"), sorted(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _allows(hint: Any, wanted: type) -> bool:
    """Whether a type hint is `wanted`, or a union with it."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_allows(item, wanted) for item in typing.get_args(hint))
    return wanted in (hint, typing.get_origin(hint))


def _instantiate(classes: Sequence[type], values: dict[str, Any]) -> tuple[list[Any], list[str]]:
    instances, problems = [], []
    for cls in classes:
        names = {item.name for item in dataclasses.fields(cls) if item.init}
        try:
            instance = cls(**{name: value for name, value in values.items() if name in names})
        except (ValueError, TypeError, OSError, ImportError) as error:  # transformers checks in its constructor
            problems.append(" ".join(str(error).split()))
            continue
        problems += instance.problems()
        instances.append(instance)
    return instances, problems
