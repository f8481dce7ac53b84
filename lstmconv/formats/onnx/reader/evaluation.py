"""One node at a time, on arrays: the operators that move numbers, or compute with shapes, and no others.

Numbers are moved as bits: floats are seen as integers of their width, so that no NaN changes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmconv._optional import require
from lstmconv.errors import UnsupportedModelError
from lstmconv.model import Array

if TYPE_CHECKING:
    import onnx

__all__ = ["ARITHMETIC", "MOVES", "NotEvaluatedError", "run_node"]

MOVES = frozenset(
    {
        "Concat",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "ReverseSequence",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
"""What they return is of the type of their first input, and each of its numbers is one of that input's."""
ARITHMETIC = frozenset({"Add", "Div", "Equal", "Max", "Min", "Mul", "Range", "Sub", "Where"})
"""Evaluated on integers only: exporters compute shapes with them."""
_OTHERS = frozenset({"Cast", "ConstantOfShape", "Shape", "Size"})

_SMALL = 1 << 16
"""Elements that arithmetic on shapes may have."""


class NotEvaluatedError(UnsupportedModelError):
    """A value is not known while reading; the text says why, as the end of a sentence."""


def run_node(node: onnx.NodeProto, inputs: Sequence[Array | None], opset: int, limit: int) -> list[Array]:
    """Return a node's outputs.

    Args:
        node: A node with one of the operators above.
        inputs: Its inputs; ``None`` for one that is left out.
        opset: The version of ONNX' operators that the node is written in.
        limit: How many bytes one output may have.

    Raises:
        NotEvaluatedError: Another operator, a result beyond the limit, or inputs that do not fit the operator.
    """
    operator = node.op_type
    if operator not in MOVES | ARITHMETIC | _OTHERS or node.domain not in ("", "ai.onnx"):
        raise NotEvaluatedError(f"comes from a {operator} node")
    first = next((array for array in inputs if array is not None), None)
    if operator in ARITHMETIC:
        _check_arithmetic(operator, inputs)
    try:
        size = _size_limit(node, inputs)
    except (ArithmeticError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise NotEvaluatedError(f"comes from a {operator} node whose inputs do not fit") from error
    if size > limit:
        raise NotEvaluatedError(f"would grow to {size} bytes in a {operator} node")
    bits = first is not None and operator in MOVES and first.dtype.kind not in "iubcOSU"
    dtype = first.dtype if first is not None else np.dtype(np.float32)
    if bits:
        inputs = [_as_bits(array) if array is not None and array.dtype == dtype else array for array in inputs]
    outputs = _run(node, inputs, opset)
    return [output.view(dtype) if bits else output for output in outputs]


def _as_bits(array: Array) -> Array:
    return array.view(np.dtype(f"u{array.dtype.itemsize}"))


def _check_arithmetic(operator: str, inputs: Sequence[Array | None]) -> None:
    arrays = [array for array in inputs if array is not None]
    if any(array.dtype.kind not in "iub" or array.size > _SMALL for array in arrays):
        raise NotEvaluatedError(f"comes from a {operator} node, which computes")
    if operator == "Div" and any(not np.all(array) for array in arrays[1:]):
        raise NotEvaluatedError("comes from a division by zero")


def _size_limit(node: onnx.NodeProto, inputs: Sequence[Array | None]) -> int:
    """Return how many bytes the largest output can have, before anything is allocated."""
    arrays = [array for array in inputs if array is not None]
    operator = node.op_type
    if operator == "ConstantOfShape":
        return 8 * _product(arrays[0])
    if operator == "Expand":
        target = np.broadcast_shapes(arrays[0].shape, tuple(_whole(arrays[1])))
        return math.prod(target) * arrays[0].dtype.itemsize
    if operator == "Tile":
        repeats = _whole(arrays[1])
        return math.prod(max(each, 0) for each in repeats) * arrays[0].nbytes
    if operator == "Gather":
        axis = _integer(node, "axis", 0)
        others = math.prod(arrays[0].shape[:axis]) * math.prod(arrays[0].shape[axis:][1:])
        return arrays[1].size * others * arrays[0].dtype.itemsize
    if operator == "Range":
        start, end, step = (int(array) for array in arrays)
        return 8 * max(0, -((start - end) // step))
    if operator == "Split" and _integer(node, "num_outputs", len(node.output)) != len(node.output):
        raise ValueError("num_outputs")
    if operator == "Shape":
        return 8 * arrays[0].ndim
    if operator in ARITHMETIC:
        return 8 * math.prod(np.broadcast_shapes(*(array.shape for array in arrays)))
    return sum(array.size * max(array.dtype.itemsize, 8 if operator == "Cast" else 1) for array in arrays)


def _whole(array: Array) -> list[int]:
    if array.dtype.kind not in "iub":
        raise ValueError("a shape of other than whole numbers")
    return [int(size) for size in array.ravel()[:64]]


def _product(shape: Array) -> int:
    if shape.size > 64:
        raise ValueError("more axes than an array has")
    return math.prod(max(size, 0) for size in _whole(shape))


def _integer(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)


def _run(node: onnx.NodeProto, inputs: Sequence[Array | None], opset: int) -> list[Array]:
    """Run the node alone in ONNX' own evaluator, which knows every version of the operators."""
    onnx = require("onnx", "Reading ONNX files")
    reference = require("onnx.reference", "Reading ONNX files")
    helper = onnx.helper
    alone = helper.make_node(node.op_type, [], [])
    alone.attribute.extend(node.attribute)
    alone.input.extend(f"in_{index}" if array is not None else "" for index, array in enumerate(inputs))
    alone.output.extend(f"out_{index}" for index in range(len(node.output)))
    feeds = {f"in_{index}": array for index, array in enumerate(inputs) if array is not None}
    untyped = onnx.TypeProto()
    graph = helper.make_graph(
        [alone],
        "node",
        [helper.make_value_info(name, untyped) for name in feeds],
        [helper.make_value_info(name, untyped) for name in alone.output],
    )
    known = min(opset, onnx.defs.onnx_opset_version())
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", known)])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's, of numbers that a damaged file has.
            results: list[Any] = reference.ReferenceEvaluator(model).run(None, feeds)
        return [np.asarray(result) for result in results]
    except Exception as error:  # The evaluator raises whatever NumPy raises.
        raise NotEvaluatedError(f"comes from a {node.op_type} node whose inputs do not fit") from error
