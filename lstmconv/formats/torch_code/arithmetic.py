"""Merges, operations, reductions and masks as expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.torch_code.activations import X
from lstmconv.formats.torch_code.lines import literal
from lstmconv.formats.torch_code.reading import Read
from lstmconv.model import Layer, kinds
from lstmconv.model.kinds import Kind

__all__ = ["ARITHMETIC", "takes_numbers"]

_INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "floor_divide": "//", "matmul": "@",
          "equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=", "greater": ">",
          "greater_equal": ">="}  # fmt: skip
_TWO = {"power": "pow", "maximum": "maximum", "minimum": "minimum", "logical_and": "logical_and",
        "logical_or": "logical_or"}  # fmt: skip
_ONE = {"negative": f"-{X}", "abs": f"{X}.abs()", "square": f"{X}.square()", "sqrt": f"{X}.sqrt()",
        "rsqrt": f"{X}.rsqrt()", "exp": f"{X}.exp()", "log": f"{X}.log()", "logical_not": f"{X}.logical_not()",
        "sign": f"{X}.sign()"}  # fmt: skip


def _both(function: str, a: str, b: str) -> str:
    return f"{a} {_INFIX[function]} {b}" if function in _INFIX else f"torch.{_TWO[function]}({a}, {b})"


def _merge(layer: kinds.Merge, read: Read) -> list[str]:
    rank = max(map(len, read.shapes))
    # keras/src/layers/merging/base_merge.py: axes are added after the batch.
    given = [
        name if len(shape) == rank else f"{name}[:{', None' * (rank - len(shape))}]"
        for name, shape in zip(read.inputs, read.shapes, strict=True)
    ]
    function = "add" if layer.operation == "average" else layer.operation
    steps = [given[0] if len(given) == 1 else _both(function, given[0], given[1])]
    steps += [_both(function, X, name) for name in given[2:]]
    return [*steps, f"{X} / {len(given)}"] if layer.operation == "average" else steps


def _operation(layer: kinds.Operation, read: Read) -> list[str]:
    if layer.function in _INFIX or layer.function in _TWO:
        return [_both(layer.function, *read.inputs[:2])]
    if layer.function not in _ONE:
        raise UnsupportedModelError(f"the operation {layer.function!r} is unknown", layer.name)
    return [_ONE[layer.function]]


def takes_numbers(layer: Layer) -> bool:
    """Whether an operand may be a Python number."""
    return isinstance(layer, kinds.Operation) and layer.function in {*_INFIX, "power"} - {"matmul"}


def _dot(layer: kinds.Dot, read: Read) -> list[str]:
    given = list(read.inputs)
    if layer.normalize:
        given = [f"unit({name}, {axis}, 1e-12)" for name, axis in zip(given, layer.axes, strict=True)]
    steps = [f"batch_dot({given[0]}, {given[1]}, {layer.axes[0]}, {layer.axes[1]})"]
    if all(len(shape) == 2 for shape in read.shapes):  # Keras keeps one axis beside the batch.
        steps.append(f"{X}.unsqueeze(1)")
    return steps


def _listed(inputs: Sequence[str]) -> str:
    return f"[{', '.join(inputs)}]"


def _cast(layer: kinds.Cast, read: Read) -> list[str]:
    if layer.dtype == "float32":  # float32 stands for the model's own float type.
        return [f"{X}.{read.wide}()"]
    return [f"{X}.bool()" if layer.dtype == "bool" else f"{X}.to(torch.{layer.dtype})"]


def _reduce(layer: kinds.Reduce, read: Read) -> list[str]:
    dim = literal(layer.axes[0] if len(layer.axes) == 1 else layer.axes)
    keep = ", keepdim=True" if layer.keepdims else ""
    function = {"max": "amax", "min": "amin"}.get(layer.function, layer.function)
    if layer.function in ("all", "any") and len(layer.axes) != 1:  # torch 2.1 takes only one axis at once.
        return [
            f"({X} != 0).byte()",
            f"{X}.{'amin' if layer.function == 'all' else 'amax'}({dim}{keep})",
            f"{X}.bool()",
        ]
    if layer.function in ("all", "any") and read.types[0] != "bool":
        return [f"{X}.bool()", f"{X}.{function}({dim}{keep})"]
    before = [f"{X}.{read.wide}()"] if layer.function == "mean" and read.types[0] in ("int", "bool") else []
    return [*before, f"{X}.{function}({dim}{keep})"]


ARITHMETIC: Mapping[type[Kind], Callable[[Any, Read], list[str]]] = {
    kinds.Cast: _cast,
    kinds.Concatenate: lambda layer, read: [f"torch.cat({_listed(read.inputs)}, dim={layer.axis})"],
    kinds.Dot: _dot,
    kinds.MaskSteps: lambda layer, _: [f"{X} * ({X} != {literal(layer.value)}).any(dim=-1, keepdim=True)"],
    kinds.Merge: _merge,
    kinds.Operation: _operation,
    kinds.Reduce: _reduce,
    kinds.Stacking: lambda layer, read: [f"torch.stack({_listed(read.inputs)}, dim={layer.axis})"],
    kinds.StepIsUnmasked: lambda layer, _: [f"({X} != {literal(layer.value)}).any(dim=-1)"],
}
