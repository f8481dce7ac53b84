"""The activations of :mod:`lstmconv.activations` in torch, one for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from lstmconv.activations import Activation

__all__ = ["activate"]

_Function: TypeAlias = Callable[..., Tensor]
_F = nn.functional


def _relu(x: Tensor, negative_slope: float, max_value: float, threshold: float) -> Tensor:
    below = negative_slope * (x - threshold)
    out = torch.where(x > threshold, x, below if negative_slope else torch.zeros_like(x))
    return out.clamp(max=max_value)


def _sparsemax(x: Tensor) -> Tensor:
    ordered = x.sort(dim=-1, descending=True).values
    cumulated = ordered.cumsum(dim=-1)
    rank = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    support = ordered - (cumulated - 1) / rank > 0
    total = torch.where(support, cumulated, torch.zeros_like(cumulated)).sum(dim=-1, keepdim=True)
    tau = (total - 1) / support.sum(dim=-1, keepdim=True)  # Keras' formula: see lstmconv.activations.
    return (x - tau).clamp(min=0)


_FUNCTIONS: Mapping[str, _Function] = {
    "linear": lambda x: x,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1),
    "tanh": torch.tanh,
    "relu": _relu,
    "elu": lambda x, alpha: _F.elu(x, alpha),
    "celu": lambda x, alpha: _F.celu(x, alpha),
    "selu": _F.selu,
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "softsign": _F.softsign,
    "exponential": torch.exp,
    "silu": _F.silu,
    "gelu": lambda x, approximate: _F.gelu(x, approximate="tanh" if approximate else "none"),
    "mish": _F.mish,
    "hard_silu": _F.hardswish,
    "hard_tanh": _F.hardtanh,
    "log_sigmoid": _F.logsigmoid,
    "softmax": lambda x: x.softmax(dim=-1),
    "log_softmax": lambda x: x.log_softmax(dim=-1),
    "sparsemax": _sparsemax,
    "sparse_plus": lambda x: torch.where(x <= -1, torch.zeros_like(x), torch.where(x < 1, 0.25 * (x + 1) ** 2, x)),
    "sparse_sigmoid": lambda x: (0.5 * (x + 1)).clamp(0, 1),
    "squareplus": lambda x, b: 0.5 * (x + (x * x + b).sqrt()),
    "soft_shrink": lambda x, threshold: _F.softshrink(x, threshold),
    "hard_shrink": lambda x, threshold: _F.hardshrink(x, threshold),
    "tanh_shrink": _F.tanhshrink,
}


def activate(activation: Activation, x: Tensor, axis: int = -1) -> Tensor:
    """Compute an activation; softmax and its like run along ``axis``."""
    function, numbers = _FUNCTIONS[activation.name], dict(activation.parameters)
    if not activation.coupled or axis in (-1, x.dim() - 1):
        return function(x, **numbers)
    return function(x.movedim(axis, -1), **numbers).movedim(-1, axis)
