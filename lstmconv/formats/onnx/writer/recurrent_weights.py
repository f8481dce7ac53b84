"""The weights and attributes of ONNX' LSTM, GRU and RNN nodes.

Sources: ONNX operator specification, LSTM-14: W and R ``[iofc]``, B ``[Wb[iofc], Rb[iofc]]``; GRU-14: W and R
``[zrh]``, B ``[Wb[zrh], Rb[zrh]]``, linear_before_reset for Keras' reset_after; RNN-14: one gate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from lstmconv.activations import Activation
from lstmconv.arrays.copying import BiasMode, Piece, copy_array, fill, place_bias
from lstmconv.errors import UsageError
from lstmconv.formats.onnx.functions import onnx_function
from lstmconv.layouts import ONNX
from lstmconv.layouts.kinds import rows_of
from lstmconv.model import Array, Gates, LSTMDirection
from lstmconv.model.recurrent import GRUDirection, SimpleRNNDirection

__all__ = [
    "Direction",
    "activations",
    "bias",
    "functions_of",
    "input_matrix",
    "node_attributes",
    "operator",
    "recurrent_matrix",
]

Direction: TypeAlias = "LSTMDirection | GRUDirection | SimpleRNNDirection"

_OPERATORS: tuple[tuple[type, str, int], ...] = (
    (LSTMDirection, "LSTM", 4),
    (GRUDirection, "GRU", 3),
    (SimpleRNNDirection, "RNN", 1),
)


def operator(direction: Direction) -> str:
    """Return the name of ONNX' operator."""
    return next(name for kind, name, _ in _OPERATORS if isinstance(direction, kind))


def gates_of(direction: Direction) -> int:
    """Return how many gates one unit has."""
    return next(gates for kind, _, gates in _OPERATORS if isinstance(direction, kind))


def input_matrix(directions: Sequence[Direction]) -> tuple[tuple[int, ...], tuple[Piece, ...]]:
    """Return the shape and the pieces of ``W (directions, gates * hidden, input)``."""
    return _shape(directions, directions[0].input_size), tuple(
        piece for each in directions for piece in _pieces(each, "weight_ih")
    )


def recurrent_matrix(directions: Sequence[Direction]) -> tuple[tuple[int, ...], tuple[Piece, ...]]:
    """Return the shape and the pieces of ``R (directions, gates * hidden, hidden)``."""
    return _shape(directions, directions[0].hidden_size), tuple(
        piece for each in directions for piece in _pieces(each, "weight_hh")
    )


def _shape(directions: Sequence[Direction], columns: int) -> tuple[int, ...]:
    return (len(directions), gates_of(directions[0]) * directions[0].hidden_size, columns)


def _pieces(direction: Direction, name: str) -> Iterator[Piece]:
    if isinstance(direction, LSTMDirection):
        pattern = ONNX.input_matrix if name == "weight_ih" else ONNX.recurrent_matrix
        yield pattern, getattr(direction, name)
    else:
        yield from _gates(direction, getattr(direction, name), name)


def _gates(direction: GRUDirection | SimpleRNNDirection, array: Array, name: str) -> tuple[Array, ...]:
    """Return the gates of a GRU's or an RNN's array in ONNX' order."""
    kind = "GRU" if isinstance(direction, GRUDirection) else "SimpleRNN"
    return rows_of(kind)[name].parts(array, "onnx")


def bias(
    directions: Sequence[Direction], mode: BiasMode | None, dtype: np.dtype[np.generic], *, zeros: bool
) -> Array | None:
    """Return ``B (directions, 2 * gates * hidden)``, Wb then Rb; zeros for a half without one beside another with it.

    Raises:
        UsageError: A bias mode of cuDNN's.
    """
    if mode not in (None, "input", "recurrent", "both-halves", "double"):
        raise UsageError(f"bias mode {mode!r} is cuDNN's; ONNX takes input, recurrent or both-halves")
    placed = [_placed(direction, mode, zeros=zeros) for direction in directions]
    if all(half is None for halves in placed for half in halves):
        return None
    stored = np.zeros((len(directions), 2 * gates_of(directions[0]) * directions[0].hidden_size), dtype)
    gates = gates_of(directions[0])
    for direction, place, biases in zip(directions, stored, placed, strict=True):
        for part, values, name in zip(np.split(place, 2), biases, ("bias_ih", "bias_hh"), strict=True):
            if isinstance(values, Gates):
                fill(part, ONNX.one_bias, values)
            elif values is not None and not isinstance(direction, LSTMDirection):
                for gate, spot in zip(_gates(direction, values, name), np.split(part, gates), strict=True):
                    copy_array(gate, spot)
    return stored


def _placed(
    direction: Direction, mode: BiasMode | None, *, zeros: bool
) -> tuple[Gates | Array | None, Gates | Array | None]:
    """Return what stands in Wb and in Rb."""
    if isinstance(direction, LSTMDirection):
        return place_bias(direction, mode, zeros=zeros)
    return direction.bias_ih, direction.bias_hh if isinstance(direction, GRUDirection) else None


def functions_of(direction: Direction) -> tuple[Activation | None, ...]:
    """Return a direction's activations in the order in which the node takes them."""
    if isinstance(direction, LSTMDirection):  # f, g, h: the gates', the candidate's, the output's.
        return (direction.recurrent_activation, direction.activation, direction.activation)
    if isinstance(direction, GRUDirection):
        return (direction.recurrent_activation, direction.activation)
    return (direction.activation,)


def activations(directions: Sequence[Direction]) -> dict[str, Any]:
    """Return the attributes that name a node's activations, which :func:`onnx_function` knows all."""
    functions = [
        function
        for direction in directions
        for activation in functions_of(direction)
        if (function := onnx_function(activation)) is not None
    ]
    numbers = {
        "activation_alpha": [value for function in functions for value in function.alpha],
        "activation_beta": [value for function in functions for value in function.beta],
    }
    return {"activations": [function.name for function in functions]} | {
        key: values for key, values in numbers.items() if values
    }


def node_attributes(direction: Direction) -> dict[str, int]:
    """Return what a node has beside its sizes, way and activations."""
    return {"linear_before_reset": int(direction.reset_after)} if isinstance(direction, GRUDirection) else {}
