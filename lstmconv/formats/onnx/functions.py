"""Keras' activations as ONNX' LSTM has them: the name, and the numbers that make it exact.

Source: ONNX operator specification, LSTM-14, Activation functions. ``activation_alpha`` and
``activation_beta`` are consumed only by the activations that use them, in order.
"""

from __future__ import annotations

from dataclasses import dataclass

from lstmconv.activations import Activation

__all__ = ["Function", "onnx_function"]

_NAMES = {
    # Keras name: (ONNX name, the parameters that become activation_alpha and activation_beta).
    "sigmoid": ("Sigmoid", ()),
    "tanh": ("Tanh", ()),
    "relu": ("Relu", ()),
    "softplus": ("Softplus", ()),
    "softsign": ("Softsign", ()),
    "hard_sigmoid": ("HardSigmoid", ("alpha", "beta")),
    "elu": ("Elu", ("alpha",)),
}


@dataclass(frozen=True)
class Function:
    """An ONNX activation with the numbers that it alone consumes from the lists."""

    name: str
    alpha: tuple[float, ...] = ()
    beta: tuple[float, ...] = ()


def onnx_function(activation: Activation | None) -> Function | None:
    """Return the ONNX function that computes exactly the same, or ``None``."""
    if activation is None:
        return None
    name = activation.name
    if name == "linear":  # Affine's own defaults are 0 and 0 in ONNX Runtime: both must be given.
        return Function("Affine", (1.0,), (0.0,))
    if name == "sparse_sigmoid":  # clip(0.5 (x + 1), 0, 1)
        return Function("HardSigmoid", (0.5,), (0.5,))
    if name == "celu" and activation["alpha"] == 1.0:
        return Function("Elu", (1.0,))
    if name == "relu":
        return _relu(activation)
    if name not in _NAMES:
        return None
    onnx_name, parameters = _NAMES[name]
    values = [(activation[parameter],) for parameter in parameters]
    return Function(onnx_name, *values)


def _relu(activation: Activation) -> Function | None:
    slope, ceiling, threshold = (activation[key] for key in ("negative_slope", "max_value", "threshold"))
    if ceiling != float("inf") or (slope and threshold):
        return None
    if slope:
        return Function("LeakyRelu", (slope,))
    return Function("ThresholdedRelu", (threshold,)) if threshold else Function("Relu")
