"""Layers that take several inputs, or compute element by element: merges, Dot, operators, Cast, Reduce, Constant."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lstmconv.formats.onnx.writer.calls import CallWriter, Type, Value
from lstmconv.formats.onnx.writer.kinds.normalizing import unit_vectors
from lstmconv.model.kinds import Cast, Concatenate, Constant, Dot, Merge, Operation, Reduce, Stacking

__all__ = ["cast", "concatenate", "constant", "dot", "merge", "operation", "reduce", "stacking"]

_MERGES: Mapping[str, str] = {
    "add": "Add", "subtract": "Sub", "multiply": "Mul", "average": "Add", "maximum": "Max", "minimum": "Min",
}  # fmt: skip


def merge(call: CallWriter, layer: Merge) -> list[Value]:
    """Join inputs one after another, where their ranks differ with new axes behind the batch.

    Source: keras/src/layers/merging/base_merge.py, call.
    """
    rank = max(value.rank for value in call.inputs)
    given = [
        call.unsqueezed(name, list(range(1, 1 + rank - value.rank)), "expanded")
        for name, value in zip(call.floats(), call.inputs, strict=True)
    ]
    y = given[0]
    for other in given[1:]:
        y = call.add(_MERGES[layer.operation], [y, other], layer.operation)
    if layer.operation == "average":
        y = call.add("Div", [y, call.number(len(given))], "mean")
    return [call.value(y)]


def _alike(call: CallWriter) -> tuple[list[str], Type]:
    """Return all inputs as one type."""
    types = {value.type for value in call.inputs}
    kind: Type = types.pop() if len(types) == 1 else "float" if "float" in types else "int"
    return [call.cast(value, kind) for value in call.inputs], kind


def concatenate(call: CallWriter, layer: Concatenate) -> list[Value]:
    """Add Concat."""
    given, kind = _alike(call)
    return [call.value(call.add("Concat", given, "joined", axis=layer.axis), kind)]


def stacking(call: CallWriter, layer: Stacking) -> list[Value]:
    """Give each input the new axis, and add Concat."""
    given, kind = _alike(call)
    axis = layer.axis % (call.x.rank + 1)
    expanded = [call.unsqueezed(name, [axis], "expanded") for name in given]
    return [call.value(call.add("Concat", expanded, "joined", axis=axis), kind)]


def dot(call: CallWriter, layer: Dot) -> list[Value]:
    """Add Einsum over the two axes; two vectors give ``(batch, 1)`` (keras/src/layers/merging/dot.py batch_dot)."""
    first, second = call.inputs
    axes = [axis % value.rank for axis, value in zip(layer.axes, call.inputs, strict=True)]
    given = call.floats()
    if layer.normalize:
        given = [
            unit_vectors(call, name, [axis], 1e-12, f"unit_{index}")
            for index, (name, axis) in enumerate(zip(given, axes, strict=True))
        ]
    letters = iter("cdefghijklmnop")
    left = ["b", *(next(letters) for _ in range(first.rank - 1))]
    right = ["b", *(next(letters) for _ in range(second.rank - 1))]
    left[axes[0]] = right[axes[1]] = "a"
    result = [letter for letter in (*left, *right[1:]) if letter != "a"]
    y = call.add("Einsum", given, "dot", equation=f"{''.join(left)},{''.join(right)}->{''.join(result)}")
    return [call.value(call.unsqueezed(y, [1], "column") if len(result) == 1 else y)]


def constant(call: CallWriter, layer: Constant) -> list[Value]:
    """Hold a value, floats in the model's own type."""
    value = np.asarray(layer.value)
    if value.dtype.kind == "b":
        return [call.value(call.graph.constant(value, np.bool_), "bool")]
    if value.dtype.kind in "iu":
        return [call.value(call.graph.constant(value, np.int64), "int")]
    return [call.value(call.weight("value"))]


_ARITHMETIC: Mapping[str, str] = {
    "add": "Add", "subtract": "Sub", "multiply": "Mul", "maximum": "Max", "minimum": "Min", "power": "Pow",
    "matmul": "MatMul", "divide": "Div", "floor_divide": "Div",
}  # fmt: skip
_COMPARISONS: Mapping[str, tuple[str, bool]] = {
    "equal": ("Equal", False), "not_equal": ("Equal", True), "less": ("Less", False), "greater": ("Greater", False),
    "less_equal": ("LessOrEqual", False), "greater_equal": ("GreaterOrEqual", False),
}  # fmt: skip
_LOGICAL: Mapping[str, str] = {"logical_and": "And", "logical_or": "Or", "logical_not": "Not"}
_OF_ONE: Mapping[str, tuple[str, ...]] = {
    "negative": ("Neg",), "abs": ("Abs",), "sqrt": ("Sqrt",), "rsqrt": ("Sqrt", "Reciprocal"), "exp": ("Exp",),
    "log": ("Log",), "sign": ("Sign",),
}  # fmt: skip


def operation(call: CallWriter, layer: Operation) -> list[Value]:
    """Add an operator's node; numbers are computed in float where any operand is, or where a quotient comes out."""
    function = layer.function
    if function in _LOGICAL:
        given = [call.cast(value, "bool") for value in call.inputs]
        return [call.value(call.add(_LOGICAL[function], given, function), "bool")]
    if function in _COMPARISONS:
        operator, inverse = _COMPARISONS[function]
        given, kind = _alike(call)
        if kind == "bool" and operator != "Equal":
            given = [call.cast(value, "int") for value in call.inputs]
        y = call.add(operator, given, function)
        return [call.value(call.add("Not", [y], f"{function}.not") if inverse else y, "bool")]
    if function in _OF_ONE:
        return [call.value(_chain(call, _OF_ONE[function], call.float_x))]
    if function == "square":
        x = call.float_x
        return [call.value(call.add("Mul", [x, x], function))]
    given = call.floats()
    y = call.add(_ARITHMETIC[function], given, function)
    return [call.value(call.add("Floor", [y], f"{function}.floor") if function == "floor_divide" else y)]


def _chain(call: CallWriter, operators: tuple[str, ...], x: str) -> str:
    for operator in operators:
        x = call.add(operator, [x], operator.lower())
    return x


def cast(call: CallWriter, layer: Cast) -> list[Value]:
    """Add Cast to the float type, int64 or bool."""
    kind: Type = "bool" if layer.dtype == "bool" else "float" if "float" in layer.dtype else "int"
    return [call.value(call.cast(call.x, kind), kind)]


def reduce(call: CallWriter, layer: Reduce) -> list[Value]:
    """Add a Reduce node; all and any are the least and the largest of 0 and 1."""
    axes = [axis % call.x.rank for axis in layer.axes]
    if layer.function in ("all", "any"):
        truth = Value(call.cast(call.x, "bool"), "bool", call.x.shape)
        function = "Min" if layer.function == "all" else "Max"
        found = call.reduce(function, call.cast(truth, "int"), axes, layer.function, keepdims=layer.keepdims)
        return [call.value(call.cast(Value(found, "int", ()), "bool"), "bool")]
    y = call.reduce(layer.function.capitalize(), call.float_x, axes, layer.function, keepdims=layer.keepdims)
    return [call.value(y)]
