"""What a quantised network still has beside its int8 weights, made small: its biases and scales, and its graph.

onnxruntime's quantisation leaves a float32 scale and an int8 zero point for every row of a matrix, float32 biases, and
the notes of its shape inference; together they were 3 % of a BiLSTM of 4 x 256. `lstm` has what is special to LSTMs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

FEWEST = 64  # values; a cast costs more bytes than fewer would save
HALF = 2.0**-10  # relative: twice what rounding to float16 may change
SCALE = "_scale"  # how onnxruntime's quantisation ends the names of scales


def drop_defaults(model: Any) -> None:
    """Take away attributes that say what would hold without them; onnxruntime's optimisation writes all of them out.

    Args:
        model: an `onnx.ModelProto`; changed.
    """
    from onnx import defs

    opsets = {item.domain: item.version for item in model.opset_import}
    for node in model.graph.node:
        if not defs.has(node.op_type, node.domain):
            continue
        known = defs.get_schema(node.op_type, opsets[node.domain], node.domain).attributes
        for item in list(node.attribute):
            if item.name in known and known[item.name].default_value == item:
                node.attribute.remove(item)


def make_leaner(model: Any) -> None:
    """Change an ONNX network: float32 vectors as float16, equal constants once, no notes.

    Every float16 is cast back as the file is loaded, so that all operators compute as before; a scale changes by at
    most 0.05 %, where rounding to int8 has moved each weight by up to 0.4 % of the largest of its row.

    Args:
        model: an `onnx.ModelProto` with int8 weights; changed.
    """
    del model.graph.value_info[:]
    del model.metadata_props[:]
    for node in model.graph.node:
        node.ClearField("doc_string")
        node.ClearField("name")
        del node.metadata_props[:]
    used = {node.domain for node in model.graph.node}
    for item in [item for item in model.opset_import if item.domain not in used]:
        model.opset_import.remove(item)
    _shrink_zero_points(model.graph)
    if not any(item.HasField("g") or item.graphs for node in model.graph.node for item in node.attribute):
        _drop_unused(model.graph)
        _share_equal(model.graph)
        _shorten_names(model.graph)
    _halve(model.graph)


def _drop_unused(graph: Any) -> None:
    """No nodes and no initialisers that nothing is made of."""
    used = {item.name for item in graph.output}
    for node in reversed(list(graph.node)):
        if used.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            used.update(node.input)
    for item in [item for item in graph.initializer if item.name not in used]:
        graph.initializer.remove(item)


def _shrink_zero_points(graph: Any) -> None:
    """One zero in the place of one for each column of a matrix."""
    from onnx import numpy_helper

    columns = {node.input[3] for node in graph.node if node.op_type == "MatMulInteger" and len(node.input) > 3}
    for item in graph.initializer:
        if item.name in columns and not (value := _array(item)).any():
            item.CopyFrom(numpy_helper.from_array(np.zeros((), value.dtype), item.name))


def _share_equal(graph: Any) -> None:
    """One initialiser for all that have the same values, such as zero points."""
    kept: dict[tuple[Any, ...], str] = {}
    other: dict[str, str] = {}
    for item in list(graph.initializer):
        value = _array(item)
        first = kept.setdefault((item.data_type, value.shape, value.tobytes()), item.name)
        if first != item.name:
            other[item.name] = first
            graph.initializer.remove(item)
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = other.get(name, name)


def _shorten_names(graph: Any) -> None:
    """Numbers instead of the paths of modules, for everything but inputs and outputs; scales are still told apart."""
    kept = {item.name for item in (*graph.input, *graph.output)}
    names = [item.name for item in graph.initializer] + [name for node in graph.node for name in node.output]
    inner = [name for name in dict.fromkeys(names) if name and name not in kept]
    short = {name: f"{number:x}{SCALE if name.endswith(SCALE) else ''}" for number, name in enumerate(inner)}
    for item in graph.initializer:
        item.name = short.get(item.name, item.name)
    for node in graph.node:
        for names_of in (node.input, node.output):
            for place, name in enumerate(names_of):
                names_of[place] = short.get(name, name)


def _halve(graph: Any) -> None:
    """Float32 initialisers as float16, where that is as good, cast back before the first operator."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for item in graph.initializer:
        if item.data_type != TensorProto.FLOAT or (value := _array(item)).size < FEWEST:
            continue
        with np.errstate(over="ignore"):
            half = value.astype(np.float16)
        # small scales lose digits in float16; a bias that small does not matter
        if not np.allclose(half, value, rtol=HALF, atol=0.0 if item.name.endswith(SCALE) else 1e-6):
            continue
        name = item.name
        item.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        casts.append(helper.make_node("Cast", [item.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _array(item: Any) -> np.ndarray:
    from onnx import numpy_helper

    return numpy_helper.to_array(item)
