"""Layers in torch that compute one tensor of several, or element by element."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lstmconv.errors import UnsupportedModelError
from lstmconv.model import kinds
from lstmconv.torch.definitions.functions import batch_dot, unit
from lstmconv.torch.kinds.built import Builders, Built, Masks, simple

__all__ = ["BUILDERS"]

_TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "subtract": torch.sub,
    "multiply": torch.mul,
    "divide": torch.true_divide,
    "floor_divide": torch.floor_divide,
    "power": torch.pow,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "matmul": torch.matmul,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "less": torch.lt,
    "less_equal": torch.le,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
}
_ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "negative": torch.neg,
    "abs": torch.abs,
    "square": torch.square,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "exp": torch.exp,
    "log": torch.log,
    "logical_not": torch.logical_not,
    "sign": torch.sign,
}


def _merge(layer: kinds.Merge, _: torch.dtype) -> Built:
    operation = layer.operation

    def run(module: None, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        rank = max(x.dim() for x in inputs)
        # keras/src/layers/merging/base_merge.py: axes are added behind the batch.
        first, *rest = (x.reshape(x.shape[:1] + (1,) * (rank - x.dim()) + x.shape[1:]) for x in inputs)
        function = _TWO["add" if operation == "average" else operation]
        for x in rest:
            first = function(first, x)
        return (first / len(inputs) if operation == "average" else first,)

    return Built(None, run)


def _over(join: Callable[..., Tensor], axis: int) -> Built:
    """Build a layer that joins its inputs along an axis."""
    return Built(None, lambda _, inputs, __: (join(list(inputs), dim=axis),))


def _dot(layer: kinds.Dot, _: torch.dtype) -> Built:
    axes, normalize = layer.axes, layer.normalize

    def run(module: None, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        a, b = inputs
        if normalize:
            a, b = (unit(x, axis, 1e-12) for x, axis in zip((a, b), axes, strict=True))
        out = batch_dot(a, b, *axes)
        return (out.unsqueeze(1) if out.dim() == 1 else out,)  # Keras keeps one axis beside the batch.

    return Built(None, run)


def _operation(layer: kinds.Operation, _: torch.dtype) -> Built:
    if layer.function in _TWO:
        function = _TWO[layer.function]
        return Built(None, lambda _, inputs, __: (function(inputs[0], inputs[1]),))
    if layer.function not in _ONE:
        raise UnsupportedModelError(f"{layer.name}: the operation {layer.function!r} is unknown")
    return simple(_ONE[layer.function])


def _reduce(layer: kinds.Reduce, dtype: torch.dtype) -> Built:
    function, axes, keep = layer.function, layer.axes, layer.keepdims

    def reduce(x: Tensor) -> Tensor:
        if function == "mean":
            return (x if x.is_floating_point() else x.to(dtype)).mean(axes, keep)
        if function in ("all", "any"):
            held = (x != 0).to(torch.uint8)
            return (held.amin(axes, keep) if function == "all" else held.amax(axes, keep)).bool()
        if function == "sum":
            return x.sum(axes, keep)
        return x.amax(axes, keep) if function == "max" else x.amin(axes, keep)

    return simple(reduce)


BUILDERS: Builders = {
    kinds.Concatenate: lambda layer, _: _over(torch.cat, layer.axis),
    kinds.Dot: _dot,
    kinds.Merge: _merge,
    kinds.Operation: _operation,
    kinds.Reduce: _reduce,
    kinds.Stacking: lambda layer, _: _over(torch.stack, layer.axis),
}
