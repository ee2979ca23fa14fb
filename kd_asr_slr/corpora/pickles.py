"""Pickles of arrays, read without running anything of theirs: containers, texts, numbers, numpy arrays, torch tensors.

The field hands its keypoints round as pickles, and `pickle.load` runs whatever a pickle asks for. Here every global a
pickle names is looked up in one table, whose entries are defined in this file; any other name ends the reading. numpy's
own constructors are not among them: they trust the state they are given.
"""

from __future__ import annotations

import gzip
import io
import math
import pickle
import re
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kd_asr_slr.errors import UserError

_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_TYPE_CODE = re.compile(r"[<>=|]?(?:[fiu][1248]|b1|[US][0-9]{1,6}|\?)")
_EXPECTED = "containers, texts, numbers, numpy arrays and torch tensors only"


class Refused(pickle.UnpicklingError):
    """A pickle asks for something that is not read."""


def load_pickle(path: Path) -> Any:
    """Read a pickle, plain or gzipped.

    Args:
        path: an existing file.

    Returns:
        Containers of Python with texts, numbers, None, and `numpy.ndarray` in the place of arrays and tensors.

    Raises:
        UserError: if the file is no pickle, cut off, or names anything beyond arrays, tensors and containers.

    Example:
        >>> load_pickle(Path("phoenix-2014.dev"))["fullFrame-210x260px/dev/..."]["keypoint"].shape
        (215, 133, 3)
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
            file.seek(0)
            if start == _ZIP:
                raise Refused("it is a torch.save archive or another zip archive, not a pickle")
            if start.startswith(_GZIP):
                with gzip.open(file) as unpacked:
                    return _resolved(_Unpickler(unpacked).load())
            return _resolved(_Unpickler(file).load())
    except _BROKEN as error:
        reason = str(error).strip() or type(error).__name__
        raise UserError(
            f"{path}: cannot be read as a pickle of keypoints ({reason})",
            expected=_EXPECTED,
            fix="save each utterance as .npz, or the pickle again from plain arrays",
        ) from error


# A damaged pickle can fail anywhere in the machine that reads it.
_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    OSError,
    zlib.error,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    RuntimeError,
)


class _Unpickler(pickle.Unpickler):
    """Looks every global up in `_GLOBALS`; knows no extension and no persistent id."""

    def __init__(self, file: BinaryIO | gzip.GzipFile) -> None:
        super().__init__(file, encoding="latin1")  # Python 2 wrote arrays as byte strings

    def find_class(self, module: str, name: str) -> Any:
        key = (_MODULES.get(module, module), name)
        if key not in _GLOBALS:
            raise Refused(f"it names {module}.{name}")
        return _NAMED[key]

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("it refers to objects outside of itself")


class _Named:
    """What a pickle gets for a name: it can be called and handed on, but not changed."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise Refused("it changes a function")

    def __setstate__(self, state: Any) -> None:
        raise Refused("it changes a function")


