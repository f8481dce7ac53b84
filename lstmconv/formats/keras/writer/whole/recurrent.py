"""Recurrent layers of a whole model: LSTM, GRU and SimpleRNN, alone or as halves of a Bidirectional.

Sources: tf_keras/src/layers/rnn (2.21), keras/src/layers/rnn (3.3 to 3.15).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.keras.writer.arrays import LSTM, halves_of
from lstmconv.formats.keras.writer.dialect import refusal, wiring_refusal
from lstmconv.formats.keras.writer.lstm import SIDES, bidirectional_options, lstm_part, recurrent_options
from lstmconv.formats.keras.writer.nodes import Part, Variable
from lstmconv.formats.keras.writer.whole.kinds import Place, stored
from lstmconv.layouts.kinds import rows_of
from lstmconv.model import Array, GRUDirection, LSTMLayer, RecurrentLayer, SimpleRNNDirection

__all__ = ["halves_alone", "recurrent"]


def recurrent(layer: LSTMLayer | RecurrentLayer, place: Place) -> Part:
    """Return one layer of any of the three classes.

    Raises:
        UnsupportedModelError: This Keras has no such layer.
    """
    return _lstm(layer, place) if isinstance(layer, LSTMLayer) else _other(layer, place)


def halves_alone(layer: LSTMLayer | RecurrentLayer) -> tuple[Any, Any]:
    """Return both halves of a Bidirectional layer as layers of their own."""
    assert layer.backward is not None
    names = [f"{layer.name}_{side}" for side in SIDES]
    alone = replace(layer, backward=None, name=names[0])
    second: Any = layer.backward
    return alone, replace(alone, forward=second, name=names[1])


def _lstm(layer: LSTMLayer, place: Place) -> Part:
    reason = refusal(layer, place.dialect)
    if reason is not None:
        raise UnsupportedModelError(reason)
    return lstm_part(layer, halves_of(layer, LSTM, place.dtype), place.dialect, stateful=layer.stateful)


class _Class(NamedTuple):
    """A class of layer.

    Attributes:
        name: Keras'.
        cell: What owns its variables, as Keras names it.
        inner: What Keras calls an unnamed one.
    """

    name: str
    cell: str
    inner: str


_GRU = _Class("GRU", "gru_cell", "gru")
_SIMPLE_RNN = _Class("SimpleRNN", "simple_rnn_cell", "simple_rnn")


def _other(layer: RecurrentLayer, place: Place) -> Part:
    reason = wiring_refusal(layer, place.dialect)
    if reason is not None:
        raise UnsupportedModelError(reason)
    kind = _GRU if isinstance(layer.forward, GRUDirection) else _SIMPLE_RNN
    halves = [_options(layer, half, place) for half in layer.directions]
    if layer.backward is None:
        own = tuple(_variables(layer.forward, place, "cell", kind.cell))
        return Part(kind.name, halves[0], own, shape_matters=True, inner={"cell": kind.cell})
    variables: list[Variable] = []
    inner: dict[str, str] = {}
    for side, half in zip(SIDES, layer.directions, strict=True):
        name, owner = f"{side}_{kind.inner}", f"{side}_layer"
        inner |= {owner: name, f"{owner}/cell": kind.cell}
        variables += _variables(half, place, f"{owner}/cell", f"{name}/{kind.cell}")
    names = (kind.name, kind.inner)
    options = bidirectional_options(layer.merge_mode, names, halves, str(place.dtype), place.dialect)
    return Part("Bidirectional", options, tuple(variables), shape_matters=True, inner=inner)


def _options(layer: RecurrentLayer, half: GRUDirection | SimpleRNNDirection, place: Place) -> dict[str, Any]:
    options = recurrent_options(layer, half, place.dialect, str(place.dtype), stateful=layer.stateful)
    options |= {
        "activation": place.activation(half.activation),
        "use_bias": half.bias_ih is not None or getattr(half, "bias_hh", None) is not None,
    }
    if isinstance(half, GRUDirection):
        options["recurrent_activation"] = place.activation(half.recurrent_activation)
        options["reset_after"] = half.reset_after
        options |= {"implementation": 2} if place.dialect.major == 2 else {}
    return options


def _variables(half: GRUDirection | SimpleRNNDirection, place: Place, owner: str, scope: str) -> list[Variable]:
    rows = rows_of("GRU" if isinstance(half, GRUDirection) else "SimpleRNN")
    found = [
        Variable(owner, scope, name, _packed(rows[array], getattr(half, array), place.dtype))
        for name, array in (("kernel", "weight_ih"), ("recurrent_kernel", "weight_hh"))
    ]
    biases = {name: getattr(half, name, None) for name in ("bias_ih", "bias_hh")}
    if all(bias is None for bias in biases.values()):
        return found
    first = biases["bias_ih"]
    if first is not None and not getattr(half, "reset_after", False):
        return [*found, Variable(owner, scope, "bias", _packed(rows["bias_ih"], first, place.dtype))]
    zeros = np.zeros((3, half.hidden_size), place.dtype)
    both = [_packed(rows[name], zeros if bias is None else bias, place.dtype) for name, bias in biases.items()]
    return [*found, Variable(owner, scope, "bias", lambda: np.stack([make() for make in both]))]


def _packed(row: Any, array: Array, dtype: np.dtype[Any]) -> Callable[[], Array]:
    """Return what stores an array: gates side by side along its last axis, in Keras' order z r h."""

    def make() -> Array:
        if not row.keras.gates:
            return stored(row.parts(array, "keras")[0], dtype)
        columns = [array[gate] for gate in range(len(row.keras.gates))]  # The model's own order is Keras'.
        return stored(np.concatenate([part.T if part.ndim > 1 else part for part in columns], axis=-1), dtype)

    return make
