"""The output shapes and the padding of convolutions and poolings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lstmconv.model import kinds
from lstmconv.model.gates import Array
from lstmconv.model.graph import Shape
from lstmconv.model.shape_checks import Size, misfit, refuse_other_size

__all__ = ["RULES", "same_padding", "transposed_padding", "window_sizes"]


def _split(shape: Shape, channels_first: bool) -> tuple[Size, tuple[Size, ...], Size]:
    """Split a shape into batch, spatial sizes and channels."""
    if channels_first:
        return shape[0], shape[2:], shape[1]
    return shape[0], shape[1:-1], shape[-1]


def _joined(batch: Size, spatial: Sequence[Size], channels: Size, channels_first: bool) -> Shape:
    return (batch, channels, *spatial) if channels_first else (batch, *spatial, channels)


def _places(size: Size, window: int, stride: int, padding: kinds.Padding) -> Size:
    """Return how many windows fit along an axis (keras/src/ops/operation_utils.py compute_conv_output_shape)."""
    if size is None:
        return None
    if padding != "valid":
        return -(-size // stride)
    if size < window:
        raise ValueError(f"a window of {window} does not fit into {size} places")
    return (size - window) // stride + 1


def window_sizes(kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """Return how many places a kernel covers along each spatial axis.

    >>> window_sizes((3, 2), dilation=(2, 1))
    [5, 2]
    """
    return [(size - 1) * rate + 1 for size, rate in zip(kernel, dilation, strict=True)]


def same_padding(size: int, window: int, stride: int) -> tuple[int, int]:
    """Return how many zeros ``same`` puts before and after an axis.

    All of Keras' backends follow TensorFlow's rule (tensorflow/core/framework/common_shape_fns.cc
    GetWindowedOutputSizeVerbose): the output has ``ceil(size / stride)`` places, and an odd number of zeros has its
    larger part last.

    >>> same_padding(5, window=4, stride=1)
    (1, 2)
    """
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def transposed_padding(window: int, stride: int, padding: kinds.Padding, output_padding: int | None) -> tuple[int, int]:
    """Return how many places of a full transposed convolution are cut on each side.

    A full transposed convolution has ``(size - 1) * stride + window`` places. A negative result is a number of zeros to
    add (keras/src/backend/common/backend_utils.py _convert_conv_transpose_padding_args_from_keras_to_jax). ``window``
    includes the dilation.
    """
    if padding == "valid":
        more = max(window, stride) - window if output_padding is None else output_padding
        return 0, -more
    total = stride + window - 2 if output_padding is None else window + window % 2 - 2 + output_padding
    left = min(total // 2 + total % 2, window - 1)
    return window - 1 - left, window - 1 - (total - left)


def _spatial(layer: Any, shapes: Sequence[Shape], kernel: Array) -> tuple[Size, tuple[Size, ...], Size]:
    batch, spatial, channels = _split(shapes[0], layer.channels_first)
    if len(spatial) != kernel.ndim - 2:
        raise misfit(layer, shapes, f"its kernel is {kernel.shape}")
    return batch, spatial, channels


def _convolution(layer: kinds.Convolution, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    batch, spatial, channels = _spatial(layer, shapes, layer.kernel)
    refuse_other_size(layer, shapes, channels, layer.kernel.shape[-2] * layer.groups, "channels are")
    windows = window_sizes(layer.kernel.shape[:-2], layer.dilation)
    places = [
        _places(size, window, stride, layer.padding)
        for size, window, stride in zip(spatial, windows, layer.strides, strict=True)
    ]
    return (_joined(batch, places, layer.kernel.shape[-1], layer.channels_first),)


def _transposed(layer: kinds.TransposedConvolution, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    batch, spatial, channels = _spatial(layer, shapes, layer.kernel)
    refuse_other_size(layer, shapes, channels, layer.kernel.shape[-1], "channels are")
    windows = window_sizes(layer.kernel.shape[:-2], layer.dilation)
    extra = layer.output_padding or (None,) * len(spatial)
    places = [
        None
        if size is None
        else (size - 1) * stride + window - sum(transposed_padding(window, stride, layer.padding, more))
        for size, window, stride, more in zip(spatial, windows, layer.strides, extra, strict=True)
    ]
    return (_joined(batch, places, layer.kernel.shape[-2], layer.channels_first),)


def _pooling(layer: kinds.Pooling, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    batch, spatial, channels = _split(shapes[0], layer.channels_first)
    places = [
        _places(size, window, stride, layer.padding)
        for size, window, stride in zip(spatial, layer.size, layer.strides, strict=True)
    ]
    return (_joined(batch, places, channels, layer.channels_first),)


def _global_pooling(layer: kinds.GlobalPooling, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    batch, spatial, channels = _split(shapes[0], layer.channels_first)
    if layer.keepdims:
        return (_joined(batch, [1] * len(spatial), channels, layer.channels_first),)
    return ((batch, channels),)


RULES: Mapping[type[Any], Callable[[Any, list[Shape]], tuple[Shape, ...]]] = {
    kinds.Convolution: _convolution,
    kinds.TransposedConvolution: _transposed,
    kinds.Pooling: _pooling,
    kinds.GlobalPooling: _global_pooling,
}
