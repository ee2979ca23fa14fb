"""A field with its help text, and the checks that every class of arguments uses."""

from __future__ import annotations

import math
from dataclasses import field
from typing import Any


def option(default: Any, help: str) -> Any:
    """A dataclass field with its help text; lists and dicts get a fresh default each."""
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


def at_least(arguments: Any, lowest: float, *names: str) -> list[str]:
    """The sentences about fields that are below `lowest`, or no finite number."""
    values = {name: getattr(arguments, name) for name in names}
    return [
        f"{name} is {value}; expected {lowest} or more"
        for name, value in values.items()
        if not lowest <= value < math.inf
    ]


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> list[str]:
    """An empty list where `value` is allowed, else the sentence that says what is."""
    return [] if value in allowed else [f"{name} is '{value}'; expected one of {', '.join(allowed)}"]
