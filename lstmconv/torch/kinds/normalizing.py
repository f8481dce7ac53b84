"""Normalizations in torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lstmconv.model.kinds import (
    BatchNormalization,
    LayerNormalization,
    Normalization,
    Rescaling,
    UnitNormalization,
)
from lstmconv.torch.arrays import dtype_of
from lstmconv.torch.kinds.built import Builders, Built, Masks, Numbers, Stated, in_dtype_of, simple

__all__ = ["BUILDERS", "unit_length"]

_F = nn.functional


def _batch_normalization(layer: BatchNormalization, _: torch.dtype) -> Built:
    affine = layer.gamma is not None or layer.beta is not None
    module = nn.BatchNorm1d(
        len(layer.mean),
        layer.epsilon,
        momentum=0.01,  # Keras' default 0.99 keeps 0.99 of the old statistics, torch's momentum is what is new.
        affine=affine,
        device="meta",
        dtype=dtype_of(layer.mean),
    )
    axis = layer.axis

    def run(module: nn.BatchNorm1d, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        assert module.running_mean is not None
        x = in_dtype_of(inputs[0], module.running_mean).movedim(axis, 1)
        flat = x.reshape(x.shape[0], x.shape[1], -1)
        return (module(flat).reshape(x.shape).movedim(1, axis),)

    return Built(module, run)


def _layer_normalization(layer: LayerNormalization, _: torch.dtype) -> Built:
    array = layer.gamma if layer.gamma is not None else layer.beta
    epsilon, axes, mean_square = layer.epsilon, layer.axes, layer.root_mean_square
    module: nn.Module | None = None
    if array is not None and mean_square:
        module = Numbers(dtype_of(array), weight=array.shape)  # nn.RMSNorm's name; it needs torch 2.4.
    elif array is not None:
        module = nn.LayerNorm(array.shape, epsilon, bias=layer.beta is not None, device="meta", dtype=dtype_of(array))

    def run(module: Any, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        x = inputs[0] if module is None else in_dtype_of(inputs[0], module.weight)
        own = sorted(axis % x.dim() for axis in axes)
        ordered = x.movedim(own, list(range(-len(own), 0)))
        if mean_square:
            last = tuple(range(-len(own), 0))
            out = ordered * torch.rsqrt(ordered.square().mean(last, keepdim=True) + epsilon)
            out = out if module is None else out * module.weight
        else:
            out = (
                module(ordered)
                if module is not None
                else _F.layer_norm(ordered, ordered.shape[-len(own) :], eps=epsilon)
            )
        return (out.movedim(list(range(-len(own), 0)), own),)

    return Built(module, run)


def _unit_normalization(layer: UnitNormalization, _: torch.dtype) -> Built:
    return simple(partial(unit_length, axes=layer.axes, epsilon=layer.epsilon))


def unit_length(x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    """Scale a tensor to the length 1 along some axes."""
    squares = x.square().sum(axes, keepdim=True)
    return x * torch.rsqrt(squares.clamp(min=epsilon))


def _normalization(layer: Normalization, _: torch.dtype) -> Built:
    module = Numbers(dtype_of(layer.mean), mean=layer.mean.shape, variance=layer.variance.shape)
    invert = layer.invert

    def run(module: Any, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        deviation = module.variance.sqrt().clamp(min=1e-7)
        x = in_dtype_of(inputs[0], deviation)
        return (module.mean + x * deviation if invert else (x - module.mean) / deviation,)

    return Built(module, run)


def _rescaling(layer: Rescaling, dtype: torch.dtype) -> Built:
    module = Stated(dtype, scale=layer.scale, offset=layer.offset)
    return Built(module, lambda m, inputs, _: (in_dtype_of(inputs[0], m.scale) * m.scale + m.offset,))


BUILDERS: Builders = {
    BatchNormalization: _batch_normalization,
    LayerNormalization: _layer_normalization,
    Normalization: _normalization,
    Rescaling: _rescaling,
    UnitNormalization: _unit_normalization,
}
