"""Pickles: arrays, tensors and containers come through; nothing a pickle asks for is run."""

from __future__ import annotations

import builtins
import collections
import gzip
import io
import os
import pickle
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kd_asr_slr.corpora import pickles
from kd_asr_slr.corpora.pickles import load_pickle
from kd_asr_slr.errors import UserError


def stored(folder: Path, value: Any, protocol: int = 4) -> Path:
    path = folder / "value.pkl"
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


ARRAYS = {
    "float32": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "big endian": np.arange(4, dtype=">i4"),
    "strided": np.arange(12, dtype=np.int16)[::3],
    "bool": np.array([True, False]),
    "text": np.array(["REGEN", "Ä"]),
    "empty": np.empty((0, 3), np.float32),
    "scalar": np.float32(2.5),
    "half": np.array([1.5], np.float16),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_are_as_pickle_itself_reads_them(tmp_path: Path, kind: str, protocol: int) -> None:
    got = load_pickle(stored(tmp_path, {"a": [ARRAYS[kind]]}, protocol))["a"][0]
    assert np.array_equal(got, ARRAYS[kind])
    if kind != "scalar":
        assert got.dtype == ARRAYS[kind].dtype and got.shape == ARRAYS[kind].shape


TENSORS = {
    "plain": torch.arange(12.0).reshape(2, 2, 3),
    "permuted": torch.arange(12.0).reshape(2, 2, 3).permute(2, 0, 1),
    "slice": torch.arange(12)[3:9:2],
    "half": torch.tensor([0.5, 1.5], dtype=torch.float16),
    "bfloat16": torch.tensor([0.5, 1.5], dtype=torch.bfloat16),
    "scalar": torch.tensor(3.0),
    "empty": torch.zeros(0, 3),
    "expanded": torch.tensor([1.0, 2.0]).expand(3, 2),
    "parameter": torch.nn.Parameter(torch.ones(2)),
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_become_arrays(tmp_path: Path, kind: str, protocol: int) -> None:
    tensor = TENSORS[kind]
    got = load_pickle(stored(tmp_path, {"a": tensor}, protocol))["a"]
    assert isinstance(got, np.ndarray) and got.shape == tuple(tensor.shape)
    assert np.array_equal(got, tensor.detach().float().numpy())


@pytest.mark.parametrize("protocol", range(6))
def test_containers(tmp_path: Path, protocol: int) -> None:
    value = {
        "list": [1, 2.5, None, True],
        "tuple": ("a", b"b", "Ä"),
        "set": {1, 2},
        "frozen": frozenset({"x"}),
        "ordered": collections.OrderedDict(a=1),
        "bytes": bytearray(b"abc"),
    }
    assert load_pickle(stored(tmp_path, value, protocol)) == value


def test_gzipped(tmp_path: Path) -> None:
    path = tmp_path / "value.gzip"
    path.write_bytes(gzip.compress(pickle.dumps([np.arange(3)])))
    assert np.array_equal(load_pickle(path)[0], np.arange(3))


class Reduced:
    """Pickles as a call of `function` with `arguments`, and a state."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


class Unsafe(np.ndarray):
    pass


def named(module: str, name: str) -> bytes:
    """A pickle that calls `module.name("touch")`."""
    return f"c{module}\n{name}\n(Vtouch\ntR.".encode()


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (Reduced(os.system, "exit 1"), "names posix.system"),
        (Reduced(builtins.eval, "1"), ".eval"),
        (Reduced(getattr, "a", "upper"), ".getattr"),
        (Reduced(io.BytesIO, b"x"), "BytesIO"),
        (np.array([{"a": 1}], dtype=object), "type 'O8'"),
        (np.zeros(2, dtype=[("a", "f4")]), "type 'V4'"),
        (np.zeros(2, dtype="datetime64[s]"), "type 'M8'"),
        (np.zeros(2, dtype=complex), "type 'c16'"),
        (np.zeros(2).view(Unsafe), "names"),
        (Reduced(bytearray, 2**50), "calls bytearray"),
        (print, ".print"),
        (torch.storage._load_from_bytes, "functions"),
        (Reduced(torch._utils._rebuild_tensor_v2, "no storage", 0, (1,), (1,), False, {}), "without values"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_everything_else_is_refused(tmp_path: Path, value: Any, part: str, protocol: int) -> None:
    with pytest.raises(UserError, match="cannot be read as a pickle of keypoints") as caught:
        load_pickle(stored(tmp_path, [value], protocol))
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("subprocess", "Popen"), ("numpy", "load"), ("torch", "load"), ("pathlib", "Path.touch")],
)
def test_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "value.pkl"
    path.write_bytes(named(module, name))
    with pytest.raises(UserError, match=f"names {module}.{name}"):
        load_pickle(path)
    assert os.listdir(tmp_path) == ["value.pkl"]


def test_a_torch_storage_that_runs_something_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    inner = pickle.dumps(Reduced(os.mkdir, str(marker)), protocol=2)
    with pytest.raises(UserError):
        load_pickle(stored(tmp_path, [Reduced(torch.storage._load_from_bytes, inner)]))
    assert not marker.exists()


def test_an_array_whose_type_lies_is_refused(tmp_path: Path) -> None:
    """numpy's own constructors would take these bytes for pointers to Python objects."""
    fields = {"a": (np.dtype("O"), 0)}
    state = (3, "|", None, ("a",), fields, 8, 8, 0)
    lying = Reduced(np.dtype, "V8", False, True, state=state)
    array = Reduced(
        np.core.multiarray._reconstruct, np.ndarray, (0,), b"b", state=(1, (1,), lying, False, struct.pack("<Q", 64))
    )
    with pytest.raises(UserError, match="type 'V8'|type 'O8'"):
        load_pickle(stored(tmp_path, [array]))


@pytest.mark.parametrize(
    "tensor",
    [
        ((3, 3), (3, 1), 0),  # 9 values of 4
        ((2, 2), (2, 1), 3),
        ((2, 2), (2, -1), 0),
        ((4,), (2**39,), 0),
        ((2, 2), (2,), 0),
    ],
)
def test_tensors_beyond_their_storage_are_refused(tmp_path: Path, tensor: tuple[Any, ...]) -> None:
    size, stride, offset = tensor
    buffer = io.BytesIO()
    torch.save(torch.arange(4.0)._typed_storage(), buffer, _use_new_zipfile_serialization=False)
    storage = Reduced(torch.storage._load_from_bytes, buffer.getvalue())
    rebuilt = Reduced(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, collections.OrderedDict())
    with pytest.raises(UserError):
        load_pickle(stored(tmp_path, rebuilt))


def test_the_table_of_names_cannot_be_changed(tmp_path: Path) -> None:
    """A pickle may give state to whatever it has named: here new defaults for a function of the reader."""
    path = tmp_path / "value.pkl"
    path.write_bytes(b"\x80\x02cnumpy.core.multiarray\nscalar\nN}U\x0c__defaults__)s\x86b.")
    before = pickles._scalar.__defaults__
    with pytest.raises(UserError, match="changes a function"):
        load_pickle(path)
    assert pickles._scalar.__defaults__ == before


def test_damaged_pickles_end_in_a_sentence(tmp_path: Path) -> None:
    content = pickle.dumps({"a": {"keypoint": TENSORS["permuted"], "b": ARRAYS["float32"]}}, protocol=2)
    generator, path = random.Random(0), tmp_path / "value.pkl"
    refused = 0
    for attempt in range(400):
        damaged = bytearray(content[: generator.randrange(1, len(content))] if attempt % 2 else content)
        for _ in range(3):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        path.write_bytes(damaged)
        try:
            load_pickle(path)
        except UserError:
            refused += 1
    assert refused > 200


def test_files_that_are_no_pickle(tmp_path: Path) -> None:
    path = tmp_path / "value.pkl"
    torch.save({"a": 1}, path)
    with pytest.raises(UserError, match="torch.save archive"):
        load_pickle(path)
    for content in (b"", b"id|folder|signer\n", gzip.compress(b"x")):
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read as a pickle"):
            load_pickle(path)
