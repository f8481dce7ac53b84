"""Compute every kind of layer except the recurrent ones, in NumPy float64, batch first.

Sources: keras/src/layers and keras/src/ops (3.15), keras/layers (2.3.1), tf_keras/src/layers (2.21); where these
differ, the classes of :mod:`lstmconv.model.kinds` have an attribute for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lstmconv.activations import Activation
from lstmconv.errors import UsageError
from lstmconv.model import kinds
from lstmconv.model.windows import same_padding, transposed_padding, window_sizes
from lstmconv.semantics.attention import attention, multi_head_attention
from lstmconv.semantics.operations import OPERATIONS, cast

__all__ = ["RULES", "Arrays", "Masks", "activated"]

Array: TypeAlias = npt.NDArray[Any]
Float64: TypeAlias = npt.NDArray[np.float64]
Arrays: TypeAlias = "Sequence[Array]"
Masks: TypeAlias = "Sequence[npt.NDArray[np.bool_] | None]"

_SMALLEST_DEVIATION = 1e-7
"""keras.backend.epsilon(): the smallest standard deviation that Normalization uses."""
_SMALLEST_SQUARE = 1e-12
"""The smallest sum of squares that Dot uses to normalize (tf.nn.l2_normalize; Keras 3 uses a smaller one)."""


def _f(array: npt.ArrayLike) -> Float64:
    return np.asarray(array, np.float64)


def activated(activation: Activation, x: Float64, axis: int = -1) -> Float64:
    """Apply an activation; softmax and similar functions run along ``axis``."""
    if not activation.coupled or axis in (-1, x.ndim - 1):
        return activation(x)
    return np.moveaxis(activation(np.moveaxis(x, axis, -1)), -1, axis)


def _activate(layer: kinds.Activate, inputs: Arrays, masks: Masks) -> Array:
    """Apply an activation; masked places of a softmax become 0 (keras/src/layers/activations/softmax.py)."""
    x, mask = _f(inputs[0]), next(iter(masks), None)
    if mask is None or not layer.activation.coupled:
        return activated(layer.activation, x, layer.axis)
    powers = activated(layer.activation, np.where(mask, x, -1e9), layer.axis)
    return np.where(mask, powers, 0.0)


def _dense(layer: kinds.Dense, inputs: Arrays, _: Masks) -> Array:
    x, kernel = _f(inputs[0]), _f(layer.kernel)
    flat = x.reshape(-1, x.shape[-1]) @ kernel
    z = flat.reshape(*x.shape[:-1], kernel.shape[1])
    return layer.activation(z if layer.bias is None else z + _f(layer.bias))


def _embedding(layer: kinds.Embedding, inputs: Arrays, _: Masks) -> Array:
    ids = np.asarray(inputs[0]).astype(np.int64)
    if ids.size and not (ids.min() >= 0 and ids.max() < len(layer.table)):
        raise UsageError(
            f"{layer.name}: token ids go from {ids.min()} to {ids.max()}, its table has {len(layer.table)}"
        )
    return _f(layer.table[ids])


def _prelu(layer: kinds.PReLU, inputs: Arrays, _: Masks) -> Array:
    x = _f(inputs[0])
    return np.where(x > 0, x, _f(layer.slope) * x)


# Windows


def _last(x: Float64, channels_first: bool) -> Float64:
    """Move the channels to the last axis."""
    return np.moveaxis(x, 1, -1) if channels_first else x


def _first(x: Float64, channels_first: bool) -> Float64:
    """Move the channels from the last axis back to the layer's channel axis."""
    return np.moveaxis(x, -1, 1) if channels_first else x


def _padded(
    x: Float64, windows: Sequence[int], strides: Sequence[int], padding: kinds.Padding, value: float = 0.0
) -> Float64:
    """Pad the spatial axes of ``(batch, spatial..., channels)``."""
    if padding == "valid":
        return x
    sizes = zip(x.shape[1:-1], windows, strides, strict=True)
    if padding == "causal":
        amounts = [(window - 1, 0) for _, window, _ in sizes]
    else:
        amounts = [same_padding(*each) for each in sizes]
    return np.pad(x, [(0, 0), *amounts, (0, 0)], constant_values=value)