class _Type:
    """What a pickle says of an array's type: a code such as "f4", then its byte order."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        if not isinstance(code, str) or not _TYPE_CODE.fullmatch(code):
            raise Refused(f"it holds an array of type {str(code)[:40]!r}")
        self.code = code

    def __setstate__(self, state: Sequence[Any]) -> None:
        order, parts = state[1], state[2:5]
        if order not in ("<", ">", "=", "|") or any(parts):
            raise Refused("it holds an array of records")
        if order in ("<", ">"):
            self.code = order + self.code.lstrip("<>=|")

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.code)


class _Array:
    """An array on its way out of a pickle; its values come with its state."""

    def __init__(self, *parts: Any) -> None:
        self.values: np.ndarray | None = None

    def __setstate__(self, state: Sequence[Any]) -> None:
        _, shape, kind, fortran, data = state
        if isinstance(data, str):  # from Python 2
            data = data.encode("latin1")
        self.values = _from_buffer(data, kind, shape, "F" if fortran else "C")


def _new_array(kind: Any, *unused: Any) -> _Array:
    if kind is not _NAMED["numpy", "ndarray"]:
        raise Refused("it holds another kind of array")
    return _Array()


def _from_buffer(data: Any, kind: Any, shape: Any, order: str = "C") -> np.ndarray:
    if not isinstance(kind, _Type) or not isinstance(data, bytes | bytearray):
        raise Refused("it holds an array of Python objects")
    dtype, shape = kind.dtype, _whole_numbers(shape)
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise Refused(f"an array of shape {shape} and type {dtype} comes with {len(data)} bytes")
    values = np.frombuffer(bytes(data), dtype=dtype) if data else np.empty(0, dtype)
    return values.reshape(shape, order="F" if order == "F" else "C")


def _scalar(kind: Any, data: Any = b"") -> Any:
    if isinstance(data, str):
        data = data.encode("latin1")
    return _from_buffer(data, kind, ()).item()


def _encode(text: str, encoding: str = "utf-8") -> bytes:
    """Old protocols write bytes as a text to be encoded; only this encoding keeps every byte."""
    if not isinstance(text, str) or encoding != "latin1":
        raise Refused("it asks for an unusual encoding")
    return text.encode("latin1")


def _no_bytes(*arguments: Any) -> bytes:
    """Old protocols write empty bytes as a call of `bytes` without arguments; with one it could fill the memory."""
    if arguments:
        raise Refused("it calls bytes")
    return b""


def _bytearray(content: Any = b"", encoding: str = "latin-1") -> bytearray:
    if isinstance(content, str):
        content = _encode(content, encoding.replace("-", ""))
    if not isinstance(content, bytes):  # a number would ask for so many bytes of memory
        raise Refused("it calls bytearray")
    return bytearray(content)


def _storage(content: bytes) -> np.ndarray:
    """The values of a torch storage: torch itself reads them, in its mode that runs nothing."""
    import torch

    storage = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    values = torch.empty(0, dtype=storage.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates the class it gives back here
        values.set_(storage.untyped(), 0, (len(storage),), (1,))
    return values.float().numpy() if storage.dtype in (torch.bfloat16, torch.float16) else values.numpy()


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *unused: Any) -> np.ndarray:
    """The tensor of that size and stride; it must lie inside its storage."""
    size, stride = _whole_numbers(size), _whole_numbers(stride)
    (offset,) = _whole_numbers((offset,))
    if not isinstance(storage, np.ndarray) or len(size) != len(stride):
        raise Refused("it holds a tensor without values")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if 0 in size:
        return np.empty(size, storage.dtype)
    if last >= len(storage):
        raise Refused(f"a tensor of size {size} reaches beyond its {len(storage)} values")
    strides = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides).copy()


def _parameter(values: Any, *unused: Any) -> Any:
    return values


def _whole_numbers(values: Any) -> tuple[int, ...]:
    values = (values,) if isinstance(values, int) else tuple(values)
    if not all(type(value) is int and 0 <= value < 2**40 for value in values):
        raise Refused(f"it holds an array of shape {values}")
    return values


def _resolved(value: Any) -> Any:
    """Arrays in the place of the objects that stood for them, at any depth."""
    if isinstance(value, _Array):
        if value.values is None:
            raise Refused("it holds an array without values")
        return value.values
    if isinstance(value, dict):
        return {key: _resolved(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_resolved(item) for item in value)
    if isinstance(value, _Type) or callable(value):
        raise Refused("it holds functions or types")
    return value


_MODULES = {
    "numpy._core.multiarray": "numpy.core.multiarray",
    "numpy._core.numeric": "numpy.core.numeric",
    "__builtin__": "builtins",
}
_GLOBALS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("numpy.core.multiarray", "_reconstruct"): _new_array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "bytes"): _no_bytes,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "bytearray"): _bytearray,
}
_NAMED = {key: _Named(function) for key, function in _GLOBALS.items()}
