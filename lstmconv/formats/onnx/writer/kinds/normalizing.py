"""BatchNormalization, LayerNormalization and UnitNormalization."""

from __future__ import annotations

import numpy as np

from lstmconv.formats.onnx.writer.calls import CallWriter, Value
from lstmconv.model.kinds import BatchNormalization, LayerNormalization, UnitNormalization

__all__ = ["batch_normalization", "layer_normalization", "unit_normalization"]


def batch_normalization(call: CallWriter, layer: BatchNormalization) -> list[Value]:
    """Add a BatchNormalization node, channels on axis 1; ones and zeros where Keras has no gamma or beta."""
    rank = call.x.rank
    channels = layer.mean.shape
    axis = layer.axis % rank
    first = [0, axis, *(place for place in range(1, rank) if place != axis)]
    gamma = call.weight("gamma") if layer.gamma is not None else call.number(np.ones(channels))
    beta = call.weight("beta") if layer.beta is not None else call.number(np.zeros(channels))
    statistics = [call.weight("mean"), call.weight("variance")]
    x = call.moved(call.float_x, first, "channels_first")
    y = call.add("BatchNormalization", [x, gamma, beta, *statistics], "normalized", epsilon=layer.epsilon)
    return [call.value(call.moved(y, [first.index(place) for place in range(rank)], "channels_last"))]


def layer_normalization(call: CallWriter, layer: LayerNormalization) -> list[Value]:
    """Normalize each sample; composed, so that no newer operator set is needed. ONNX Runtime fuses the nodes."""
    rank = call.x.rank
    axes = sorted(axis % rank for axis in layer.axes)
    x = call.float_x
    if not layer.root_mean_square:
        x = call.add("Sub", [x, call.reduce("Mean", x, axes, "mean", keepdims=True)], "centred")
    square = call.add("Mul", [x, x], "square")
    variance = call.reduce("Mean", square, axes, "variance", keepdims=True)
    root = call.add("Sqrt", [call.add("Add", [variance, call.number(layer.epsilon)], "raised")], "root")
    y = call.add("Div", [x, root], "normalized")
    if layer.gamma is not None:
        y = call.add("Mul", [y, _along(call, "gamma", layer.gamma.shape, axes)], "scaled")
    if layer.beta is not None:
        y = call.add("Add", [y, _along(call, "beta", layer.beta.shape, axes)], "sum")
    return [call.value(y)]


def _along(call: CallWriter, key: str, shape: tuple[int, ...], axes: list[int]) -> str:
    """Return an array of the normalised axes' shape so that it broadcasts along them."""
    rank = call.x.rank
    stored = call.weight(key)
    if axes == list(range(axes[0], rank)):
        return stored
    sizes = dict(zip(axes, shape, strict=True))
    return call.add("Reshape", [stored, call.integers([sizes.get(axis, 1) for axis in range(rank)])], f"{key}.along")


def unit_normalization(call: CallWriter, layer: UnitNormalization) -> list[Value]:
    """Divide by the length along the axes."""
    return [
        call.value(unit_vectors(call, call.float_x, [axis % call.x.rank for axis in layer.axes], layer.epsilon, "unit"))
    ]


def unit_vectors(call: CallWriter, x: str, axes: list[int], epsilon: float, label: str) -> str:
    """Return ``x / sqrt(max(sum of squares, epsilon))``."""
    total = call.reduce("Sum", call.add("Mul", [x, x], f"{label}.square"), axes, f"{label}.total", keepdims=True)
    root = call.add("Sqrt", [call.add("Max", [total, call.number(epsilon)], f"{label}.raised")], f"{label}.root")
    return call.add("Div", [x, root], label)
