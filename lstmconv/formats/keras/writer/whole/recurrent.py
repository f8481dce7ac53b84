"""Recurrent layers of a whole model: LSTM, GRU and SimpleRNN, alone or as halves of a Bidirectional.

Sources: tf_keras/src/layers/rnn (2.21), keras/src/layers/rnn (3.3 to 3.15).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.keras.writer.arrays import LSTM, WrittenHalf, halves_of
from lstmconv.formats.keras.writer.dialect import refusal
from lstmconv.formats.keras.writer.model_config import (
    WrittenLayer,
    describe_layer,
    describe_object,
    describe_variables,
)
from lstmconv.formats.keras.writer.whole.kinds import Place, stored
from lstmconv.formats.keras.writer.whole.nodes import Part, Variable
from lstmconv.layouts.kinds import rows_of
from lstmconv.model import Array, GRUDirection, LSTMLayer, RecurrentLayer, SimpleRNNDirection

__all__ = ["halves_alone", "recurrent"]

_SIDES = ("forward", "backward")


def recurrent(layer: LSTMLayer | RecurrentLayer, place: Place) -> Part:
    """Return one layer of any of the three classes.

    Raises:
        UnsupportedModelError: This Keras has no such layer.
    """
    return _lstm(layer, place) if isinstance(layer, LSTMLayer) else _other(layer, place)


def halves_alone(layer: LSTMLayer | RecurrentLayer) -> tuple[Any, Any]:
    """Return both halves of a Bidirectional layer as layers of their own."""
    assert layer.backward is not None
    names = [f"{layer.name}_{side}" for side in _SIDES]
    alone = replace(layer, backward=None, name=names[0])
    second: Any = layer.backward
    return alone, replace(alone, forward=second, name=names[1])


def _lstm(layer: LSTMLayer, place: Place) -> Part:
    reason = refusal(layer, place.dialect)
    if reason is not None:
        raise UnsupportedModelError(reason)
    written = WrittenLayer(layer, halves_of(layer, LSTM, place.dtype), layer.stateful)
    variables: list[Variable] = []
    inner: dict[str, str] = {}
    for half in written.halves:
        owner = f"{half.side}_layer/cell" if half.side else "cell"
        scope = "/".join(filter(None, (half.name if half.side else "", "lstm_cell")))
        if half.side:
            inner[f"{half.side}_layer"] = half.name
        inner[owner] = "lstm_cell"
        names = ("kernel", "recurrent_kernel", *(("bias",) if half.use_bias else ()))
        variables += [Variable(owner, scope, name, _lazily(half, name)) for name in names]
    config = describe_layer(written, place.dialect)
    options = {key: value for key, value in config.items() if key not in ("name", "trainable", "dtype")}
    return Part(
        "Bidirectional" if layer.bidirectional else "LSTM", options, tuple(variables), shape_matters=True, inner=inner
    )


def _lazily(half: WrittenHalf, name: str) -> Callable[[], Array]:
    return lambda: next(array for own, array in half.arrays() if own == name)


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
    major = place.dialect.major
    if major == 3 and layer.backward is not None and layer.forward.go_backwards:
        raise UnsupportedModelError("Keras 3 refuses a Bidirectional whose forward half runs backwards")
    kind = _GRU if isinstance(layer.forward, GRUDirection) else _SIMPLE_RNN
    halves = [_half(layer, half, place) for half in layer.directions]
    if layer.backward is None:
        own = tuple(_variables(layer.forward, place, "cell", kind.cell))
        return Part(kind.name, halves[0], own, shape_matters=True, inner={"cell": kind.cell})
    variables: tuple[Variable, ...] = ()
    inner: dict[str, str] = {}
    described: list[dict[str, Any]] = []
    for side, half, options in zip(_SIDES, layer.directions, halves, strict=True):
        name = f"{side}_{kind.inner}"
        owner = f"{side}_layer"
        inner |= {owner: name, f"{owner}/cell": kind.cell}
        variables += tuple(_variables(half, place, f"{owner}/cell", f"{name}/{kind.cell}"))
        # Keras 2 puts forward_ and backward_ before the names itself.
        head = {"name": name if major == 3 else kind.inner, "trainable": True, "dtype": str(place.dtype)}
        described.append(describe_object(kind.name, head | options))
    merge_mode = None if layer.merge_mode == "none" else layer.merge_mode
    options = {"merge_mode": merge_mode, "layer": described[0], "backward_layer": described[1]}
    if major == 2 and {**halves[0], "go_backwards": None} == {**halves[1], "go_backwards": None}:
        del options["backward_layer"]  # Keras 2 makes the second half itself where it can.
    return Part("Bidirectional", options, variables, shape_matters=True, inner=inner)


def _half(layer: RecurrentLayer, half: GRUDirection | SimpleRNNDirection, place: Place) -> dict[str, Any]:
    major = place.dialect.major
    zeros = layer.return_sequences if layer.backward is not None else layer.zero_output_for_mask
    options: dict[str, Any] = {
        "return_sequences": layer.return_sequences,
        "return_state": layer.return_state,
        "go_backwards": half.go_backwards,
        "stateful": layer.stateful,
        "unroll": False,
    }
    if major == 3:
        options["zero_output_for_mask"] = zeros
        if layer.time_major:
            raise UnsupportedModelError("Keras 3 has no time_major")
    else:
        options |= {"time_major": layer.time_major}
        options |= {"zero_output_for_mask": True} if zeros and layer.backward is None else {}
    options |= {"units": half.hidden_size, "activation": place.activation(half.activation)}
    if isinstance(half, GRUDirection):
        options["recurrent_activation"] = place.activation(half.recurrent_activation)
    options["use_bias"] = half.bias_ih is not None or getattr(half, "bias_hh", None) is not None
    unused = ("unit_forget_bias",)
    options |= {k: v for k, v in describe_variables(str(place.dtype), place.dialect).items() if k not in unused}
    options |= {"dropout": 0.0, "recurrent_dropout": 0.0}
    if isinstance(half, GRUDirection):
        options["reset_after"] = half.reset_after
        options |= {"implementation": 2} if major == 2 else {}
    return options | ({"seed": None} if major == 3 else {})


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
