"""Dense, Embedding, activations as layers, and the scales of Rescaling and Normalization."""

from __future__ import annotations

from lstmconv.formats.onnx.writer.activations import add_activation
from lstmconv.formats.onnx.writer.calls import CallWriter, Value
from lstmconv.model.kinds import Activate, Dense, Embedding, Identity, Normalization, PReLU, Rescaling

__all__ = ["activate", "dense", "embedding", "identity", "normalization", "prelu", "rescaling"]

_SMALLEST_DEVIATION = 1e-7
"""The epsilon of Keras' Normalization: ``backend.epsilon()``."""


def dense(call: CallWriter, layer: Dense) -> list[Value]:
    """Multiply the last axis: MatMul takes any rank, and the kernel as Keras stores it."""
    y = call.add("MatMul", [call.float_x, call.weight("kernel")], "product")
    if layer.bias is not None:
        y = call.add("Add", [y, call.weight("bias")], "sum")
    return [call.value(add_activation(call, y, layer.activation))]


def embedding(call: CallWriter, layer: Embedding) -> list[Value]:
    """Gather rows of the table."""
    ids = call.cast(call.x, "int")
    return [call.value(call.add("Gather", [call.weight("table"), ids], "rows", axis=0))]


def activate(call: CallWriter, layer: Activate) -> list[Value]:
    """Compute an activation; places that a mask excludes get nothing of a softmax.

    Source: keras/src/layers/activations/softmax.py, call and _large_negative_number.
    """
    x, rank = call.float_x, call.x.rank
    if call.mask is None or not layer.activation.coupled:
        return [call.value(add_activation(call, x, layer.activation, axis=layer.axis, rank=rank))]
    mask = call.cast(call.mask, "bool")
    kept = call.add("Where", [mask, x, call.number(call.lowest(3e4))], "allowed")
    y = add_activation(call, kept, layer.activation, axis=layer.axis, rank=rank)
    return [call.value(call.add("Where", [mask, y, call.number(0.0)], "masked"))]


def prelu(call: CallWriter, layer: PReLU) -> list[Value]:
    """Add PRelu, whose slope broadcasts against one sample."""
    return [call.value(call.add("PRelu", [call.float_x, call.weight("slope")], "prelu"))]


def rescaling(call: CallWriter, layer: Rescaling) -> list[Value]:
    """Multiply and add."""
    scaled = call.add("Mul", [call.float_x, call.weight("scale")], "scaled")
    return [call.value(call.add("Add", [scaled, call.weight("offset")], "sum"))]


def normalization(call: CallWriter, layer: Normalization) -> list[Value]:
    """Subtract the mean and divide by the deviation, or the other way round."""
    mean = call.weight("mean")
    root = call.add("Sqrt", [call.weight("variance")], "root")
    deviation = call.add("Max", [root, call.number(_SMALLEST_DEVIATION)], "deviation")
    x = call.float_x
    if layer.invert:
        return [call.value(call.add("Add", [call.add("Mul", [x, deviation], "scaled"), mean], "sum"))]
    return [call.value(call.add("Div", [call.add("Sub", [x, mean], "centred"), deviation], "quotient"))]


def identity(call: CallWriter, layer: Identity) -> list[Value]:
    """Hand the input on."""
    return [call.value(call.x.name, call.x.type)]
