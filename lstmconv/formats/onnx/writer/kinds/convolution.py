"""Convolutions and poolings: ONNX has the channels first, Keras mostly last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lstmconv.formats.onnx.writer.activations import add_activation
from lstmconv.formats.onnx.writer.calls import CallWriter, Value
from lstmconv.model.kinds import Convolution, GlobalPooling, Pooling, TransposedConvolution

__all__ = ["convolution", "global_pooling", "pooling", "transposed_convolution"]


def _channels_first(call: CallWriter, add: Callable[[str], str], rank: int, label: str, *, already: bool) -> str:
    """Compute on ``(batch, channels, spatial...)``, and put the channels back where they were."""
    if already:
        return add(call.float_x)
    first = [0, rank - 1, *range(1, rank - 1)]
    last = [0, *range(2, rank), 1]
    return call.moved(add(call.moved(call.float_x, first, f"{label}.channels_first")), last, f"{label}.channels_last")


def _convolved(
    call: CallWriter, layer: Convolution | TransposedConvolution, operator: str, **attributes: Any
) -> list[Value]:
    """Add a convolution's node, and its activation along the channels."""
    rank = layer.kernel.ndim
    weights = [call.weight("kernel"), *([] if layer.bias is None else [call.weight("bias")])]

    def add(x: str) -> str:
        return call.add(
            operator,
            [x, *weights],
            "conv",
            kernel_shape=layer.kernel.shape[:-2],
            strides=layer.strides,
            dilations=layer.dilation,
            **attributes,
        )

    y = _channels_first(call, add, rank, "conv", already=layer.channels_first)
    axis = 1 if layer.channels_first else -1
    return [call.value(add_activation(call, y, layer.activation, axis=axis, rank=rank))]


def convolution(call: CallWriter, layer: Convolution) -> list[Value]:
    """Add a Conv node; its W is ``(filters, input / groups, spatial...)``."""
    return _convolved(call, layer, "Conv", group=layer.groups, **_conv_padding(layer))


def _conv_padding(layer: Convolution) -> dict[str, Any]:
    """Return how many zeros stand around; SAME_UPPER only where the sequence's length decides.

    ONNX Runtime refuses SAME_UPPER with dilation, which Keras has only with stride 1.
    """
    if layer.padding == "valid":
        return {}
    totals = [(size - 1) * dilation for size, dilation in zip(layer.kernel.shape[:-2], layer.dilation, strict=True)]
    if layer.padding == "causal":
        return {"pads": [*totals, *([0] * len(totals))]}
    if any(stride != 1 for stride in layer.strides):
        return {"auto_pad": "SAME_UPPER"}
    return {"pads": [*(total // 2 for total in totals), *(total - total // 2 for total in totals)]}


def transposed_convolution(call: CallWriter, layer: TransposedConvolution) -> list[Value]:
    """Add a ConvTranspose node; its W is ``(input, filters, spatial...)``."""
    sizes = layer.kernel.shape[:-2]
    stated = layer.output_padding or [None] * len(sizes)
    lefts, rights, extras = zip(
        *(
            _transposed_padding(layer.padding, (size - 1) * dilation + 1, stride, extra)
            for size, stride, dilation, extra in zip(sizes, layer.strides, layer.dilation, stated, strict=True)
        ),
        strict=True,
    )
    return _convolved(call, layer, "ConvTranspose", pads=[*lefts, *rights], output_padding=extras)


def _transposed_padding(padding: str, size: int, stride: int, output_padding: int | None) -> tuple[int, int, int]:
    """Return what is cut off on the left and on the right, and what is added on the right.

    Without cuts the output has ``(steps - 1) * stride + size`` places, and Keras' has
    ``(steps - 1) * stride + rest`` (keras/src/backend/common/backend_utils.py compute_conv_transpose_output_length).
    The cuts are those of the convolution whose gradient this is: half on the left, the larger part on the right.
    """
    if output_padding is None:
        rest = max(size, stride) if padding == "valid" else stride
    else:
        rest = size + output_padding - (0 if padding == "valid" else 2 * (size // 2))
    left = 0 if padding == "valid" else max(size - rest, 0) // 2
    return left, max(size - left - rest, 0), max(rest - size + left, 0)


def pooling(call: CallWriter, layer: Pooling) -> list[Value]:
    """Add MaxPool or AveragePool, which counts no padded place."""
    operator = "MaxPool" if layer.function == "max" else "AveragePool"

    def add(x: str) -> str:
        padding = {"auto_pad": "SAME_UPPER"} if layer.padding == "same" else {}
        return call.add(operator, [x], "pool", kernel_shape=layer.size, strides=layer.strides, **padding)

    return [call.value(_channels_first(call, add, len(layer.size) + 2, "pool", already=layer.channels_first))]


def global_pooling(call: CallWriter, layer: GlobalPooling) -> list[Value]:
    """Reduce the spatial axes; a masked average divides by the steps that count."""
    rank = call.x.rank
    axes = list(range(2, rank)) if layer.channels_first else list(range(1, rank - 1))
    x = call.float_x
    if layer.function == "max":
        return [call.value(call.reduce("Max", x, axes, "pool", keepdims=layer.keepdims))]
    if call.mask is None:
        return [call.value(call.reduce("Mean", x, axes, "pool", keepdims=layer.keepdims))]
    counted = call.unsqueezed(call.cast(call.mask, "float"), [1 if layer.channels_first else 2], "counted")
    total = call.reduce("Sum", call.add("Mul", [x, counted], "masked"), axes, "total", keepdims=layer.keepdims)
    count = call.reduce("Sum", counted, axes, "count", keepdims=layer.keepdims)
    return [call.value(call.add("Div", [total, count], "pool"))]
