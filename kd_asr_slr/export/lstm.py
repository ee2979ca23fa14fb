"""What the LSTMs of an ONNX network have beside their int8 weights, made small.

onnxruntime's quantisation leaves a float32 scale for every row of a matrix, and both float32 biases: 0.7 % of the
float32 file of a BiLSTM of 4 x 256, and int8 is to be a quarter of it. Here neighbouring rows have a scale together,
and of the biases, which the operator only ever adds up, the sum is kept, in int8. Nodes in front of the others make of
them what the operator takes; onnxruntime computes these once, as it loads the file.

D directions, H units, K inputs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np

ROWS = 8  # of one scale
BIASES = 64  # of one scale; both cost nothing measurable beside the rounding of activations
WEIGHTS = (1, 2)  # places among the inputs of the operators: of the input's weights and of the recurrent ones
BIAS = 3
STATES = (5, 6)
SCALES, ZERO_POINTS = (8, 10), (9, 11)  # of both weights, where quantised


def drop_zero_states(model: Any) -> None:
    """Take away initial states that are zeros, as an LSTM's are without any; torch writes them out.

    Args:
        model: an `onnx.ModelProto` with float32 weights; changed.
    """
    zeros = {node.output[0] for node in model.graph.node if node.op_type == "ConstantOfShape" and _fills_zeros(node)}
    for node in _nodes(model, "LSTM"):
        for place in STATES:
            if place < len(node.input) and node.input[place] in zeros:
                node.input[place] = ""


def group_rows(model: Any) -> None:
    """Lay neighbouring rows end to end, [D, 4 H, K] as [D, 4 H / rows, rows K]: the quantisation gives each a scale.

    Args:
        model: an `onnx.ModelProto` with float32 weights; changed, and no network again before `pack_lstms`.
    """
    held = _initialisers(model)
    for node in _nodes(model, "LSTM"):
        weights = [held[node.input[place]] for place in WEIGHTS if node.input[place] in held]
        for item in weights if len(weights) == len(WEIGHTS) else []:  # computed ones are not quantised
            directions, rows, width = item.dims
            group = math.gcd(ROWS, _units(node))  # within one gate
            item.dims[:] = [directions, rows // group, group * width]


def pack_lstms(model: Any) -> None:
    """Give quantised LSTMs their rows back, and keep their scales and biases in few bytes.

    Args:
        model: an `onnx.ModelProto` that was quantised after `group_rows`; changed.
    """
    held = _initialisers(model)
    sizes = defaultdict(list)  # (D, H) -> the LSTMs
    for node in _nodes(model, "DynamicQuantizeLSTM"):
        sizes[held[node.input[WEIGHTS[0]]].dims[0], _units(node)].append(node)
    made = []
    for (directions, units), lstms in sizes.items():
        for node in lstms:
            for place in WEIGHTS:
                _restore_rows(held[node.input[place]], units)
        scales = [node.input[place] for node in lstms for place in SCALES]
        biases = [node.input[BIAS] for node in lstms if node.input[BIAS] in held]
        made += _pack_scales(model.graph, {name: held[name] for name in scales}, units)
        made += _pack_biases(model.graph, {name: held[name] for name in biases}, units) if biases else []
        made.append(_zero_points(model.graph, lstms, directions, units))
    nodes = [*made, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _restore_rows(item: Any, units: int) -> None:
    """Quantised weights, [D, rows K, 4 H / rows], as the operator takes them: [D, K, 4 H]."""
    from onnx import numpy_helper

    value = numpy_helper.to_array(item).swapaxes(1, 2)
    value = value.reshape(len(value), 4 * units, -1).swapaxes(1, 2)
    item.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), item.name))


def _pack_scales(graph: Any, items: dict[str, Any], units: int) -> list[Any]:
    """[D, 4 H / rows] each, kept as one column; nodes that repeat them, [D, 4 H] each."""
    from onnx import helper

    rows = math.gcd(ROWS, units)
    first = next(iter(items))
    column, stack = f"{first}_of_rows_scale", f"{first}_of_all"
    given = {
        column: _taken(graph, items).reshape(-1, 1),
        f"{column}_size": np.array([1, rows]),
        f"{stack}_size": np.array([-1, 4 * units]),
    }
    _add(graph, given)
    return [
        helper.make_node("Expand", [column, f"{column}_size"], [f"{stack}_rows"]),
        helper.make_node("Reshape", [f"{stack}_rows", f"{stack}_size"], [stack]),
        helper.make_node("Split", [stack], list(items), axis=0),
    ]


def _pack_biases(graph: Any, items: dict[str, Any], units: int) -> list[Any]:
    """[D, 8 H] each, kept as sums of the halves in int8; nodes that give these, and zeros for the second half."""
    from onnx import TensorProto, helper

    first = next(iter(items))
    both = _taken(graph, items)
    sums = (both[:, : 4 * units] + both[:, 4 * units :]).reshape(-1, math.gcd(BIASES, units))
    scale = np.abs(sums).max(1, keepdims=True) / np.float32(127)
    scale[scale == 0] = 1
    names = {step: f"{first}_{step}" for step in ("codes", "floats", "scale", "scaled", "sums", "size", "pads", "all")}
    given = {
        names["codes"]: np.rint(sums / scale).astype(np.int8),
        names["scale"]: scale,
        names["size"]: np.array([-1, 4 * units]),
        names["pads"]: np.array([0, 0, 0, 4 * units]),
    }
    _add(graph, given)
    return [
        helper.make_node("Cast", [names["codes"]], [names["floats"]], to=TensorProto.FLOAT),
        helper.make_node("Mul", [names["floats"], names["scale"]], [names["scaled"]]),
        helper.make_node("Reshape", [names["scaled"], names["size"]], [names["sums"]]),
        helper.make_node("Pad", [names["sums"], names["pads"]], [names["all"]]),
        helper.make_node("Split", [names["all"]], list(items), axis=0),
    ]


def _zero_points(graph: Any, lstms: list[Any], directions: int, units: int) -> Any:
    """The zero points of these LSTMs, which are 0 for int8 weights; a node that gives them."""
    from onnx import TensorProto, helper

    name = f"{lstms[0].input[ZERO_POINTS[0]]}_of_all"
    _add(graph, {f"{name}_size": np.array([directions, 4 * units])})
    for node in lstms:
        for place in ZERO_POINTS:
            node.input[place] = name
    zero = helper.make_tensor("", TensorProto.INT8, [1], [0])
    return helper.make_node("ConstantOfShape", [f"{name}_size"], [name], value=zero)


def _taken(graph: Any, items: dict[str, Any]) -> np.ndarray:
    """The values of initialisers, one below the other; the graph has these no longer."""
    from onnx import numpy_helper

    values = np.concatenate([numpy_helper.to_array(item) for item in items.values()])
    for item in items.values():
        graph.initializer.remove(item)
    return values


def _add(graph: Any, values: dict[str, np.ndarray]) -> None:
    from onnx import numpy_helper

    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())


def _nodes(model: Any, kind: str) -> list[Any]:
    return [node for node in model.graph.node if node.op_type == kind]


def _initialisers(model: Any) -> dict[str, Any]:
    return {item.name: item for item in model.graph.initializer}


def _units(node: Any) -> int:
    """H of an LSTM."""
    return next(int(item.i) for item in node.attribute if item.name == "hidden_size")


def _fills_zeros(node: Any) -> bool:
    """Whether a ConstantOfShape is of zeros, which it is where it does not say."""
    from onnx import numpy_helper

    return not any(numpy_helper.to_array(item.t).any() for item in node.attribute)
