"""The activations of Keras, each with the parameters that define it exactly.

A name alone is not a function: ``hard_sigmoid`` is ``clip(0.2 x + 0.5, 0, 1)`` up to Keras 2 and
tf-keras, and ``clip(x / 6 + 0.5, 0, 1)`` from Keras 3 on. An :class:`Activation` is a name
with parameters, so equal activations compute the same.

Sources: keras/src/activations/activations.py and keras/src/ops/nn.py (3.15), keras/activations.py
(2.3.1), tf_keras/src/activations.py (2.21).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from lstmconv.errors import UnsupportedModelError
from lstmconv.serialised import package_of

__all__ = [
    "ACTIVATIONS",
    "HARD_SIGMOID_KERAS_2",
    "HARD_SIGMOID_KERAS_3",
    "LINEAR",
    "SIGMOID",
    "TANH",
    "Activation",
    "describe_activation",
    "described_activation",
    "parse_activation",
]

Float64: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
"""An array of float64, ``(batch, units)``."""


@dataclass(frozen=True)
class Activation:
    """One exact activation function.

    Attributes:
        name: A key of :data:`ACTIVATIONS`, in Keras 3's spelling.
        parameters: Its parameters, in the order of its row in the table.

    >>> HARD_SIGMOID_KERAS_2 == HARD_SIGMOID_KERAS_3
    False
    >>> str(HARD_SIGMOID_KERAS_2)
    'hard_sigmoid(alpha=0.2, beta=0.5)'
    """

    name: str
    parameters: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        """Check the name and the parameters against the table."""
        if self.name not in ACTIVATIONS:
            raise UnsupportedModelError(f"activation {self.name!r} is unknown; Keras has {', '.join(ACTIVATIONS)}")
        expected = tuple(ACTIVATIONS[self.name].defaults)
        found = tuple(key for key, _ in self.parameters)
        if found != expected:
            raise UnsupportedModelError(f"activation {self.name} takes the parameters {expected}, found {found}")
        for key, value in self.parameters:
            if not math.isfinite(value) and value != ACTIVATIONS[self.name].defaults[key]:
                raise UnsupportedModelError(f"{key} of activation {self.name} is {value}, expected a finite number")

    def __call__(self, x: Float64) -> Float64:
        """Compute the function on float64 ``(batch, units)``; softmax-like ones run along units."""
        return ACTIVATIONS[self.name].function(x, **dict(self.parameters))

    @property
    def coupled(self) -> bool:
        """Whether a unit's value depends on other units, as in softmax."""
        return ACTIVATIONS[self.name].coupled

    def __getitem__(self, parameter: str) -> float:
        """Return one parameter by name."""
        return dict(self.parameters)[parameter]

    def __str__(self) -> str:
        """Return the name, with the parameters that differ from their defaults."""
        usual = ACTIVATIONS[self.name].defaults
        shown = [
            f"{key}={value:.7g}" for key, value in self.parameters if self.name == "hard_sigmoid" or value != usual[key]
        ]
        return f"{self.name}({', '.join(shown)})" if shown else self.name


class _Row(NamedTuple):
    function: Callable[..., Float64]
    defaults: Mapping[str, float] = {}
    aliases: tuple[str, ...] = ()
    coupled: bool = False


def _sigmoid(x: Float64) -> Float64:
    # The tanh form is symmetric and does not overflow for a large |x|.
    half: Float64 = 0.5 * x
    half = np.tanh(half, out=half if isinstance(half, np.ndarray) else None)
    half *= 0.5
    half += 0.5
    return half


def _softplus(x: Float64) -> Float64:
    return np.logaddexp(0.0, x)


def _relu(x: Float64, negative_slope: float, max_value: float, threshold: float) -> Float64:
    """ReLU as Keras defines it: the slope applies below the threshold, to ``x - threshold``."""
    below = negative_slope * (x - threshold) if negative_slope else 0.0 * x
    return np.minimum(np.where(x > threshold, x, np.where(x < threshold, below, 0.0 * x)), max_value)


def _elu(x: Float64, alpha: float) -> Float64:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def _selu(x: Float64) -> Float64:
    scale = 1.0507009873554804934193349852946
    return scale * _elu(x, 1.6732632423543772848170429916717)


def _gelu(x: Float64, approximate: float) -> Float64:
    if approximate:
        return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    erf: Float64 = np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2.0))
    return 0.5 * x * (1.0 + erf)


def _softmax(x: Float64) -> Float64:
    powers: Float64 = np.exp(x - x.max(axis=-1, keepdims=True))
    total: Float64 = powers.sum(axis=-1, keepdims=True)
    return powers / total


def _log_softmax(x: Float64) -> Float64:
    shifted: Float64 = x - x.max(axis=-1, keepdims=True)
    total: Float64 = np.exp(shifted).sum(axis=-1, keepdims=True)
    return shifted - np.log(total)


