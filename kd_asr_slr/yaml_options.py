"""A YAML file of options, read as it is written: `01` stays a name, `no` a word, `1e-4` a number, no key stands twice.

PyYAML alone reads YAML 1.1, where `01` is 1, `no` is false and `1e-4` is a text, and keeps the last of two equal keys.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from kd_asr_slr.errors import UserError

Words = list[str] | None  # the words an option has, as on a command line; None where it is null

# The scalars of JSON (and of YAML 1.2), for values inside a mapping; options themselves are typed by their dataclass.
_NULL = ("", "null", "Null", "NULL", "~")
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def read_yaml_options(path: Path) -> tuple[dict[str, Words], list[str]]:
    """The options of a YAML file in the form of a command line: key -> words.

    A scalar is one word, as it is written; a list one word an item; a mapping one word, its JSON, in a list too.

    Args:
        path: the file, UTF-8.

    Returns:
        The options, and sentences about keys that stand there twice and values that can be no option's.

    Raises:
        UserError: if the file is missing or no YAML mapping.

    Example:
        >>> read_yaml_options(Path("student.yaml"))[0]  # doctest: +SKIP
        {'learning_rate': ['1e-4'], 'train_speakers': ['01', '02'], 'layer_map': ['{"1": 2}'], 'run_name': None}
    """
    root = _composed(path)
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path} holds {_kind(root)}", expected="a mapping of option: value")
    problems: list[str] = []
    options = {key: _words(key, node, problems) for key, node in _items(root, problems)}
    return options, problems


def _composed(path: Path) -> yaml.Node | None:
    try:
        return yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise UserError(f"there is no configuration file {path}", fix="give an existing file to --config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the configuration file {path} cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML ({' '.join(str(error).split())})") from None


def _items(mapping: yaml.MappingNode, problems: list[str]) -> list[tuple[str, yaml.Node]]:
    """The entries of a mapping; keys that are no scalar, or stand there twice, become problems."""
    first: dict[str, int] = {}
    items = []
    for key_node, node in mapping.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(f"line {line}: a key is {_kind(key_node)}; expected a name")
            continue
        key = key_node.value
        if key in first:
            problems.append(f"line {line}: '{key}' was already set on line {first[key]}; leave one of the two out")
            continue
        first[key] = line
        items.append((key, node))
    return items


def _words(key: str, node: yaml.Node, problems: list[str]) -> Words:
    if isinstance(node, yaml.ScalarNode):
        return None if _is_null(node) else [node.value]
    if isinstance(node, yaml.MappingNode):
        return [json.dumps(_value(node, problems), ensure_ascii=False)]
    words = []
    for item in node.value:
        if isinstance(item, yaml.MappingNode):
            words.append(json.dumps(_value(item, problems), ensure_ascii=False))
        elif isinstance(item, yaml.ScalarNode) and not _is_null(item):
            words.append(item.value)
        else:
            line = item.start_mark.line + 1
            problems.append(f"line {line}: an item of '{key}' is {_kind(item)}; expected one value an item")
    return words


def _value(node: yaml.Node, problems: list[str]) -> Any:
    """The value of a node inside a mapping."""
    if isinstance(node, yaml.MappingNode):
        return {key: _value(item, problems) for key, item in _items(node, problems)}
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, problems) for item in node.value]
    return _scalar(node) if isinstance(node, yaml.ScalarNode) else None


def _scalar(node: yaml.ScalarNode) -> Any:
    text = node.value
    if node.style is not None:  # quoted, or a block
        return text
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in _NULL


def _kind(node: yaml.Node | None) -> str:
    if node is None or _is_null(node):
        return "nothing"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) else f"the single value '{node.value}'"
