"""Dense layers, embeddings and activations in torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lstmconv.model import kinds
from lstmconv.torch.activations import activate
from lstmconv.torch.definitions.functions import lowered
from lstmconv.torch.kinds.built import Builders, Built, Masks

__all__ = ["BUILDERS"]


def _dense(layer: kinds.Dense, _: torch.dtype) -> Built:
    activation = layer.activation
    return Built(None, lambda module, inputs, _: (activate(activation, module(inputs[0])),))


def _activate(layer: kinds.Activate, _: torch.dtype) -> Built:
    activation, axis = layer.activation, layer.axis

    def run(module: None, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        x, mask = inputs[0], masks[0] if masks else None
        if mask is None or not activation.coupled:
            return (activate(activation, x, axis),)
        # keras/src/layers/activations/softmax.py: masked places get a low number, and zero afterwards.
        out = activate(activation, lowered(x, mask), axis)
        return (torch.where(mask, out, torch.zeros_like(out)),)

    return Built(None, run)


BUILDERS: Builders = {
    kinds.Activate: _activate,
    kinds.Dense: _dense,
    kinds.Embedding: lambda *_: Built(None, lambda module, inputs, _: (module(inputs[0].long()),)),
    kinds.PReLU: lambda *_: Built(None, lambda module, inputs, _: (module(inputs[0]),)),
}