def _views(x: Float64, size: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> list[Float64]:
    """Return, for each place of a window, the elements of all windows there: ``(batch, windows..., channels)``."""
    windows = window_sizes(size, dilation)
    counts = [(n - w) // s + 1 for n, w, s in zip(x.shape[1:-1], windows, strides, strict=True)]
    return [
        x[
            (
                slice(None),
                *(
                    slice(o * d, o * d + (n - 1) * s + 1, s)
                    for o, d, n, s in zip(offset, dilation, counts, strides, strict=True)
                ),
            )
        ]
        for offset in product(*map(range, size))
    ]


def _convolution(layer: kinds.Convolution, inputs: Arrays, _: Masks) -> Array:
    kernel = _f(layer.kernel)
    size = kernel.shape[:-2]
    x = _padded(
        _last(_f(inputs[0]), layer.channels_first), window_sizes(size, layer.dilation), layer.strides, layer.padding
    )
    own, filters, groups = kernel.shape[-2], kernel.shape[-1], layer.groups
    z: Any = 0.0
    for view, weights in zip(
        _views(x, size, layer.strides, layer.dilation), kernel.reshape(-1, own, filters), strict=True
    ):
        if groups == 1:
            z = z + view @ weights
        else:  # Group g has the g-th part of the channels and the g-th part of the filters.
            parts = view.reshape(*view.shape[:-1], groups, own)
            z = z + np.einsum("...gc,cgf->...gf", parts, weights.reshape(own, groups, -1)).reshape(
                *view.shape[:-1], filters
            )
    z = z if layer.bias is None else z + _f(layer.bias)
    return activated(layer.activation, _first(z, layer.channels_first))


def _transposed(layer: kinds.TransposedConvolution, inputs: Arrays, _: Masks) -> Array:
    kernel = _f(layer.kernel)
    size, filters = kernel.shape[:-2], kernel.shape[-2]
    x = _last(_f(inputs[0]), layer.channels_first)
    windows = window_sizes(size, layer.dilation)
    full = [(n - 1) * s + w for n, s, w in zip(x.shape[1:-1], layer.strides, windows, strict=True)]
    z = np.zeros((len(x), *full, filters))
    views = _views(z, size, layer.strides, layer.dilation)  # Views into z: adding to a view adds to z.
    for view, weights in zip(views, kernel.reshape(-1, filters, kernel.shape[-1]), strict=True):
        view += x @ weights.T
    extra = layer.output_padding or (None,) * len(size)
    for axis, (window, stride, more) in enumerate(zip(windows, layer.strides, extra, strict=True), 1):
        before, after = transposed_padding(window, stride, layer.padding, more)
        z = np.pad(z, [(max(-before, 0), max(-after, 0)) if k == axis else (0, 0) for k in range(z.ndim)])
        z = z[(slice(None),) * axis + (slice(max(before, 0), z.shape[axis] - max(after, 0)),)]
    z = z if layer.bias is None else z + _f(layer.bias)
    return activated(layer.activation, _first(z, layer.channels_first))


def _pooling(layer: kinds.Pooling, inputs: Arrays, _: Masks) -> Array:
    x, ones = _last(_f(inputs[0]), layer.channels_first), (1,) * len(layer.size)

    def views(array: Float64, value: float) -> list[Float64]:
        return _views(_padded(array, layer.size, layer.strides, layer.padding, value), layer.size, layer.strides, ones)

    if layer.function == "max":
        return _first(np.max(views(x, -np.inf), axis=0), layer.channels_first)
    count = np.sum(views(np.ones((1, *x.shape[1:-1], 1)), 0.0), axis=0)
    return _first(np.sum(views(x, 0.0), axis=0) / count, layer.channels_first)


def _global_pooling(layer: kinds.GlobalPooling, inputs: Arrays, masks: Masks) -> Array:
    x, mask = _last(_f(inputs[0]), layer.channels_first), next(iter(masks), None)
    axes = tuple(range(1, x.ndim - 1))
    if layer.function == "max":
        pooled: Float64 = x.max(axis=axes, keepdims=True)
    elif mask is None:
        pooled = x.mean(axis=axes, keepdims=True)
    else:
        counted = np.asarray(mask, bool)[..., None]
        pooled = np.where(counted, x, 0.0).sum(axis=1, keepdims=True) / counted.sum(axis=1, keepdims=True)
    return _first(pooled, layer.channels_first) if layer.keepdims else pooled.reshape(len(x), x.shape[-1])


# Normalization


def _along(array: npt.ArrayLike, rank: int, axes: Sequence[int]) -> Float64:
    """Reshape an array over some axes to a tensor's number of axes, with size 1 for the others."""
    values, shape = _f(array), [1] * rank
    for axis, size in zip(sorted(axis % rank for axis in axes), values.shape, strict=True):
        shape[axis] = size
    return values.reshape(shape)


def _batch_normalization(layer: kinds.BatchNormalization, inputs: Arrays, _: Masks) -> Array:
    x = _f(inputs[0])
    mean, variance = (_along(array, x.ndim, [layer.axis]) for array in (layer.mean, layer.variance))
    return _scaled(layer, (x - mean) / np.sqrt(variance + layer.epsilon), [layer.axis])


def _scaled(layer: kinds.BatchNormalization | kinds.LayerNormalization, x: Float64, axes: Sequence[int]) -> Float64:
    if layer.gamma is not None:
        x = x * _along(layer.gamma, x.ndim, axes)
    return x if layer.beta is None else x + _along(layer.beta, x.ndim, axes)


def _layer_normalization(layer: kinds.LayerNormalization, inputs: Arrays, _: Masks) -> Array:
    x = _f(inputs[0])
    centred = x if layer.root_mean_square else x - x.mean(axis=layer.axes, keepdims=True)
    deviation = np.sqrt(np.square(centred).mean(axis=layer.axes, keepdims=True) + layer.epsilon)
    return _scaled(layer, centred / deviation, layer.axes)


def _unit(x: Float64, axes: tuple[int, ...], epsilon: float) -> Float64:
    square: Float64 = np.square(x).sum(axis=axes, keepdims=True)
    return x / np.sqrt(np.maximum(square, epsilon))


def _normalization(layer: kinds.Normalization, inputs: Arrays, _: Masks) -> Array:
    x, deviation = _f(inputs[0]), np.maximum(np.sqrt(_f(layer.variance)), _SMALLEST_DEVIATION)
    return x * deviation + _f(layer.mean) if layer.invert else (x - _f(layer.mean)) / deviation


# Shapes


def _reshape(layer: kinds.Reshape, inputs: Arrays, _: Masks) -> Array:
    (x,) = inputs
    if layer.fixed_batch:
        return x.reshape(layer.shape)
    rest = int(np.prod(x.shape[1:]))
    known = int(np.prod([size for size in layer.shape if size != -1]))
    return x.reshape(len(x), *(rest // max(known, 1) if size == -1 else size for size in layer.shape))


def _pad(layer: kinds.Pad, inputs: Arrays, _: Masks) -> Array:
    return np.pad(inputs[0], layer.amounts, constant_values=layer.value)


def _crop(layer: kinds.Crop, inputs: Arrays, _: Masks) -> Array:
    (x,) = inputs
    return x[tuple(slice(a, size - b) for size, (a, b) in zip(x.shape, layer.amounts, strict=True))]


def _upsample(layer: kinds.Upsample, inputs: Arrays, _: Masks) -> Array:
    (x,) = inputs
    for axis, factor in enumerate(layer.factors):
        x = x.repeat(factor, axis=axis)
    return x


def _slice(layer: kinds.Slice, inputs: Arrays, _: Masks) -> Array:
    index = tuple(slice(*entry) if isinstance(entry, tuple) else entry for entry in layer.index)
    return np.asarray(inputs[0][index])


# Several inputs


def _merge(layer: kinds.Merge, inputs: Arrays, _: Masks) -> Array:
    rank = max(array.ndim for array in inputs)
    parts = [_f(x).reshape(*x.shape[:1], *(1,) * (rank - x.ndim), *x.shape[1:]) for x in inputs]
    joined = parts[0]
    operation = OPERATIONS["add" if layer.operation == "average" else layer.operation]
    for part in parts[1:]:
        joined = operation(joined, part)
    return joined / len(parts) if layer.operation == "average" else joined


def _dot(layer: kinds.Dot, inputs: Arrays, _: Masks) -> Array:
    """Sum over one axis of each (keras/src/layers/merging/dot.py batch_dot)."""
    x, y = _f(inputs[0]), _f(inputs[1])
    if layer.normalize:
        x, y = (_unit(array, (axis,), _SMALLEST_SQUARE) for array, axis in zip((x, y), layer.axes, strict=True))
    left, right = np.moveaxis(x, layer.axes[0], -1), np.moveaxis(y, layer.axes[1], 1)
    rows = left.reshape(len(left), int(np.prod(left.shape[1:-1])), left.shape[-1])
    columns = right.reshape(len(right), right.shape[1], int(np.prod(right.shape[2:])))
    shape = left.shape[1:-1] + right.shape[2:]
    products = rows @ columns
    return products.reshape(len(products), *(shape or (1,)))


def _is_unmasked(x: Float64, value: float) -> npt.NDArray[np.bool_]:
    """Return the steps in which any feature differs from a value; Keras rounds the value to the model's dtype."""
    differs: npt.NDArray[np.bool_] = ((x != value) & (x != np.float32(value))).any(axis=-1)
    return differs


def _mask_steps(layer: kinds.MaskSteps, inputs: Arrays, _: Masks) -> Array:
    x = _f(inputs[0])
    return x * _is_unmasked(x, layer.value)[..., None]


_REDUCTIONS: Mapping[str, Callable[..., Any]] = {
    "sum": np.sum,
    "mean": np.mean,
    "max": np.max,
    "min": np.min,
    "all": np.all,
    "any": np.any,
}

RULES: Mapping[type[Any], Callable[[Any, Arrays, Masks], Array | tuple[Array, ...]]] = {
    kinds.Dense: _dense,
    kinds.Embedding: _embedding,
    kinds.Activate: _activate,
    kinds.PReLU: _prelu,
    kinds.Convolution: _convolution,
    kinds.TransposedConvolution: _transposed,
    kinds.Pooling: _pooling,
    kinds.GlobalPooling: _global_pooling,
    kinds.BatchNormalization: _batch_normalization,
    kinds.LayerNormalization: _layer_normalization,
    kinds.UnitNormalization: lambda layer, inputs, _: _unit(_f(inputs[0]), layer.axes, layer.epsilon),
    kinds.Rescaling: lambda layer, inputs, _: _f(inputs[0]) * _f(layer.scale) + _f(layer.offset),
    kinds.Normalization: _normalization,
    kinds.Identity: lambda _, inputs, __: inputs[0],
    kinds.Reshape: _reshape,
    kinds.Permute: lambda layer, inputs, _: inputs[0].transpose(layer.order),
    kinds.RepeatVector: lambda layer, inputs, _: inputs[0][:, None].repeat(layer.count, axis=1),
    kinds.Pad: _pad,
    kinds.Crop: _crop,
    kinds.Upsample: _upsample,
    kinds.Merge: _merge,
    kinds.Concatenate: lambda layer, inputs, _: np.concatenate(inputs, axis=layer.axis),
    kinds.Stacking: lambda layer, inputs, _: np.stack(np.broadcast_arrays(*inputs), axis=layer.axis),
    kinds.Dot: _dot,
    kinds.Constant: lambda layer, _, __: cast(layer.value, layer.value.dtype.name),
    kinds.Operation: lambda layer, inputs, _: np.asarray(OPERATIONS[layer.function](*inputs)),
    kinds.Cast: lambda layer, inputs, _: cast(inputs[0], layer.dtype),
    kinds.Reduce: lambda layer, inputs, _: np.asarray(
        _REDUCTIONS[layer.function](inputs[0], axis=layer.axes, keepdims=layer.keepdims)
    ),
    kinds.Slice: _slice,
    kinds.MaskSteps: _mask_steps,
    kinds.StepIsUnmasked: lambda layer, inputs, _: _is_unmasked(_f(inputs[0]), layer.value),
    kinds.Attention: attention,
    kinds.MultiHeadAttention: multi_head_attention,
}
"""The function of each kind: it takes inputs and masks of a call, and returns one array or several outputs."""
