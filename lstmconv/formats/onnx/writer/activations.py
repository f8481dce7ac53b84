"""Keras' activations as ONNX nodes: one where ONNX has it, else the few that compute exactly the same.

The attributes of ONNX' nodes are float32, so in float64 what has a number is composed of constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from lstmconv.activations import Activation
from lstmconv.formats.onnx.functions import onnx_function
from lstmconv.formats.onnx.writer.calls import CallWriter

__all__ = ["add_activation"]


def add_activation(call: CallWriter, x: str, activation: Activation, *, axis: int = -1, rank: int | None = None) -> str:
    """Add an activation's nodes and return their output; the tensor itself for linear.

    Args:
        call: Where.
        x: What it is computed of, in the model's float type.
        activation: Which.
        axis: Along which softmax and its like run.
        rank: How many axes ``x`` has, where such a one runs along another axis than the last.
    """
    name = activation.name
    if name == "linear":
        return x
    if name == "softmax":
        return call.add("Softmax", [x], name, axis=axis)
    if name == "log_softmax":
        return call.add("LogSoftmax", [x], name, axis=axis)
    if name == "sparsemax":
        return _sparsemax_along(call, x, axis, rank)
    if call.dtype != np.float64 or not activation.parameters:
        function = onnx_function(activation)
        if function is not None and not (call.dtype == np.float64 and function.alpha):
            return call.add(function.name, [x], name, **function.numbers)
    return _Composed(call, x, activation).add()


class _Composed:
    """An activation of several nodes, by the formulas of :mod:`lstmconv.activations`."""

    def __init__(self, call: CallWriter, x: str, activation: Activation) -> None:
        self.call = call
        self.x = x
        self.activation = activation
        self.name = activation.name
        self.parameters = dict(activation.parameters)

    def add(self) -> str:
        return _FORMULAS[self.name](self)

    def node(self, operator: str, *inputs: str | float, **attributes: float) -> str:
        """Add a node; a number among the inputs is a constant."""
        given = [entry if isinstance(entry, str) else self.call.number(entry) for entry in inputs]
        return self.call.add(operator, given, f"{self.name}.{operator.lower()}", **attributes)

    def clip(self, x: str, low: float, high: float) -> str:
        return self.node("Clip", x, low, high)

    def sigmoid(self) -> str:
        return self.node("Sigmoid", self.x)

    def softplus(self, x: str) -> str:
        return self.node("Softplus", x)

    def linear_clip(self, alpha: float, beta: float) -> str:
        return self.clip(self.node("Add", self.node("Mul", self.x, alpha), beta), 0.0, 1.0)

    def expm1(self, x: str, scale: float) -> str:
        """``scale * (exp(min(x, 0)) - 1)``."""
        return self.node("Mul", self.node("Sub", self.node("Exp", self.node("Min", x, 0.0)), 1.0), scale)

    def positive(self) -> str:
        return self.node("Greater", self.x, 0.0)


def _relu(own: _Composed) -> str:
    slope, ceiling, threshold = (own.parameters[key] for key in ("negative_slope", "max_value", "threshold"))
    x = own.x
    below: str | float = own.node("Mul", own.node("Sub", x, threshold), slope) if slope else 0.0
    y = own.node("Where", own.node("Greater", x, threshold), x, below)
    return y if math.isinf(ceiling) else own.node("Min", y, ceiling)


def _gelu(own: _Composed) -> str:
    x, node = own.x, own.node
    if own.parameters["approximate"]:
        cube = node("Mul", node("Mul", node("Mul", x, x), x), 0.044715)
        inner = node("Tanh", node("Mul", node("Add", x, cube), math.sqrt(2.0 / math.pi)))
    else:
        inner = node("Erf", node("Mul", x, math.sqrt(0.5)))
    return node("Mul", node("Mul", x, 0.5), node("Add", inner, 1.0))


def _sparse_plus(own: _Composed) -> str:
    x, node = own.x, own.node
    up = node("Add", x, 1.0)
    middle = node("Mul", node("Mul", up, up), 0.25)
    return node("Where", node("LessOrEqual", x, -1.0), 0.0, node("Where", node("Less", x, 1.0), middle, x))


def _soft_shrink(own: _Composed) -> str:
    x, node, threshold = own.x, own.node, own.parameters["threshold"]
    return node("Mul", node("Sign", x), node("Relu", node("Sub", node("Abs", x), threshold)))


def _selu(own: _Composed) -> str:
    scale = 1.0507009873554804934193349852946
    below = own.expm1(own.x, 1.6732632423543772848170429916717)
    return own.node("Mul", own.node("Where", own.positive(), own.x, below), scale)


def _celu(own: _Composed) -> str:
    alpha = own.parameters["alpha"]
    return own.node("Where", own.positive(), own.x, own.expm1(own.node("Div", own.x, alpha), alpha))


_FORMULAS: Mapping[str, Callable[[_Composed], str]] = {
    "hard_sigmoid": lambda own: own.linear_clip(own.parameters["alpha"], own.parameters["beta"]),
    "sparse_sigmoid": lambda own: own.linear_clip(0.5, 0.5),
    "relu": _relu,
    "elu": lambda own: own.node("Where", own.positive(), own.x, own.expm1(own.x, own.parameters["alpha"])),
    "celu": _celu,
    "selu": _selu,
    "softsign": lambda own: own.node("Div", own.x, own.node("Add", own.node("Abs", own.x), 1.0)),
    "exponential": lambda own: own.node("Exp", own.x),
    "silu": lambda own: own.node("Mul", own.x, own.sigmoid()),
    "gelu": _gelu,
    "mish": lambda own: own.node("Mul", own.x, own.node("Tanh", own.softplus(own.x))),
    "hard_silu": lambda own: own.node("Mul", own.x, own.linear_clip(1 / 6, 0.5)),
    "hard_tanh": lambda own: own.clip(own.x, -1.0, 1.0),
    "log_sigmoid": lambda own: own.node("Neg", own.softplus(own.node("Neg", own.x))),
    "sparse_plus": _sparse_plus,
    "squareplus": lambda own: own.node(
        "Mul",
        own.node("Add", own.x, own.node("Sqrt", own.node("Add", own.node("Mul", own.x, own.x), own.parameters["b"]))),
        0.5,
    ),
    "soft_shrink": _soft_shrink,
    "hard_shrink": lambda own: own.node(
        "Where", own.node("Greater", own.node("Abs", own.x), own.parameters["threshold"]), own.x, 0.0
    ),
    "tanh_shrink": lambda own: own.node("Sub", own.x, own.node("Tanh", own.x)),
}


def _sparsemax_along(call: CallWriter, x: str, axis: int, rank: int | None) -> str:
    if axis == -1 or rank is None or axis % rank == rank - 1:
        return _sparsemax(call, x)
    order = [place for place in range(rank) if place != axis % rank] + [axis % rank]
    turned = _sparsemax(call, call.moved(x, order, "sparsemax.last"))
    return call.moved(turned, [order.index(place) for place in range(rank)], "sparsemax.turned")


def _sparsemax(call: CallWriter, x: str) -> str:
    """Add Keras' sparsemax along the last axis; the cumulated sums as :mod:`lstmconv.activations` says."""
    ones = call.number(1.0)
    shape = call.add("Shape", [x], "sparsemax.shape")
    size = call.add("Gather", [shape, call.integers([-1])], "sparsemax.size", axis=0)
    ordered, _ = call.graph.add_node(
        "TopK", [x, size], [f"{call.name}.sparsemax.ordered", f"{call.name}.sparsemax.places"], axis=-1
    )
    last = call.integers(-1)
    cumulated = call.add("CumSum", [ordered, last], "sparsemax.cumulated")
    end = call.add(
        "Gather", [call.add("Add", [shape, call.integers(1)], "sparsemax.ends"), last], "sparsemax.end", axis=0
    )
    counted = call.add("Range", [call.integers(1), end, call.integers(1)], "sparsemax.range")
    rank = call.add("Cast", [counted], "sparsemax.rank", to=call.element("float"))
    excess = call.add("Div", [call.add("Sub", [cumulated, ones], "sparsemax.less"), rank], "sparsemax.mean")
    support = call.add(
        "Greater", [call.add("Sub", [ordered, excess], "sparsemax.above"), call.number(0.0)], "sparsemax.support"
    )
    counted = call.add("Cast", [support], "sparsemax.counted", to=call.element("float"))
    summed = call.add("Mul", [cumulated, counted], "sparsemax.summed")
    total = call.reduce("Sum", summed, [-1], "sparsemax.total", keepdims=True)
    count = call.reduce("Sum", counted, [-1], "sparsemax.count", keepdims=True)
    threshold = call.add("Div", [call.add("Sub", [total, ones], "sparsemax.over"), count], "sparsemax.threshold")
    return call.add("Relu", [call.add("Sub", [x, threshold], "sparsemax.rest")], "sparsemax")
