"""Dense layers, embeddings and activations in torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lstmconv.model.kinds import (
    Activate,
    Dense,
    Embedding,
    PReLU,
)
from lstmconv.torch.activations import activate
from lstmconv.torch.arrays import dtype_of
from lstmconv.torch.kinds.built import Builders, Built, Masks, Numbers, in_dtype_of

__all__ = ["BUILDERS"]


def _dense(layer: Dense, _: torch.dtype) -> Built:
    features, units = layer.kernel.shape
    module = nn.Linear(features, units, layer.bias is not None, device="meta", dtype=dtype_of(layer.kernel))

    def run(module: nn.Linear, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        return (activate(layer_activation, module(in_dtype_of(inputs[0], module.weight))),)

    layer_activation = layer.activation
    return Built(module, run)


def _embedding(layer: Embedding, _: torch.dtype) -> Built:
    # A table that is given is not drawn: drawing on the device meta loads PyTorch's compiler, which takes two seconds.
    empty = torch.empty(layer.table.shape, dtype=dtype_of(layer.table), device="meta")
    module = nn.Embedding(len(layer.table), layer.table.shape[1], _weight=empty)
    return Built(module, lambda module, inputs, _: (module(inputs[0].long()),))


def _activate(layer: Activate, _: torch.dtype) -> Built:
    activation, axis = layer.activation, layer.axis

    def run(module: None, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        x, mask = inputs[0], masks[0] if masks else None
        if mask is None or not activation.coupled:
            return (activate(activation, x, axis),)
        # keras/src/layers/activations/softmax.py: masked places get -1e9, and zero afterwards.
        low = torch.where(mask, x, x.new_tensor(-3e4 if x.dtype == torch.float16 else -1e9))
        return (torch.where(mask, activate(activation, low, axis), x.new_zeros(())),)

    return Built(None, run)


def _prelu(layer: PReLU, _: torch.dtype) -> Built:
    dtype, shape = dtype_of(layer.slope), layer.slope.shape
    if len(shape) == 1:  # nn.PReLU has one slope, or one for each entry of axis 1.
        return Built(
            nn.PReLU(shape[0], device="meta", dtype=dtype),
            lambda m, inputs, _: (_slope(in_dtype_of(inputs[0], m.weight), m.weight),),
        )
    return Built(
        Numbers(dtype, weight=shape), lambda m, inputs, _: (_slope(in_dtype_of(inputs[0], m.weight), m.weight),)
    )


def _slope(x: Tensor, slope: Tensor) -> Tensor:
    """PReLU whose slopes have the input's shape without the batch, 1 where they are shared."""
    return torch.where(x > 0, x, slope * x)


BUILDERS: Builders = {
    Activate: _activate,
    Dense: _dense,
    Embedding: _embedding,
    PReLU: _prelu,
}
