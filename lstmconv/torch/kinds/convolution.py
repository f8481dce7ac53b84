"""Convolutions and poolings in torch, padded as TensorFlow does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lstmconv.model.kinds import (
    Convolution,
    GlobalPooling,
    Pooling,
    TransposedConvolution,
)
from lstmconv.torch.activations import activate
from lstmconv.torch.arrays import dtype_of
from lstmconv.torch.kinds.built import Builders, Built, Masks, in_dtype_of

__all__ = ["BUILDERS"]

_F = nn.functional
_CONVOLUTIONS: Sequence[type[nn.Module]] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED: Sequence[type[nn.Module]] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return TensorFlow's ``same``: of an odd number of zeros the larger part comes last."""
    total = max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def _padded(x: Tensor, layer: _Window, value: float = 0.0) -> Tensor:
    """Pad ``x (batch, channels, spatial...)`` as the layer's padding says."""
    if layer.padding == "valid":
        return x
    amounts: list[int] = []
    for axis in reversed(range(len(layer.size))):  # torch lists the last axis first.
        kernel, stride, dilation = layer.size[axis], layer.strides[axis], layer.dilation[axis]
        if layer.padding == "causal":
            amounts += [(kernel - 1) * dilation, 0]
        else:
            amounts += _same(x.shape[axis + 2], kernel, stride, dilation)
    return _F.pad(x, amounts, value=value) if any(amounts) else x


class _Window(NamedTuple):
    """A convolution's or a pooling's window."""

    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str
    channels_first: bool


def _convolution(layer: Convolution, _: torch.dtype) -> Built:
    *spatial, inputs_of_group, filters = layer.kernel.shape
    window = _Window(tuple(spatial), layer.strides, layer.dilation, layer.padding, layer.channels_first)
    module = _CONVOLUTIONS[len(spatial) - 1](
        inputs_of_group * layer.groups,
        filters,
        tuple(spatial),
        layer.strides,
        dilation=layer.dilation,
        groups=layer.groups,
        bias=layer.bias is not None,
        device="meta",
        dtype=dtype_of(layer.kernel),
    )
    activation = layer.activation

    def run(module: Any, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        x = _channels_first(in_dtype_of(inputs[0], module.weight), window.channels_first)
        return (activate(activation, _channels_back(module(_padded(x, window)), window.channels_first)),)

    return Built(module, run)


def _channels_first(x: Tensor, already: bool) -> Tensor:
    return x if already else x.movedim(-1, 1)


def _channels_back(x: Tensor, already: bool) -> Tensor:
    return x if already else x.movedim(1, -1)


def _transposed_convolution(layer: TransposedConvolution, _: torch.dtype) -> Built:
    *spatial, filters, channels = layer.kernel.shape
    rank = len(spatial)
    module = _TRANSPOSED[rank - 1](
        channels,
        filters,
        tuple(spatial),
        layer.strides,
        bias=layer.bias is not None,
        dilation=layer.dilation,
        device="meta",
        dtype=dtype_of(layer.kernel),
    )
    crops = [
        _transposed_crop(*sizes, layer.padding, None if layer.output_padding is None else layer.output_padding[axis])
        for axis, sizes in enumerate(zip(spatial, layer.strides, layer.dilation, strict=True))
    ]
    convolve: Any = (_F.conv_transpose1d, _F.conv_transpose2d, _F.conv_transpose3d)[rank - 1]
    strides, dilation, first, activation = layer.strides, layer.dilation, layer.channels_first, layer.activation

    def run(module: Any, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        x = _channels_first(in_dtype_of(inputs[0], module.weight), first)
        full = convolve(x, module.weight, None, strides, dilation=dilation)
        cut = _F.pad(full, [-amount for crop in reversed(crops) for amount in crop])  # Less than nothing is cut off.
        if module.bias is not None:
            cut = cut + module.bias.reshape(-1, *[1] * rank)
        return (activate(activation, _channels_back(cut, first)),)

    return Built(module, run)


def _transposed_crop(
    size: int, stride: int, dilation: int, padding: str, output_padding: int | None
) -> tuple[int, int]:
    """Return what Keras cuts off on both sides of the full output; negative where it adds zeros.

    Source: keras/src/backend/common/backend_utils.py compute_conv_transpose_output_crops_for_torch (3.15).
    """
    kernel = (size - 1) * dilation + 1
    if padding == "valid":
        return 0, -(max(kernel, stride) - kernel if output_padding is None else output_padding)
    total = stride + kernel - 2 if output_padding is None else kernel + kernel % 2 - 2 + output_padding
    left = min(total // 2 + total % 2, kernel - 1)
    return kernel - 1 - left, kernel - 1 - (total - left)


_POOLS: dict[str, Sequence[Callable[..., Tensor]]] = {
    "max": (_F.max_pool1d, _F.max_pool2d, _F.max_pool3d),
    "average": (_F.avg_pool1d, _F.avg_pool2d, _F.avg_pool3d),
}


def _pooling(layer: Pooling, _: torch.dtype) -> Built:
    rank = len(layer.size)
    window = _Window(layer.size, layer.strides, (1,) * rank, layer.padding, layer.channels_first)
    pool, largest = _POOLS[layer.function][rank - 1], layer.function == "max"

    def run(module: None, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        x = _channels_first(inputs[0], window.channels_first)
        padded = _padded(x, window, -math.inf if largest else 0.0)
        out = pool(padded, window.size, window.strides)
        if not largest and padded is not x:  # No padded place counts.
            out = out / pool(_padded(torch.ones_like(x[:1, :1]), window), window.size, window.strides)
        return (_channels_back(out, window.channels_first),)

    return Built(None, run)


def _global_pooling(layer: GlobalPooling, _: torch.dtype) -> Built:
    first, keep, largest = layer.channels_first, layer.keepdims, layer.function == "max"

    def run(module: None, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        x, mask = inputs[0], masks[0] if masks else None
        axes = tuple(range(2, x.dim())) if first else tuple(range(1, x.dim() - 1))
        if largest:
            return (x.amax(axes, keep),)
        if mask is None:
            return (x.mean(axes, keep),)
        # keras/src/layers/pooling/global_average_pooling1d.py: the sum over unmasked steps by their number.
        counted = mask.unsqueeze(1 if first else -1)
        total = torch.where(counted, x, x.new_zeros(())).sum(axes, keep)
        return (total / counted.to(x.dtype).sum(axes, keep),)

    return Built(None, run)


BUILDERS: Builders = {
    Convolution: _convolution,
    GlobalPooling: _global_pooling,
    Pooling: _pooling,
    TransposedConvolution: _transposed_convolution,
}
