"""Layers in torch that move, cut, repeat or mask numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lstmconv.model import kinds
from lstmconv.torch.kinds.built import Builders, Built, Stated, simple

__all__ = ["BUILDERS"]


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


def _repeated(x: Tensor, count: int) -> Tensor:
    return x.unsqueeze(1).expand(-1, count, -1)


def _pad(layer: kinds.Pad, _: torch.dtype) -> Built:
    amounts = [amount for pair in reversed(layer.amounts) for amount in pair]
    return simple(partial(F.pad, pad=amounts, value=layer.value))


def _cropped(x: Tensor, amounts: Sequence[tuple[int, int]]) -> Tensor:
    pairs = zip(amounts, x.shape, strict=True)
    return x[tuple(slice(before, size - after) for (before, after), size in pairs)]


def _upsampled(x: Tensor, factors: Sequence[int]) -> Tensor:
    for axis, factor in enumerate(factors):
        x = x if factor == 1 else x.repeat_interleave(factor, dim=axis)
    return x


def _cast(layer: kinds.Cast, dtype: torch.dtype) -> Built:
    if layer.dtype != "float32":
        target = getattr(torch, layer.dtype)
        return simple(lambda x: x.to(target))
    # A buffer follows the module to another dtype: float32 is the model's own.
    return Built(Stated(dtype, like=np.zeros(0)), lambda m, inputs, _: (inputs[0].to(m.like.dtype),))


def _sliced(x: Tensor, index: Sequence[Any]) -> Tensor:
    """Index as NumPy does; torch has no steps backwards."""
    axis = 0
    for entry in index:
        if entry is None:
            x = x.unsqueeze(axis)
        elif isinstance(entry, int):
            x = x.select(axis, entry)
            continue
        else:
            places = range(*slice(*entry).indices(x.shape[axis]))
            x = x.index_select(axis, torch.tensor(list(places), dtype=torch.long, device=x.device))
        axis += 1
    return x


def _masked_steps(x: Tensor, value: float) -> Tensor:
    return x * (x != value).any(dim=-1, keepdim=True).to(x.dtype)


def _is_unmasked(x: Tensor, value: float) -> Tensor:
    return (x != value).any(dim=-1)


BUILDERS: Builders = {
    kinds.Cast: _cast,
    kinds.Constant: lambda layer, dtype: Built(Stated(dtype, value=layer.value), lambda m, _, __: (m.value,)),
    kinds.Crop: lambda layer, _: simple(partial(_cropped, amounts=layer.amounts)),
    kinds.Identity: lambda *_: simple(lambda x: x),
    kinds.MaskSteps: lambda layer, _: simple(partial(_masked_steps, value=layer.value)),
    kinds.Pad: _pad,
    kinds.Permute: lambda layer, _: simple(partial(torch.permute, dims=layer.order)),
    kinds.RepeatVector: lambda layer, _: simple(partial(_repeated, count=layer.count)),
    kinds.Reshape: _reshape,
    kinds.Slice: lambda layer, _: simple(partial(_sliced, index=layer.index)),
    kinds.StepIsUnmasked: lambda layer, _: simple(partial(_is_unmasked, value=layer.value)),
    kinds.Upsample: lambda layer, _: simple(partial(_upsampled, factors=layer.factors)),
}
"""Each row takes single options from its layer: a module that kept the layer would keep the source's arrays, too."""
