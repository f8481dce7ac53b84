"""Keras' Attention, AdditiveAttention and MultiHeadAttention in torch, with their masks.

MultiHeadAttention has nn.MultiheadAttention's parameter names, so that one of fitting sizes loads it, and computes by
itself: a row whose places are all masked is NaN in PyTorch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.torch.whole import projections_joined
from lstmconv.model.kinds import Attention, MultiHeadAttention
from lstmconv.torch.arrays import dtype_of
from lstmconv.torch.kinds.built import Built, Masks, Numbers, in_dtype_of

__all__ = ["build_attention", "build_multi_head_attention"]


def build_attention(layer: Attention, _: torch.dtype) -> Built:
    """Build Attention and AdditiveAttention (keras/src/layers/attention/attention.py)."""
    held = {name: array.shape for name, array in layer.arrays.items()}
    module = Numbers(dtype_of(next(iter(layer.arrays.values()))), **held) if held else None
    score, causal, scores_too = layer.score, layer.causal, layer.return_scores

    def run(module: Any, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        query, value = inputs[:2]
        key = inputs[2] if len(inputs) > 2 else value
        scale = getattr(module, "scale", None)
        if score == "dot":
            scores = query @ key.transpose(-1, -2)
            scores = scores if scale is None else scores * scale
        else:
            both = query.unsqueeze(-2) + key.unsqueeze(-3)
            if score == "additive":
                parts = both.tanh()
                scores = (parts if scale is None else scale * parts).sum(-1)
            else:
                parts = (both if scale is None else scale * both).tanh()
                scores = module.concat_score_weight * parts.sum(-1)
        query_mask, value_mask = (*masks, None, None)[:2]
        counted = _both(None if value_mask is None else value_mask.unsqueeze(-2), _causal(scores) if causal else None)
        weights = _weights(scores, counted)
        out = weights @ value
        if query_mask is not None:
            out = torch.where(query_mask.unsqueeze(-1), out, out.new_zeros(()))
        return (out, weights) if scores_too else (out,)

    return Built(module, run)


def _weights(scores: Tensor, counted: Tensor | None) -> Tensor:
    """Return the softmax over the steps that count; where none does, all count alike (attention.py _apply_scores)."""
    if counted is not None:
        scores = torch.where(counted, scores, scores.new_tensor(-65504.0 if scores.dtype == torch.float16 else -1e9))
    return scores.softmax(dim=-1)


def _causal(scores: Tensor) -> Tensor:
    """No step sees a later one: ``(query steps, value steps)``."""
    return torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()


def _both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a & b


class KerasMultiHeadAttention(nn.Module):
    """The projections of a MultiHeadAttention, under nn.MultiheadAttention's names.

    ``in_proj_weight`` where query, key and value have as many features as all heads together; else three of their own.
    """

    def __init__(self, layer: MultiHeadAttention) -> None:
        """Make room for a layer's weights."""
        super().__init__()
        (features, heads, size), value_size = layer.query_kernel.shape, layer.value_kernel.shape[2]
        rows = {"q": heads * size, "k": heads * size, "v": heads * value_size}
        dtype = dtype_of(layer.query_kernel)
        self.heads, self.rows = heads, list(rows.values())
        kernels = {"q": layer.query_kernel, "k": layer.key_kernel, "v": layer.value_kernel}
        if projections_joined(layer):
            self.in_proj_weight = nn.Parameter(torch.empty(sum(self.rows), features, dtype=dtype, device="meta"))
        else:
            for letter, kernel in kernels.items():
                empty = torch.empty(rows[letter], kernel.shape[0], dtype=dtype, device="meta")
                self.register_parameter(f"{letter}_proj_weight", nn.Parameter(empty))
        biased = layer.query_bias is not None
        self.in_proj_bias: nn.Parameter | None = None
        if biased:
            self.in_proj_bias = nn.Parameter(torch.empty(sum(self.rows), dtype=dtype, device="meta"))
        self.out_proj = nn.Linear(rows["v"], layer.output_kernel.shape[-1], biased, device="meta", dtype=dtype)

    def project(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return query, key and value as ``(batch, heads, steps, size)``."""
        if hasattr(self, "in_proj_weight"):
            weights: Sequence[Tensor] = torch.split(self.in_proj_weight, self.rows)
        else:
            weights = [getattr(self, f"{letter}_proj_weight") for letter in "qkv"]
        biases = [None] * 3 if self.in_proj_bias is None else torch.split(self.in_proj_bias, self.rows)
        found = [
            nn.functional.linear(in_dtype_of(x, weight), weight, bias)
            for x, weight, bias in zip(inputs, weights, biases, strict=True)
        ]
        return [x.reshape(*x.shape[:-1], self.heads, -1).transpose(-2, -3) for x in found]


def build_multi_head_attention(layer: MultiHeadAttention, _: torch.dtype) -> Built:
    """Build MultiHeadAttention (keras/src/layers/attention/multi_head_attention.py)."""
    biases = {bias is not None for bias in (layer.query_bias, layer.key_bias, layer.value_bias, layer.output_bias)}
    if len(biases) > 1:
        raise UnsupportedModelError(f"{layer.name}: some of its projections have a bias and some have none")
    scale, causal, scores_too = layer.query_kernel.shape[2] ** -0.5, layer.causal, layer.return_scores

    def run(module: KerasMultiHeadAttention, inputs: Sequence[Tensor], masks: Masks) -> tuple[Tensor, ...]:
        given = inputs[2] if len(inputs) > 2 else inputs[1]
        query, key, value = module.project((inputs[0], given, inputs[1]))
        scores = (query * scale) @ key.transpose(-1, -2)
        query_mask, value_mask, key_mask, explicit = (*masks, None, None, None, None)[:4]
        counted = None if query_mask is None else query_mask[:, None, :, None]
        for mask in (value_mask, key_mask):
            counted = _both(counted, None if mask is None else mask[:, None, None, :])
        counted = _both(counted, explicit.unsqueeze(1) if explicit is not None and explicit.dim() == 3 else explicit)
        weights = _weights(scores, _both(counted, _causal(scores) if causal else None))
        out = module.out_proj((weights @ value).transpose(-2, -3).flatten(-2))
        return (out, weights) if scores_too else (out,)

    return Built(KerasMultiHeadAttention(layer), run)
