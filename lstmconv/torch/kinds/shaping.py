"""Layers in torch that move, cut, repeat or mask numbers."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lstmconv.model import kinds
from lstmconv.torch.kinds.built import Builders, Built, Stated, simple

__all__ = ["BUILDERS"]


def _constant(layer: kinds.Constant, dtype: torch.dtype) -> Built:
    return Built(Stated(dtype, value=layer.value), lambda m, _, __: (m.value,))


def _identity(layer: kinds.Identity, _: torch.dtype) -> Built:
    return simple(lambda x: x)


def _reshape(layer: kinds.Reshape, _: torch.dtype) -> Built:
    shape = layer.shape
    if layer.fixed_batch:
        return simple(lambda x: x.reshape(shape))
    return simple(lambda x: x.reshape(_whole_shape(x, shape)))


def _whole_shape(x: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Work out the entry -1, which torch cannot for a batch of none."""
    known = math.prod(size for size in shape if size != -1)
    rest = math.prod(x.shape[1:]) // known if known else 0
    return (x.shape[0], *(rest if size == -1 else size for size in shape))


def _permute(layer: kinds.Permute, _: torch.dtype) -> Built:
    order = layer.order
    return simple(lambda x: x.permute(order))


def _repeat_vector(layer: kinds.RepeatVector, _: torch.dtype) -> Built:
    count = layer.count
    return simple(lambda x: x.unsqueeze(1).expand(-1, count, -1))


def _pad(layer: kinds.Pad, _: torch.dtype) -> Built:
    amounts, value = [amount for pair in reversed(layer.amounts) for amount in pair], layer.value
    return simple(lambda x: F.pad(x, amounts, value=value))


def _crop(layer: kinds.Crop, _: torch.dtype) -> Built:
    amounts = layer.amounts

    def cut(x: Tensor) -> Tensor:
        pairs = zip(amounts, x.shape, strict=True)
        return x[tuple(slice(before, size - after) for (before, after), size in pairs)]

    return simple(cut)


def _upsample(layer: kinds.Upsample, _: torch.dtype) -> Built:
    factors = layer.factors

    def repeat(x: Tensor) -> Tensor:
        for axis, factor in enumerate(factors):
            x = x if factor == 1 else x.repeat_interleave(factor, dim=axis)
        return x

    return simple(repeat)


def _cast(layer: kinds.Cast, dtype: torch.dtype) -> Built:
    if layer.dtype != "float32":
        target = getattr(torch, layer.dtype)
        return simple(lambda x: x.to(target))
    # A buffer follows the module to another dtype: float32 is the model's own.
    return Built(Stated(dtype, like=np.zeros(0)), lambda m, inputs, _: (inputs[0].to(m.like.dtype),))


def _slice(layer: kinds.Slice, _: torch.dtype) -> Built:
    index = layer.index

    def cut(x: Tensor) -> Tensor:
        axis = 0
        for entry in index:
            if entry is None:
                x = x.unsqueeze(axis)
            elif isinstance(entry, int):
                x = x.select(axis, entry)
                continue
            else:  # torch has no steps backwards.
                places = range(*slice(*entry).indices(x.shape[axis]))
                x = x.index_select(axis, torch.tensor(list(places), dtype=torch.long, device=x.device))
            axis += 1
        return x

    return simple(cut)


def _mask_steps(layer: kinds.MaskSteps, _: torch.dtype) -> Built:
    value = layer.value
    return simple(lambda x: x * (x != value).any(dim=-1, keepdim=True).to(x.dtype))


def _step_is_unmasked(layer: kinds.StepIsUnmasked, _: torch.dtype) -> Built:
    value = layer.value
    return simple(lambda x: (x != value).any(dim=-1))


BUILDERS: Builders = {
    kinds.Cast: _cast,
    kinds.Constant: _constant,
    kinds.Crop: _crop,
    kinds.Identity: _identity,
    kinds.MaskSteps: _mask_steps,
    kinds.Pad: _pad,
    kinds.Permute: _permute,
    kinds.RepeatVector: _repeat_vector,
    kinds.Reshape: _reshape,
    kinds.Slice: _slice,
    kinds.StepIsUnmasked: _step_is_unmasked,
    kinds.Upsample: _upsample,
}
