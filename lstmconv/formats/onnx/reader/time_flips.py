"""Whether a graph turns a sequence round in time before an LSTM node reads it, as exporters write ``go_backwards``.

Source: tf2onnx and Keras' exporter write a ReverseSequence, or a Slice with a negative step, then a forward LSTM.
The same operators turn round features or the batch just as well (torch's ``x.flip(2)``), so the axis is found by
running what stands between on numbers that are all different.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lstmconv.formats.onnx.reader.edges import FAR, MOVED, Routes
from lstmconv.formats.onnx.reader.evaluation import NotEvaluatedError
from lstmconv.formats.onnx.reader.lstm_node import LSTMNode
from lstmconv.formats.onnx.reader.scopes import attribute
from lstmconv.model import Array

if TYPE_CHECKING:
    import onnx

__all__ = ["turns_round"]


def turns_round(node: LSTMNode, routes: Routes) -> bool | None:
    """Whether X is turned round in time before it reaches a node; ``None`` where that depends on lengths."""
    scope, name, turned = node.scope, node.x, False
    for _ in range(FAR):
        index = scope.producers.get(name)
        if index is None:
            break
        above = scope.nodes[index]
        if above.op_type not in MOVED or not above.input or not above.input[0]:
            break
        try:
            axes = _turned_axes(above, node, routes)
            if axes and _is_time(axes, name, node, routes):
                turned = not turned
        except NotEvaluatedError:
            return None
        name = above.input[0]
    return turned


def _turned_axes(above: onnx.NodeProto, node: LSTMNode, routes: Routes) -> tuple[int, ...]:
    """Return the axes that a node turns round, of its first input.

    Raises:
        NotEvaluatedError: It turns round parts of an axis, or which one is not known while reading.
    """
    values = routes.probing(node.scope)
    if above.op_type == "ReverseSequence":  # ReverseSequence-10, Attributes: batch_axis 1, time_axis 0 by default.
        stated = attribute(above, "time_axis")
        axis = int(stated.i) if stated is not None else 0
        if not routes.are_all_steps(node.scope, above.input[1], above.input[0], axis):
            raise NotEvaluatedError("reverses a part of its input in time")
        return (axis,)
    if above.op_type != "Slice" or len(above.input) <= 4 or not above.input[4]:
        return ()
    steps = values.constant(node.scope, above.input[4])
    axes = values.constant(node.scope, above.input[3]) if above.input[3] else np.arange(steps.size)
    return tuple(int(axis) for axis, step in zip(axes.ravel(), steps.ravel(), strict=False) if step < 0)


def _is_time(axes: tuple[int, ...], name: str, node: LSTMNode, routes: Routes) -> bool:
    """Whether turning a value round on these axes turns round X in time, and nothing else of it."""
    shape = routes.shapes_of(node.scope).constant(node.scope, name).shape
    numbers: Array = np.arange(math.prod(shape)).reshape(shape)
    plain, flipped = (_arriving(value, name, node, routes) for value in (numbers, np.flip(numbers, axes)))
    return np.array_equal(flipped, np.flip(plain, 1 if node.layout else 0))


def _arriving(value: Array, name: str, node: LSTMNode, routes: Routes) -> Array:
    """Return X where a value before it is as given."""
    return routes.probing(node.scope, {name: value}).constant(node.scope, node.x)
