"""The forms in which distributions are stored, by the name in `cache_format`. A new form: a file here and a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kd_asr_slr.teachers.formats.base import TargetFormat
from kd_asr_slr.teachers.formats.dense import Dense
from kd_asr_slr.teachers.formats.quantised import Quantised
from kd_asr_slr.teachers.formats.sampled import Sampled
from kd_asr_slr.teachers.formats.topk import TopK

FORMATS: dict[str, type[TargetFormat]] = {form.name: form for form in (Dense, TopK, Sampled, Quantised)}

__all__ = ["FORMATS", "TargetFormat", "format_of"]


def format_of(described: Mapping[str, Any], dtype: str = "float16") -> TargetFormat:
    """The form that a manifest describes.

    Args:
        described: name and options, as `TargetFormat.describe` gives them.
        dtype: of the dense form.

    Raises:
        KeyError, TypeError: for an unknown name or option.

    Example:
        >>> format_of({"name": "topk", "top_k": 8}).describe()
        {'name': 'topk', 'top_k': 8, 'certain': 0.0001}
    """
    options = {key: value for key, value in described.items() if key != "name"}
    if described["name"] == Dense.name:
        options["dtype"] = dtype
    return FORMATS[described["name"]](**options)
