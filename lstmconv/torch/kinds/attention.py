"""Attention layers in torch: their output, and where it is asked for their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lstmconv.model import kinds
from lstmconv.torch.kinds.built import Builders, Built, Masks

__all__ = ["BUILDERS"]


def _attention(layer: kinds.Attention | kinds.MultiHeadAttention, _: torch.dtype) -> Built:
    weights_too = layer.return_scores
    names = ("query_mask", "value_mask", "key_mask", "mask")[: 2 if isinstance(layer, kinds.Attention) else 4]

    def run(module: Any, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        out, weights = module(*inputs, **dict(zip(names, masks, strict=False)))
        return (out, weights) if weights_too else (out,)

    return Built(None, run)


BUILDERS: Builders = {kinds.Attention: _attention, kinds.MultiHeadAttention: _attention}