def _sparsemax(x: Float64) -> Float64:
    """Compute Keras' sparsemax.

    Keras (3.15, all backends: nn.py sparsemax) adds the cumulated sums of the whole support; Martins and
    Astudillo 2016, algorithm 1, use only the last one. A converted layer must compute what Keras computes.
    """
    ordered: Float64 = -np.sort(-x, axis=-1)
    cumulated: Float64 = ordered.cumsum(axis=-1)
    rank = np.arange(1, x.shape[-1] + 1)
    support = ordered - (cumulated - 1.0) / rank > 0
    total: Float64 = np.where(support, cumulated, 0.0).sum(axis=-1, keepdims=True)
    tau: Float64 = (total - 1.0) / support.sum(axis=-1, keepdims=True)
    return np.maximum(x - tau, 0.0)


def _sparse_plus(x: Float64) -> Float64:
    return np.where(x <= -1, 0.0, np.where(x < 1, 0.25 * (x + 1.0) ** 2, x))


def _soft_shrink(x: Float64, threshold: float) -> Float64:
    return np.sign(x) * np.maximum(np.abs(x) - threshold, 0.0)


def _hard_sigmoid(x: Float64, alpha: float, beta: float) -> Float64:
    return np.clip(alpha * x + beta, 0.0, 1.0)


ACTIVATIONS: Mapping[str, _Row] = {
    "linear": _Row(lambda x: x),
    "sigmoid": _Row(_sigmoid),
    "hard_sigmoid": _Row(_hard_sigmoid, {"alpha": 1 / 6, "beta": 0.5}),
    "tanh": _Row(np.tanh),
    "relu": _Row(_relu, {"negative_slope": 0.0, "max_value": math.inf, "threshold": 0.0}),
    "elu": _Row(_elu, {"alpha": 1.0}),
    "celu": _Row(lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha)), {"alpha": 1.0}),
    "selu": _Row(_selu),
    "softplus": _Row(_softplus),
    "softsign": _Row(lambda x: x / (1.0 + np.abs(x))),
    "exponential": _Row(np.exp),
    "silu": _Row(lambda x: x * _sigmoid(x), aliases=("swish",)),
    "gelu": _Row(_gelu, {"approximate": 0.0}),
    "mish": _Row(lambda x: x * np.tanh(_softplus(x))),
    "hard_silu": _Row(lambda x: x * _hard_sigmoid(x, 1 / 6, 0.5), aliases=("hard_swish",)),
    "hard_tanh": _Row(lambda x: np.clip(x, -1.0, 1.0)),
    "log_sigmoid": _Row(lambda x: -_softplus(-x)),
    "softmax": _Row(_softmax, coupled=True),
    "log_softmax": _Row(_log_softmax, coupled=True),
    "sparsemax": _Row(_sparsemax, coupled=True),
    "sparse_plus": _Row(_sparse_plus),
    "sparse_sigmoid": _Row(lambda x: np.clip(0.5 * (x + 1.0), 0.0, 1.0)),
    "squareplus": _Row(lambda x, b: 0.5 * (x + np.sqrt(x * x + b)), {"b": 4.0}),
    "soft_shrink": _Row(_soft_shrink, {"threshold": 0.5}),
    "hard_shrink": _Row(lambda x, threshold: np.where(np.abs(x) > threshold, x, 0.0), {"threshold": 0.5}),
    "tanh_shrink": _Row(lambda x: x - np.tanh(x)),
}
"""Every activation of Keras that maps a gate's ``(batch, units)`` to the same shape.

No LSTM has the other two: ``glu`` halves its input, and a string cannot name ``threshold``.
"""

LINEAR = Activation("linear")
SIGMOID = Activation("sigmoid")
TANH = Activation("tanh")
HARD_SIGMOID_KERAS_2 = Activation("hard_sigmoid", (("alpha", 0.2), ("beta", 0.5)))
"""keras/backend/*_backend.py ``hard_sigmoid`` (0.x to 2.x) and tf_keras/src/backend.py."""
HARD_SIGMOID_KERAS_3 = Activation("hard_sigmoid", (("alpha", 1 / 6), ("beta", 0.5)))
"""keras/src/backend/*/nn.py ``hard_sigmoid`` from 3.0.0 on: ``relu6(x + 3) / 6``."""

_ALIASES = {alias: name for name, row in ACTIVATIONS.items() for alias in row.aliases}

# Activation layers that a config may use as an activation. Keras 2 and tf-keras name some parameters
# differently (alpha, theta) from Keras 3; each row has both names, and the default of the layer.
_LAYERS: Mapping[str, tuple[str, Mapping[str, str], Mapping[str, float]]] = {
    "LeakyReLU": ("relu", {"alpha": "negative_slope", "negative_slope": "negative_slope"}, {"negative_slope": 0.3}),
    "ReLU": ("relu", {name: name for name in ("negative_slope", "max_value", "threshold")}, {}),
    "ThresholdedReLU": ("relu", {"theta": "threshold"}, {"threshold": 1.0}),
    "ELU": ("elu", {"alpha": "alpha"}, {"alpha": 1.0}),
    "Softmax": ("softmax", {}, {}),
}


