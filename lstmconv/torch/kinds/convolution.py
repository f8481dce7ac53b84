"""Convolutions and poolings in torch, padded as TensorFlow does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lstmconv.formats.torch.constructors import cropped, pads_alike
from lstmconv.model import kinds
from lstmconv.torch.activations import activate
from lstmconv.torch.definitions.functions import average_same, masked_mean, pad_same
from lstmconv.torch.kinds.built import Builders, Built, Masks, simple

__all__ = ["BUILDERS"]


def _convolution(layer: kinds.Convolution, _: torch.dtype) -> Built:
    spatial, strides, dilation = layer.kernel.shape[:-2], layer.strides, layer.dilation
    padding = "by the module" if pads_alike(layer) else layer.padding
    first, activation = layer.channels_first, layer.activation

    def run(module: Any, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        x = _channels_first(inputs[0], first)
        if padding == "causal":
            x = F.pad(x, ((spatial[0] - 1) * dilation[0], 0))
        elif padding == "same":
            x = pad_same(x, spatial, strides, dilation)
        return (activate(activation, _channels_back(module(x), first)),)

    return Built(None, run)


def _channels_first(x: Tensor, already: bool) -> Tensor:
    return x if already else x.movedim(-1, 1)


def _channels_back(x: Tensor, already: bool) -> Tensor:
    return x if already else x.movedim(1, -1)


def _transposed_convolution(layer: kinds.TransposedConvolution, _: torch.dtype) -> Built:
    crops, rank = cropped(layer), len(layer.strides)
    convolve: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    strides, dilation, first, activation = layer.strides, layer.dilation, layer.channels_first, layer.activation

    def run(module: Any, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        full = convolve(_channels_first(inputs[0], first), module.weight, None, strides, dilation=dilation)
        cut = F.pad(full, [-amount for crop in reversed(crops) for amount in crop])  # Less than nothing is cut off.
        if module.bias is not None:
            cut = cut + module.bias.reshape(-1, *[1] * rank)
        return (activate(activation, _channels_back(cut, first)),)

    return Built(None, run)


_POOLS: dict[str, Sequence[Callable[..., Tensor]]] = {
    "max": (F.max_pool1d, F.max_pool2d, F.max_pool3d),
    "average": (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
}


def _pooling(layer: kinds.Pooling, _: torch.dtype) -> Built:
    pool, largest = _POOLS[layer.function][len(layer.size) - 1], layer.function == "max"
    size, strides, same, first = layer.size, layer.strides, layer.padding == "same", layer.channels_first

    def run(x: Tensor) -> Tensor:
        x = _channels_first(x, first)
        if same and not largest:
            return _channels_back(average_same(pool, x, size, strides), first)
        return _channels_back(pool(pad_same(x, size, strides, value=-math.inf) if same else x, size, strides), first)

    return simple(run)


def _global_pooling(layer: kinds.GlobalPooling, _: torch.dtype) -> Built:
    first, keep, largest = layer.channels_first, layer.keepdims, layer.function == "max"

    def run(module: None, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        x, mask = inputs[0], masks[0] if masks else None
        axes = tuple(range(2, x.dim())) if first else tuple(range(1, x.dim() - 1))
        if largest:
            return (x.amax(axes, keep),)
        if mask is None:
            return (x.mean(axes, keep),)
        # keras/src/layers/pooling/global_average_pooling1d.py: the sum over unmasked steps by their number.
        return (masked_mean(x, mask.unsqueeze(1 if first else -1), axes, keep),)

    return Built(None, run)


BUILDERS: Builders = {
    kinds.Convolution: _convolution,
    kinds.GlobalPooling: _global_pooling,
    kinds.Pooling: _pooling,
    kinds.TransposedConvolution: _transposed_convolution,
}
