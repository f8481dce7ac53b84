"""Keras' activations as torch expressions, with ``{x}`` for their input."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from lstmconv.activations import Activation
from lstmconv.formats.torch_code.lines import literal

__all__ = ["X", "applied", "function"]

X = "{x}"
"""The placeholder for an expression's input."""


def _relu(negative_slope: float, max_value: float, threshold: float) -> str:
    if threshold == 0 and max_value == math.inf:
        return f"F.leaky_relu({X}, {literal(negative_slope)})" if negative_slope else f"torch.relu({X})"
    if (negative_slope, max_value, threshold) == (0.0, 6.0, 0.0):
        return f"F.relu6({X})"
    return f"relu({X}, {literal(negative_slope)}, {literal(max_value)}, {literal(threshold)})"


def _hard_sigmoid(alpha: float, beta: float) -> str:
    if (alpha, beta) == (1 / 6, 0.5):
        return f"F.hardsigmoid({X})"
    return f"hard_sigmoid({X}, {literal(alpha)}, {literal(beta)})"


_EXPRESSIONS: Mapping[str, str | Callable[..., str]] = {
    "linear": X,
    "sigmoid": f"torch.sigmoid({X})",
    "hard_sigmoid": _hard_sigmoid,
    "tanh": f"torch.tanh({X})",
    "relu": _relu,
    "elu": lambda alpha: f"F.elu({X}, {literal(alpha)})",
    "celu": lambda alpha: f"F.celu({X}, {literal(alpha)})",
    "selu": f"F.selu({X})",
    "softplus": f"softplus({X})",
    "softsign": f"F.softsign({X})",
    "exponential": f"torch.exp({X})",
    "silu": f"F.silu({X})",
    "gelu": lambda approximate: f'F.gelu({X}, approximate="tanh")' if approximate else f"F.gelu({X})",
    "mish": f"F.mish({X})",
    "hard_silu": f"F.hardswish({X})",
    "hard_tanh": f"F.hardtanh({X})",
    "log_sigmoid": f"F.logsigmoid({X})",
    "sparsemax": f"sparsemax({X})",
    "sparse_plus": f"sparse_plus({X})",
    "sparse_sigmoid": f"hard_sigmoid({X}, 0.5, 0.5)",
    "squareplus": lambda b: f"squareplus({X}, {literal(b)})",
    "soft_shrink": lambda threshold: f"F.softshrink({X}, {literal(threshold)})",
    "hard_shrink": lambda threshold: f"F.hardshrink({X}, {literal(threshold)})",
    "tanh_shrink": f"F.tanhshrink({X})",
}
_WITH_DIM = ("softmax", "log_softmax")
"""Methods of a tensor that take the axis as ``dim``. These tables have every activation of
:data:`lstmconv.activations.ACTIVATIONS`."""


def applied(activation: Activation, axis: int = -1, rank: int = 0) -> list[str]:
    """Return the expressions that apply an activation, one after another.

    Args:
        activation: The activation.
        axis: The axis of softmax and similar activations.
        rank: The number of axes of the input; needed if the axis is not the last one.
    """
    if activation.name == "linear":
        return []
    axis = -1 if axis == rank - 1 else axis
    if activation.name in _WITH_DIM:
        return [f"{X}.{activation.name}(dim={axis})"]
    found = _EXPRESSIONS[activation.name]
    expression = found if isinstance(found, str) else found(**dict(activation.parameters))
    if not activation.coupled or axis == -1:
        return [expression]
    return [f"{X}.movedim({axis}, -1)", expression, f"{X}.movedim(-1, {axis})"]


def function(activation: Activation) -> str:
    """Return an activation as a function of one tensor.

    >>> from lstmconv.activations import HARD_SIGMOID_KERAS_2, TANH
    >>> function(TANH), function(HARD_SIGMOID_KERAS_2)
    ('torch.tanh', 'lambda x: hard_sigmoid(x, 0.2, 0.5)')
    """
    (expression,) = applied(activation) or [X]
    name = expression.removesuffix(f"({X})")
    return name if name != expression and X not in name else f"lambda x: {expression.replace(X, 'x')}"
