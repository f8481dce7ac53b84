"""The two functions that Keras calls hard_sigmoid, carried into each other by the weights.

``clip(0.2 z + 0.5, 0, 1)`` of Keras 1 and 2 is ``clip(1.2 z / 6 + 0.5, 0, 1)``: the hard_sigmoid of Keras 3 of 1.2 z.
So weights and biases that make z are multiplied by 1.2, and on the way back by 1 / 1.2, each number rounded once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

import numpy as np

from lstmconv.activations import HARD_SIGMOID_KERAS_2, HARD_SIGMOID_KERAS_3, Activation
from lstmconv.errors import UnsupportedModelError
from lstmconv.model import (
    Array,
    Gates,
    GRUDirection,
    Layer,
    LSTMDirection,
    LSTMLayer,
    Model,
    RecurrentLayer,
    SimpleRNNDirection,
    Stack,
    TimeDistributed,
)
from lstmconv.model.kinds import Convolution, Dense, TransposedConvolution

__all__ = ["rescaled_layers", "with_hard_sigmoid_of"]

_OWN = {2: HARD_SIGMOID_KERAS_2, 3: HARD_SIGMOID_KERAS_3}
_FACTORS = {3: 1.2, 2: 1 / 1.2}
_Half: TypeAlias = LSTMDirection | GRUDirection | SimpleRNNDirection


def with_hard_sigmoid_of(model: Model, major: int) -> Model:
    """Return a model that computes the same with the hard_sigmoid of a Keras, where weights can carry it.

    An activation of its own, or of an LSTM's cell, has no weights that could.

    Raises:
        UnsupportedModelError: A finite weight, multiplied, does not fit its dtype.
    """
    made: dict[int, Layer] = {}

    def carried(layer: Layer) -> Layer:
        if id(layer) not in made:
            made[id(layer)] = _layer(layer, major)
        return made[id(layer)]

    calls = tuple(
        call if (layer := carried(call.layer)) is call.layer else replace(call, layer=layer) for call in model.calls
    )
    return model if all(a is b for a, b in zip(calls, model.calls, strict=True)) else replace(model, calls=calls)


def rescaled_layers(model: Model, major: int) -> list[str]:
    """Name the layers whose weights :func:`with_hard_sigmoid_of` multiplies."""
    named: dict[str, None] = {}
    for layer in model.layers:
        for one in layer.layers if isinstance(layer, Stack) else (layer,):
            if not isinstance(one, TimeDistributed) and _layer(one, major) is not one:
                named[one.name] = None
    return list(named)


def _other(activation: Activation | None, major: int) -> bool:
    return activation == _OWN[5 - major]


def _layer(layer: Layer, major: int) -> Layer:
    if isinstance(layer, Stack):
        inner = tuple(_both(each, major) for each in layer.layers)
        return layer if all(a is b for a, b in zip(inner, layer.layers, strict=True)) else Stack(layer.name, inner)
    if isinstance(layer, LSTMLayer):
        return _both(layer, major)
    if isinstance(layer, RecurrentLayer):
        return _both(layer, major)
    if isinstance(layer, TimeDistributed):
        model = with_hard_sigmoid_of(layer.model, major)
        return layer if model is layer.model else replace(layer, model=model)
    if isinstance(layer, Dense | Convolution | TransposedConvolution) and _other(layer.activation, major):
        bias = None if layer.bias is None else _times(layer.bias, major)
        return replace(layer, kernel=_times(layer.kernel, major), bias=bias, activation=_OWN[major])
    return layer


_Recurrent = TypeVar("_Recurrent", LSTMLayer, RecurrentLayer)


def _both(layer: _Recurrent, major: int) -> _Recurrent:
    halves: list[Any] = [_half(half, major) for half in layer.directions]
    if all(new is old for new, old in zip(halves, layer.directions, strict=True)):
        return layer
    return layer.with_directions(halves)


def _half(half: _Half, major: int) -> _Half:
    if isinstance(half, SimpleRNNDirection):
        if not _other(half.activation, major):
            return half
        bias = None if half.bias_ih is None else _times(half.bias_ih, major)
        scaled: dict[str, Any] = {
            "weight_ih": _times(half.weight_ih, major),
            "weight_hh": _times(half.weight_hh, major),
        }
        return replace(half, **scaled, bias_ih=bias, activation=_OWN[major])
    if not _other(half.recurrent_activation, major):
        return half
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    given = {name: getattr(half, name) for name in names if getattr(half, name) is not None}
    arrays: dict[str, Any] = {name: _gates(value, major) for name, value in given.items()}
    return replace(half, **arrays, recurrent_activation=_OWN[major])


def _gates(gates: Any, major: int) -> Gates | Array:
    """Multiply what the recurrent activation is applied to: i, f, o of an LSTM, z and r of a GRU."""
    if isinstance(gates, Gates):
        return Gates(_times(gates.i, major), _times(gates.f, major), gates.g, _times(gates.o, major))
    return np.concatenate([_times(gates[:2], major), gates[2:]])


def _times(array: Array, major: int) -> Array:
    """Multiply in float64 and round once.

    Raises:
        UnsupportedModelError: The product of a finite weight does not fit its dtype.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # The next lines find overflow; NaN stays NaN.
        wide = np.asarray(array, np.float64)
        product: Array = (wide * _FACTORS[major]).astype(array.dtype)
        lost = np.isfinite(wide) & ~np.isfinite(product)
    if lost.any():
        largest = np.abs(wide[lost]).max()
        raise UnsupportedModelError(
            f"the weight {largest:.6g} times {_FACTORS[major]:.4g}, which carries hard_sigmoid to Keras {major}, does "
            f"not fit {array.dtype}: choose --keras-version {5 - major}"
        )
    return product
