"""Keras' Attention, AdditiveAttention and MultiHeadAttention, with their masks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lstmconv.torch.definitions.functions import lowered


class Attention(nn.Module):
    """Keras' Attention and AdditiveAttention.

    `score` is "dot", "concat" or "additive".
    """

    scale: nn.Parameter | None
    concat_score_weight: nn.Parameter | None

    def __init__(
        self,
        score: str,
        *,
        scale: Sequence[int] | None = None,
        weight: Sequence[int] | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__()
        for name, shape in (("scale", scale), ("concat_score_weight", weight)):
            made = None if shape is None else nn.Parameter(torch.ones(shape))
            self.register_parameter(name, made)
        self.score = score
        self.causal = causal

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the context and the weights."""
        key = value if key is None else key
        if self.score == "dot":
            scores = query @ key.transpose(-1, -2)
            scores = scores if self.scale is None else scores * self.scale
        else:
            both = query.unsqueeze(-2) + key.unsqueeze(-3)
            scaled = both if self.scale is None else self.scale * both
            if self.score == "additive":
                parts = both.tanh()
                scores = (parts if self.scale is None else self.scale * parts).sum(-1)
            else:
                summed = scaled.tanh().sum(-1)
                weight = self.concat_score_weight
                scores = summed if weight is None else weight * summed
        counted = None if value_mask is None else value_mask.unsqueeze(-2)
        weights = attention_weights(scores, counted, self.causal)
        out = weights @ value
        if query_mask is not None:
            out = torch.where(query_mask.unsqueeze(-1), out, torch.zeros_like(out))
        return out, weights


class MultiHeadAttention(nn.Module):
    """Keras' MultiHeadAttention, with nn.MultiheadAttention's parameters.

    A row whose places are all masked is NaN in nn.MultiheadAttention.
    """

    def __init__(
        self,
        features: Sequence[int],
        rows: Sequence[int],
        heads: int,
        output: int,
        *,
        bias: bool = True,
        joined: bool = True,
        causal: bool = False,
    ) -> None:
        super().__init__()
        if joined:
            self.in_proj_weight = nn.Parameter(torch.zeros(sum(rows), features[0]))
        else:
            self.q_proj_weight = nn.Parameter(torch.zeros(rows[0], features[0]))
            self.k_proj_weight = nn.Parameter(torch.zeros(rows[1], features[1]))
            self.v_proj_weight = nn.Parameter(torch.zeros(rows[2], features[2]))
        self.in_proj_bias = nn.Parameter(torch.zeros(sum(rows))) if bias else None
        self.out_proj = nn.Linear(rows[2], output, bias=bias)
        self.rows, self.heads = list(rows), heads
        self.joined, self.causal = joined, causal

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the output and the weights `(batch, heads, query, value)`."""
        if self.joined:
            matrices = list(torch.split(self.in_proj_weight, self.rows))
        else:
            matrices = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        biases: list[Any] = [None, None, None]
        if self.in_proj_bias is not None:
            biases = list(torch.split(self.in_proj_bias, self.rows))
        given = (query, value if key is None else key, value)
        q, k, v = (
            F.linear(x, *both).view(*x.shape[:-1], self.heads, -1).transpose(-2, -3)
            for x, *both in zip(given, matrices, biases, strict=True)
        )
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        counted = None if query_mask is None else query_mask[:, None, :, None]
        for steps in (value_mask, key_mask):
            seen = None if steps is None else steps[:, None, None]
            counted = both_count(counted, seen)
        if mask is not None and mask.dim() == 3:
            mask = mask.unsqueeze(1)
        counted = both_count(counted, mask)
        weights = attention_weights(scores, counted, self.causal)
        return self.out_proj((weights @ v).transpose(-2, -3).flatten(-2)), weights


def attention_weights(scores: Tensor, counted: Tensor | None, causal: bool) -> Tensor:
    """Return the softmax over the steps that count; where none does, all do."""
    if causal:
        before = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device)
        counted = both_count(counted, before.tril())
    if counted is not None:
        scores = lowered(scores, counted)
    return scores.softmax(dim=-1)


def both_count(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Join two masks."""
    if a is None or b is None:
        return b if a is None else a
    return a & b
