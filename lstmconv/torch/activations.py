"""The activations of :mod:`lstmconv.activations` in torch, one for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from lstmconv.activations import Activation
from lstmconv.torch.definitions import functions

__all__ = ["activate"]

_Function: TypeAlias = Callable[..., Tensor]


_FUNCTIONS: Mapping[str, _Function] = {
    "linear": lambda x: x,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": functions.hard_sigmoid,
    "tanh": torch.tanh,
    "relu": functions.relu,
    "elu": F.elu,
    "celu": F.celu,
    "selu": F.selu,
    "softplus": functions.softplus,
    "softsign": F.softsign,
    "exponential": torch.exp,
    "silu": F.silu,
    "gelu": lambda x, approximate: F.gelu(x, approximate="tanh" if approximate else "none"),
    "mish": F.mish,
    "hard_silu": F.hardswish,
    "hard_tanh": F.hardtanh,
    "log_sigmoid": F.logsigmoid,
    "softmax": lambda x: x.softmax(dim=-1),
    "log_softmax": lambda x: x.log_softmax(dim=-1),
    "sparsemax": functions.sparsemax,
    "sparse_plus": functions.sparse_plus,
    "sparse_sigmoid": lambda x: functions.hard_sigmoid(x, 0.5, 0.5),
    "squareplus": functions.squareplus,
    "soft_shrink": lambda x, threshold: F.softshrink(x, threshold),
    "hard_shrink": lambda x, threshold: F.hardshrink(x, threshold),
    "tanh_shrink": F.tanhshrink,
}


def activate(activation: Activation, x: Tensor, axis: int = -1) -> Tensor:
    """Compute an activation; softmax and its like run along ``axis``."""
    function, numbers = _FUNCTIONS[activation.name], dict(activation.parameters)
    if not activation.coupled or axis in (-1, x.dim() - 1):
        return function(x, **numbers)
    return function(x.movedim(axis, -1), **numbers).movedim(-1, axis)
