"""Keras' activations as ONNX' LSTM has them: the name, and the numbers that make it exact.

Source: ONNX operator specification, LSTM-14, Activation functions. ``activation_alpha`` and
``activation_beta`` are consumed only by the activations that use them, in order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lstmconv.activations import ACTIVATIONS, Activation
from lstmconv.errors import UnsupportedModelError

__all__ = ["Function", "keras_activation", "onnx_function", "with_numbers"]

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

    @property
    def numbers(self) -> dict[str, float]:
        """The attributes of a node of its own: ``alpha`` and ``beta``, as far as it has them."""
        return {key: values[0] for key, values in (("alpha", self.alpha), ("beta", self.beta)) if values}

    def __str__(self) -> str:
        """Name the function with its numbers: ``HardSigmoid(0.2, 0.5)``."""
        numbers = ", ".join(f"{value:.7g}" for value in (*self.alpha, *self.beta))
        return f"{self.name}({numbers})" if numbers else self.name


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


_CONSUMED: dict[str, tuple[str, tuple[str, ...], tuple[float, ...]]] = {
    # Lower-case ONNX name: (name, the lists it takes a number from, the numbers where a list has none left).
    # The operators Affine, ScaledTanh and ThresholdedRelu default to 1, ONNX Runtime's LSTM to 0: no default.
    "affine": ("Affine", ("alpha", "beta"), ()),
    "elu": ("Elu", ("alpha",), (1.0,)),
    "hardsigmoid": ("HardSigmoid", ("alpha", "beta"), (0.2, 0.5)),
    "leakyrelu": ("LeakyRelu", ("alpha",), (0.01,)),
    "relu": ("Relu", (), ()),
    "scaledtanh": ("ScaledTanh", ("alpha", "beta"), ()),
    "sigmoid": ("Sigmoid", (), ()),
    "softplus": ("Softplus", (), ()),
    "softsign": ("Softsign", (), ()),
    "tanh": ("Tanh", (), ()),
    "thresholdedrelu": ("ThresholdedRelu", ("alpha",), ()),
}


def with_numbers(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> list[Function]:
    """Give each named function the numbers that it consumes, in order; names are case-insensitive.

    Raises:
        UnsupportedModelError: A name that ONNX does not have, a number that is missing where defaults differ,
            or numbers that no function consumes.

    >>> [str(function) for function in with_numbers(["HardSigmoid", "Tanh", "elu"], [0.25, 2.0], [])]
    ['HardSigmoid(0.25, 0.5)', 'Tanh', 'Elu(2)']
    """
    left = {"alpha": list(alphas), "beta": list(betas)}
    found: list[Function] = []
    for name in names:
        if name.lower() not in _CONSUMED:
            raise UnsupportedModelError(f"ONNX' LSTM has no activation {name!r}")
        own, lists, defaults = _CONSUMED[name.lower()]
        numbers: dict[str, tuple[float, ...]] = {}
        for index, key in enumerate(lists):
            if not left[key] and not defaults:
                raise UnsupportedModelError(
                    f"its activation {own} comes without its {key}, for which ONNX and ONNX Runtime have different "
                    f"defaults; give the node activation_{key}"
                )
            numbers[key] = (_exact(left[key].pop(0)) if left[key] else defaults[index],)
        found.append(Function(own, **numbers))
    uses_numbers = any(function.alpha for function in found)
    if uses_numbers and (left["alpha"] or left["beta"]):
        raise UnsupportedModelError(
            "its activation_alpha and activation_beta hold more numbers than its activations use"
        )
    return found


def _exact(value: float) -> float:
    """Return the number that was rounded to an attribute's float32: the shortest, or Keras 3's 1/6."""
    stored = np.float32(value)
    if not math.isfinite(stored):
        raise UnsupportedModelError(f"a number of its activations is {stored}")
    return 1 / 6 if stored == np.float32(1 / 6) else float(str(stored))


def keras_activation(function: Function) -> Activation:
    """Return the Keras activation that computes exactly the same; the inverse of :func:`onnx_function`.

    Raises:
        UnsupportedModelError: Keras has none.

    >>> str(keras_activation(Function("HardSigmoid", (0.2,), (0.5,))))
    'hard_sigmoid(alpha=0.2, beta=0.5)'
    """
    identities = {Function("Affine", (1.0,), (0.0,)): "linear", Function("ScaledTanh", (1.0,), (1.0,)): "tanh"}
    if function in identities:
        return Activation(identities[function])
    if function == Function("HardSigmoid", (0.5,), (0.5,)):
        return Activation("sparse_sigmoid")
    if function.name in ("Relu", "LeakyRelu", "ThresholdedRelu"):
        key = {"LeakyRelu": "negative_slope", "ThresholdedRelu": "threshold"}.get(function.name)
        numbers = dict(ACTIVATIONS["relu"].defaults)
        if key is not None:
            numbers[key] = function.alpha[0]
        return Activation("relu", tuple(numbers.items()))
    for name, (onnx_name, parameters) in _NAMES.items():
        if onnx_name == function.name:
            return Activation(name, tuple(zip(parameters, (*function.alpha, *function.beta), strict=True)))
    raise UnsupportedModelError(f"Keras has no activation that computes {function}")