def _make(name: str, **parameters: float) -> Activation:
    values = {**ACTIVATIONS[name].defaults, **parameters}
    return Activation(name, tuple(values.items()))


def parse_activation(value: object, keras_major: int | None) -> Activation:
    """Return the exact function that a Keras config means.

    Args:
        value: The value in the config: a name, ``None`` (linear), or a serialised object
            ``{"class_name": ..., "config": ...}``. ``hard_sigmoid_keras2`` and
            ``hard_sigmoid_keras3`` name an exact function, so they need no producer.
        keras_major: The producer's major version (tf.keras and tf-keras count as 2);
            ``None`` if the file does not say it.

    Raises:
        UnsupportedModelError: A custom function or class, also under the name of one of Keras', a function with
            weights, softmax along another axis than the last, or a ``hard_sigmoid`` whose producer is unknown.

    >>> parse_activation("hard_sigmoid", 2) == HARD_SIGMOID_KERAS_2
    True
    >>> parse_activation("swish", 2).name
    'silu'
    """
    if value is None:
        return LINEAR
    if isinstance(value, Mapping):
        return _parse_object(value, keras_major)
    name = _ALIASES.get(str(value), str(value))
    if name == "hard_sigmoid_keras2":
        return HARD_SIGMOID_KERAS_2
    if name == "hard_sigmoid_keras3":
        return HARD_SIGMOID_KERAS_3
    if name == "hard_sigmoid":
        if keras_major is None:
            raise UnsupportedModelError(
                "hard_sigmoid is 0.2x+0.5 up to Keras 2 and x/6+0.5 from Keras 3, and the file does not "
                "say its version: pass --recurrent-activation hard_sigmoid_keras2 or hard_sigmoid_keras3"
            )
        return HARD_SIGMOID_KERAS_3 if keras_major >= 3 else HARD_SIGMOID_KERAS_2
    if name == "leaky_relu":  # keras/src/activations: negative_slope=0.2; tf_keras the same.
        return _make("relu", negative_slope=0.2)
    if name == "relu6":
        return _make("relu", max_value=6.0)
    if name not in ACTIVATIONS:
        raise UnsupportedModelError(
            f"activation {name!r} is unknown (a custom function?); Keras has {', '.join(ACTIVATIONS)}"
        )
    return _make(name)


def _parse_object(value: Mapping[str, object], keras_major: int | None) -> Activation:
    class_name, config = value.get("class_name"), value.get("config")
    if class_name == "function" and isinstance(config, str):
        return parse_activation(config, keras_major)
    own = isinstance(class_name, str) and package_of(value)[0] is None
    if own and class_name == "Activation" and isinstance(config, Mapping):
        return parse_activation(config.get("activation"), keras_major)
    if not own or class_name not in _LAYERS or not isinstance(config, Mapping):
        raise UnsupportedModelError(
            f"activation {class_name!r} is a custom object; lstmconv knows the functions and layers of Keras only"
        )
    axis = config.get("axis", -1)
    if axis not in (-1, [-1]):  # Softmax alone has one.
        raise UnsupportedModelError(f"activation Softmax over axis {axis!r}, expected -1: make it a layer of its own")
    name, renamed, defaults = _LAYERS[str(class_name)]
    found = {renamed[key]: float(number) for key, number in config.items() if key in renamed and number is not None}
    return _make(name, **{**defaults, **found})


def describe_activation(activation: Activation | None) -> dict[str, str | float | None] | None:
    """Return an activation as JSON: ``{"name": "hard_sigmoid", "alpha": 0.2, "beta": 0.5}``."""
    if activation is None:
        return None
    finite = {key: value if abs(value) < float("inf") else None for key, value in activation.parameters}
    return {"name": activation.name, **finite}


def described_activation(described: Mapping[str, Any] | None) -> Activation | None:
    """Return the activation that :func:`describe_activation` described.

    Raises:
        UnsupportedModelError: A name or a number that this version does not know.
    """
    if described is None:
        return None
    name = str(described.get("name"))
    if name not in ACTIVATIONS:
        raise UnsupportedModelError(f"the file names the activation {name!r}, which this version does not know")
    try:
        numbers = [(key, described[key]) for key in ACTIVATIONS[name].defaults]
        return Activation(name, tuple((key, math.inf if value is None else float(value)) for key, value in numbers))
    except (KeyError, TypeError, ValueError) as error:
        raise UnsupportedModelError(f"the file describes the activation {name} with {described}") from error
