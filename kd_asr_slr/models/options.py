"""Which options a configuration has, and whether given ones can be used: names and types, all problems at once."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Collection, Mapping
from typing import Any

from huggingface_hub.dataclasses import type_validator
from transformers import PreTrainedConfig


def option_types(config: type[PreTrainedConfig]) -> dict[str, Any]:
    """The fields a configuration adds to transformers' own, by name, with their types."""
    own = [cls for cls in config.__mro__ if issubclass(cls, PreTrainedConfig) and cls is not PreTrainedConfig]
    inherited = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    types: dict[str, Any] = {}
    for cls in reversed(own):
        types |= inspect.get_annotations(cls, eval_str=True)
    fields = {field.name for field in dataclasses.fields(config)}
    return {name: kind for name, kind in types.items() if name in fields - inherited}


def option_problems(
    config: type[PreTrainedConfig], options: Mapping[str, Any], reserved: Collection[str] = ()
) -> list[str]:
    """Sentences about options that a configuration does not have, or not with such a value.

    Args:
        config: the configuration's class.
        options: what the user gave.
        reserved: options that follow from the data, which the user may not set.
    """
    types = option_types(config)
    valid = sorted(set(types) - set(reserved))
    found = []
    for name, value in options.items():
        if name in reserved:
            found.append(f"option '{name}' follows from the data; leave it out")
        elif name not in types:
            found.append(_unknown(name, valid))
        else:
            found += _type_problem(name, value, types[name])
    return found


def _unknown(name: str, valid: list[str]) -> str:
    close = difflib.get_close_matches(name, valid, n=1)
    hint = f", did you mean '{close[0]}'?" if close else "."
    return f"there is no option '{name}'{hint} The options are {', '.join(valid)}"


def _type_problem(name: str, value: Any, kind: Any) -> list[str]:
    whole = isinstance(value, int) and not isinstance(value, bool)
    try:
        # YAML and JSON write 0 where 0.0 is meant.
        type_validator(name, float(value) if whole and kind is float else value, kind)
    except TypeError:
        wanted = getattr(kind, "__name__", None) if isinstance(kind, type) else str(kind)
        return [f"option '{name}' is {value!r} ({type(value).__name__}); expected {wanted}"]
    return []
