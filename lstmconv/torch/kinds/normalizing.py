"""Normalizations in torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lstmconv.model import kinds
from lstmconv.torch.definitions.functions import per_channel, unit
from lstmconv.torch.definitions.normalizing import root_mean_square
from lstmconv.torch.kinds.built import Builders, Built, Masks, Stated, simple

__all__ = ["BUILDERS"]


def _batch_normalization(layer: kinds.BatchNormalization, _: torch.dtype) -> Built:
    axis = layer.axis
    return Built(None, lambda m, inputs, _: (per_channel(m, inputs[0].movedim(axis, -1)).movedim(-1, axis),))


def _layer_normalization(layer: kinds.LayerNormalization, _: torch.dtype) -> Built:
    epsilon, axes, mean_square = layer.epsilon, layer.axes, layer.root_mean_square

    def run(module: Any, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        x = inputs[0]
        own = sorted(axis % x.dim() for axis in axes)
        last = list(range(-len(own), 0))
        ordered = x.movedim(own, last)
        if module is not None:
            out = module(ordered)
        elif mean_square:
            out = root_mean_square(ordered, len(own), epsilon)
        else:
            out = F.layer_norm(ordered, ordered.shape[-len(own) :], eps=epsilon)
        return (out.movedim(last, own),)

    return Built(None, run)


def _normalization(layer: kinds.Normalization, _: torch.dtype) -> Built:
    invert = layer.invert
    return Built(None, lambda m, inputs, _: (m.invert(inputs[0]) if invert else m(inputs[0]),))


def _rescaling(layer: kinds.Rescaling, dtype: torch.dtype) -> Built:
    module = Stated(dtype, scale=layer.scale, offset=layer.offset)
    return Built(module, lambda m, inputs, _: (inputs[0] * m.scale + m.offset,))


BUILDERS: Builders = {
    kinds.BatchNormalization: _batch_normalization,
    kinds.LayerNormalization: _layer_normalization,
    kinds.Normalization: _normalization,
    kinds.Rescaling: _rescaling,
    kinds.UnitNormalization: lambda layer, _: simple(partial(unit, dim=layer.axes, eps=layer.epsilon)),
}
