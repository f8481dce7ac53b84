"""Wrong operations, operands and axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lstmconv.model import Call, kinds
from lstmconv.proof.models.kinds.option import Function, Option, Rules, Shapes, changed_inputs, unchanged
from lstmconv.proof.models.variants import Found
from lstmconv.semantics.graph import compute

__all__ = ["RULES"]

_IN_REVERSE = changed_inputs(lambda inputs: list(reversed(inputs)))


def _merge(layer: kinds.Merge, shapes: Shapes) -> Iterator[Option]:
    others: tuple[Any, ...] = ("add", "multiply", "average", "maximum", "minimum")
    for other in others:
        if other != layer.operation:
            yield Option(
                f"{other} for {layer.operation}", f"the operation is {layer.operation}", replace(layer, operation=other)
            )
    if layer.operation == "subtract":
        yield Option("operands exchanged", "the second is subtracted", _IN_REVERSE)


def _concatenate(layer: Any, shapes: Shapes) -> Iterator[Option]:
    if len(shapes) > 1:
        yield Option("inputs in the opposite order", "keep Keras' order", _IN_REVERSE)
    axes = [axis for axis in range(1, len(shapes[0])) if axis != layer.axis % len(shapes[0])]
    for axis in axes if isinstance(layer, kinds.Concatenate) else ():
        yield Option(f"along axis {axis}", f"the axis is {layer.axis}", _along_reshaped(axis))


def _along_reshaped(axis: int) -> Function:
    """Join along another axis, in the shape that is expected: what a later reshape makes of it."""

    def instead(call: Call, inputs: Sequence[Any], states: Any, masks: Sequence[Any]) -> Found:
        right, _ = compute(call.layer, inputs)
        return (np.concatenate(inputs, axis=axis).reshape(right[0].shape),), ()

    return instead


def _dot(layer: kinds.Dot, _: Shapes) -> Iterator[Option]:
    text = "not normalized" if layer.normalize else "normalized"
    yield Option(text, f"normalize is {layer.normalize}", replace(layer, normalize=not layer.normalize))
    other = (layer.axes[1], layer.axes[0])
    if other != layer.axes:
        yield Option("axes exchanged", f"the axes are {layer.axes}", replace(layer, axes=other))


def _operation(layer: kinds.Operation, shapes: Shapes) -> Iterator[Option]:
    if layer.function in ("subtract", "divide", "power", "floor_divide", "matmul", "less", "greater"):
        yield Option("operands exchanged", "keep their order", _IN_REVERSE)
    others = {"add": "subtract", "subtract": "add", "multiply": "divide", "divide": "multiply", "maximum": "minimum",
              "minimum": "maximum", "equal": "not_equal", "not_equal": "equal", "exp": "log", "log": "exp"}  # fmt: skip
    if layer.function in others:
        other = others[layer.function]
        yield Option(
            f"{other} for {layer.function}", f"the function is {layer.function}", replace(layer, function=other)
        )
    if len(shapes) == 1:
        yield Option("operation dropped", f"compute {layer.function}", unchanged)


def _reduce(layer: kinds.Reduce, shapes: Shapes) -> Iterator[Option]:
    others: Mapping[str, Any] = {"sum": "mean", "mean": "sum", "max": "min", "min": "max", "all": "any", "any": "all"}
    other = others[layer.function]
    yield Option(f"{other} for {layer.function}", f"the function is {layer.function}", replace(layer, function=other))


def _mask_steps(layer: kinds.MaskSteps, _: Shapes) -> Iterator[Option]:
    yield Option("masked steps not zeroed", "a masked step becomes zero", unchanged)


RULES: Rules = {
    kinds.Merge: _merge,
    kinds.Concatenate: _concatenate,
    kinds.Stacking: _concatenate,
    kinds.Dot: _dot,
    kinds.Operation: _operation,
    kinds.Reduce: _reduce,
    kinds.MaskSteps: _mask_steps,
}
