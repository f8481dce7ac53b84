"""Read a TensorFlowOpLayer (TensorFlow 1.14 to 2.3), one node of a TensorFlow graph, as a function.

Source: tf_keras/src/engine/base_layer.py TensorFlowOpLayer (2.16); the nodes' inputs and attributes:
tensorflow/core/ops/{array,math,nn}_ops.cc.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lstmconv.formats.keras.reader.kinds.entry import NotUnderstoodError, is_integer
from lstmconv.formats.keras.reader.kinds.values import plain

__all__ = ["function_of_node"]

_DTYPES = {
    "DT_HALF": "float16", "DT_BFLOAT16": "bfloat16", "DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_INT32": "int32",
    "DT_INT64": "int64", "DT_BOOL": "bool",
}  # fmt: skip
_NAMES = {
    "ConcatV2": "concatenate",
    "Pack": "stack",
    "BatchMatMul": "matmul",
    "BatchMatMulV2": "matmul",
    "MatMul": "matmul",
}
_ATTRIBUTES = {
    "adj_x": "transpose_x", "adj_y": "transpose_y", "transpose_a": "transpose_x", "transpose_b": "transpose_y",
    "keep_dims": "keepdims", "squeeze_dims": "axis", "axis": "axis", "DstT": "dtype", "alpha": "negative_slope",
}  # fmt: skip
_WITHOUT_MEANING = frozenset(
    {"T", "SrcT", "Tidx", "Tperm", "Tshape", "Tdim", "N", "Truncate", "Index", "incompatible_shape_error"}
)
_MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")


def function_of_node(config: Mapping[str, Any], args: Sequence[Any]) -> tuple[str, Sequence[Any], Mapping[str, Any]]:
    """Return a node's function, its arguments by position, and those by name.

    Args:
        config: The layer's config, with the node's definition and its constant inputs.
        args: The tensors of the layer's call, alone or in a list.

    Raises:
        NotUnderstoodError: The definition cannot be read, or has an unknown attribute.
    """
    node = _definition(config.get("node_def"))
    inputs = _inputs(args, config.get("constants") or {})
    operation, attributes = str(node.get("op")), node.get("attr") or {}
    values = {name: _value(value) for name, value in attributes.items() if not name.startswith("_")}
    if operation == "StridedSlice":
        return "get_item", [inputs[0], _index(inputs[1:], values)], {}
    name = _NAMES.get(operation) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", operation).lower()
    unknown = [stated for stated in values if stated not in _ATTRIBUTES and stated not in _WITHOUT_MEANING]
    if unknown:
        raise NotUnderstoodError(f"the node {operation} has the attribute {unknown[0]}")
    kwargs = {_ATTRIBUTES[stated]: value for stated, value in values.items() if stated in _ATTRIBUTES}
    if operation == "ConcatV2":
        return name, [inputs[:-1], _single(inputs[-1])], kwargs
    if operation == "Pack":
        return name, [inputs], kwargs
    if operation == "ExpandDims":
        return name, [inputs[0], _single(inputs[1])], kwargs
    return name, inputs, kwargs


def _definition(stated: Any) -> Mapping[str, Any]:
    if isinstance(stated, str):
        try:
            stated = json.loads(stated)
        except ValueError as error:
            raise NotUnderstoodError("its node is stored in binary") from error
    if not isinstance(stated, Mapping):
        raise NotUnderstoodError("its node is not described")
    return stated


def _inputs(args: Sequence[Any], constants: Mapping[Any, Any]) -> list[Any]:
    """Return all inputs of a node: constants at their own numbers, tensors at the others."""
    inputs = [each for arg in args for each in (arg if isinstance(arg, list) else [arg])]
    for index, constant in sorted((int(index), constant) for index, constant in constants.items()):
        inputs.insert(index, plain(constant))
    return inputs


def _value(attribute: Any) -> Any:
    """Return an attribute's value; protocol buffers write 64-bit numbers as text in JSON."""
    if not isinstance(attribute, Mapping) or len(attribute) != 1:
        raise NotUnderstoodError(f"an attribute is {attribute!r:.60}")
    ((kind, value),) = attribute.items()
    if kind == "i":
        return int(value)
    if kind == "list":
        return [int(each) for each in value.get("i", [])]
    return _DTYPES.get(str(value)) if kind == "type" else value


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _index(bounds: Sequence[Any], masks: Mapping[str, Any]) -> list[Any]:
    """Return the index of a StridedSlice: bit ``n`` of a mask is for entry ``n`` (array_ops.cc StridedSlice)."""
    if len(bounds) != 3 or not all(isinstance(each, list) and all(map(is_integer, each)) for each in bounds):
        raise NotUnderstoodError("a slice whose bounds are tensors")
    begin_mask, end_mask, ellipsis_mask, new_axis_mask, shrink_axis_mask = (int(masks.get(name, 0)) for name in _MASKS)
    index: list[Any] = []
    for place, (begin, end, step) in enumerate(zip(*bounds, strict=True)):
        bit = 1 << place
        if ellipsis_mask & bit:
            index.append(Ellipsis)
        elif new_axis_mask & bit:
            index.append(None)
        elif shrink_axis_mask & bit:
            index.append(begin)
        else:
            index.append(slice(None if begin_mask & bit else begin, None if end_mask & bit else end, step))
    return index
